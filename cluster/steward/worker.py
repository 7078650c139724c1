"""The steward's life: stand for the lease (S22), take office, work until it is lost or we are told to stop.

The work is cut into units; `Worker.step` does one, and units never run side by side. Health, repair, lifecycle and
snapshots of the catalog have loops of their own, for a slow unit must not delay them; what repair has in hand is left
alone by the others (`in_flight`), so there is one worker at a time per blob (S20).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from catalog import leases, work
from catalog.errors import CatalogError, LeaseLost
from cluster import wire
from cluster.errors import ClusterError, LinkError, RemoteFault
from cluster.steward.catalog_snapshots import CatalogSnapshots
from cluster.steward.damaged import DamageWatch
from cluster.steward.drain import DrainWatch
from cluster.steward.extras import ExtraCollector
from cluster.steward.garbage import GarbageCollector, Sweeper
from cluster.steward.health import HealthWatch
from cluster.steward.lifecycle import Lifecycle
from cluster.steward.lock_clock import LockClockHand
from cluster.steward.operations import OperationWatch
from cluster.steward.orphans import OrphanCollector
from cluster.steward.repairer import Repairer
from cluster.steward.scrub import Scrubber
from cluster.steward.services import Statuses, StewardServices
from cluster.steward.tenure import Tenure

log = logging.getLogger(__name__)

_CATALOG_RETRY_S = 1.0  # well below the lease's expiry


async def run(services: StewardServices, stop: asyncio.Event) -> None:
    """Be a steward until `stop` is set; of several running ones, one is in office. Cancelling stops it too."""
    candidate = Candidate(services)
    while not stop.is_set():
        tenure = await candidate.stand()
        if tenure is None:
            await _wait(stop, services.settings.renew_s)
            continue
        try:
            await _serve(services, tenure, stop)
        finally:
            await tenure.end()


class Candidate:
    """Watches the lease, and takes it when its holder has stopped renewing it."""

    def __init__(self, services: StewardServices) -> None:
        self._services = services
        self._watch = leases.LeaseWatch(services.monotonic, services.settings.lease_expiry_s)

    async def stand(self) -> Tenure | None:
        """Look once; a tenure when the lease could be taken. Catalog trouble is logged and means no."""
        catalog = self._services.catalog
        try:
            seen = await catalog.read(leases.read)
            if not self._watch.expired(seen):
                return None
            return await Tenure.begin(
                catalog,
                self._services.random(8).hex(),
                seen,
                expiry_s=self._services.settings.lease_expiry_s,
                monotonic=self._services.monotonic,
            )
        except CatalogError as error:
            log.info("the steward's lease was not to be had: %s", error)
            return None


class Worker:
    """All units of work of one tenure but health and repair."""

    def __init__(
        self, services: StewardServices, tenure: Tenure, statuses: Statuses, in_flight: set[bytes]
    ) -> None:
        """`in_flight`: the blobs that repair works on."""
        settings = services.settings
        self._services = services
        self._tenure = tenure
        self._fenced: set[int] = set()
        self._garbage = GarbageCollector(services)
        self._sweeper = Sweeper(services)
        self._extras = ExtraCollector(services)
        self._orphans = OrphanCollector(services)
        self._scrubber = Scrubber(services, in_flight)
        self._damage = DamageWatch(services, statuses)
        self._drains = DrainWatch(services)
        self._operations = OperationWatch(services)
        self._lock_clock = LockClockHand(services)
        now = services.monotonic()
        self._units = [
            _Unit(self._fence, settings.idle_s, now),
            _Unit(lambda: self._garbage.step(tenure), settings.idle_s, now),
            _Unit(lambda: self._sweeper.step(tenure), settings.idle_s, now),
            _Unit(lambda: self._extras.step(tenure), settings.idle_s, now),
            _Unit(lambda: self._damage.step(tenure), settings.damaged_s, now),
            _Unit(lambda: self._scrubber.step(tenure), settings.idle_s, now),
            _Unit(lambda: self._drains.step(tenure), settings.idle_s, now),
            _Unit(lambda: self._operations.step(tenure), settings.progress_s, now),
            _Unit(lambda: self._lock_clock.step(tenure), settings.lock_clock_s, now),
            _Unit(self._advance_epoch, settings.epoch_s, now + settings.epoch_s),
            _Unit(self._forget_completions, settings.completions_s, now),
            _Unit(self._begin_orphans, settings.orphans_s, now + settings.orphans_s),
            _Unit(lambda: self._orphans.step(tenure), settings.idle_s, now),
        ]

    async def step(self) -> float:
        """Do the unit that is due longest; how many seconds until the next one is due.

        Raises LeaseLost. Any other trouble of a unit is logged, and it is tried again later.
        """
        unit = min(self._units, key=lambda unit: unit.due_s)
        now = self._services.monotonic()
        if unit.due_s <= now:
            try:
                more = await unit.work()
                unit.due_s = now if more else self._services.monotonic() + unit.pause_s
            except LeaseLost:
                raise
            except (CatalogError, ClusterError) as error:
                log.warning("steward: %s; trying again later", error)
                unit.due_s = self._services.monotonic() + self._services.settings.retry_s
        return max(0.0, min(unit.due_s for unit in self._units) - self._services.monotonic())

    async def _fence(self) -> bool:
        """Tell each node, once in this tenure, whom it obeys now (S18). Deletes carry the fence too."""
        order = wire.encode(wire.Fence(self._tenure.catalog_id, self._tenure.term))
        for node in self._services.nodes.nodes:
            link = self._services.nodes.link(node.number)
            if link is None or not link.up or node.number in self._fenced:
                continue
            try:
                await link.call(int(wire.Op.FENCE), order, None, self._services.settings.delete_deadline_s)
            except (
                RemoteFault
            ) as fault:  # another catalog's node, or a later steward's: it will delete nothing
                log.error("node %s does not obey: %s", node.name, fault)  # noqa: TRY400 - no traceback wanted
                detail = str(fault)
                await self._tenure.write(
                    lambda tx, node=node, detail=detail: work.record_event(  # type: ignore[misc]
                        tx, "fence-refused", node=node.number, detail=detail
                    )
                )
            except LinkError:
                continue
            self._fenced.add(node.number)
        return False

    async def _advance_epoch(self) -> bool:
        await self._tenure.write(leases.advance_epoch)
        return False

    async def _forget_completions(self) -> bool:
        before_ms = self._services.now_ms() - self._services.settings.completion_kept_ms
        limit = self._services.settings.sweep_rows_max
        forgotten = await self._tenure.write(
            lambda tx: work.forget_completions(tx, before_ms=before_ms, limit=limit), frees=True
        )
        return forgotten == limit

    async def _begin_orphans(self) -> bool:
        self._orphans.begin()
        return False


@dataclass(slots=True)
class _Unit:
    """`work` says whether there is more to do at once; else it is due again after `pause_s`."""

    work: Callable[[], Awaitable[bool]]
    pause_s: float
    due_s: float


async def _serve(services: StewardServices, tenure: Tenure, stop: asyncio.Event) -> None:
    """Work until told to stop, or until the lease is lost."""
    settings = services.settings
    health = HealthWatch(services)
    in_flight: set[bytes] = set()
    worker = Worker(services, tenure, lambda: health.statuses, in_flight)
    repairer = Repairer(services, tenure, lambda: health.statuses, in_flight)
    lifecycle = Lifecycle(services, tenure)

    async def watch_health() -> float:
        await health.step(tenure)
        return settings.health_s

    async def renew() -> float:
        await tenure.renew()
        return settings.renew_s

    async def watch_lease() -> float:
        return tenure.left_s()

    loops = [
        asyncio.create_task(_repeat(step), name=f"steward {name}")
        for name, step in (
            ("work", worker.step),
            ("health", watch_health),
            ("lifecycle", lifecycle.step),
            ("lease", renew),
            ("end of lease", watch_lease),
        )
    ]
    loops.append(asyncio.create_task(repairer.run(), name="steward repair"))
    snapshots = CatalogSnapshots.wanted(services)
    if snapshots is not None:
        loops.append(asyncio.create_task(_repeat(lambda: snapshots.step(tenure)), name="steward snapshots"))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([*loops, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*loops, stopped):
            task.cancel()
        outcomes = await asyncio.gather(*loops, stopped, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, LeaseLost):
            log.warning("steward %s: %s", tenure.holder, outcome)
        elif isinstance(outcome, Exception):
            raise outcome


async def _repeat(step: Callable[[], Awaitable[float]]) -> None:
    """Call `step` for ever, pausing as long as it says. Ends with LeaseLost only, or a mistake of ours."""
    while True:
        try:
            pause_s = await step()
        except LeaseLost:
            raise
        except CatalogError as error:
            log.warning("steward: %s", error)
            pause_s = _CATALOG_RETRY_S
        await asyncio.sleep(pause_s)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
