"""One blob is made whole, or moved: plan, mend, commit, and only then are old copies garbage (P7, S20, S21)."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from catalog import blobs, lookup, placements, work
from catalog.errors import CatalogError, LeaseLost
from catalog.model import BlobRow, ExtraCopy, FaultReport, RepairItem
from catalog.transaction import Transaction
from cluster.errors import ClusterError
from cluster.steward.mend import CannotPut, Mender, OutOfReach, Progressed, Suspect, Unreadable
from cluster.steward.plan import RepairPlan, is_named, plan_repair
from cluster.steward.services import StewardServices
from cluster.steward.standing import Roster
from cluster.steward.tenure import Tenure
from cluster.steward.throttle import Throttle

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 4  # with other nodes each time; then it waits
_EXTRAS_A_WRITE: Final = 500
_WAITING_MAX: Final = 10_000
_UNREADABLE: Final = "unreadable"  # a fault of node 0, nobody's: the row remembers that it was told of


class Job(NamedTuple):
    """A blob to work on. `item`: its row of the repair queue, if that is where it comes from. `rebalance`:
    nothing is wrong with it, it shall only lie better."""

    blob_id: bytes
    item: RepairItem | None = None
    rebalance: bool = False

    @property
    def is_told_lost(self) -> bool:
        """Whether it was found unreadable before, and that was told."""
        return self.item is not None and any(fault.kind == _UNREADABLE for fault in self.item.faults)


class Tally:
    """What was repaired, counted since the last `clear`."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin at zero."""
        self.blobs = 0
        self.size = 0
        self.unreadable = 0


class Executor:
    """Works on several blobs at once, each of them once (S20). The owner calls `close`.

    `in_flight` holds the ids of the blobs worked on; scrub leaves them alone.
    """

    def __init__(
        self, services: StewardServices, tenure: Tenure, roster: Roster, in_flight: set[bytes]
    ) -> None:
        settings = services.settings
        self.in_flight = in_flight
        self.tally = Tally()
        self._services = services
        self._tenure = tenure
        self._roster = roster
        self._mender = Mender(services, Throttle(settings.repair_bytes_per_s, services.monotonic))
        self._tasks: set[asyncio.Task[None]] = set()
        self._repairing = 0
        self._failure: BaseException | None = None
        self._waiting: dict[bytes, float] = {}  # blobs without a row in the queue: not before

    async def close(self) -> None:
        """End what is in flight, wherever it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def repairing(self) -> int:
        """How many blobs are worked on because something is wrong with them."""
        return self._repairing

    def takes(self, job: Job) -> bool:
        """Whether a job would be worked on now: its blob is not in flight and, unless a row of the queue says
        that it is due, has not just failed."""
        now = self._services.monotonic()
        if job.blob_id in self.in_flight:
            return False
        return job.item is not None or self._waiting.get(job.blob_id, now) <= now

    async def submit(self, job: Job) -> None:
        """Begin to work on a blob, as soon as there is room. Raises LeaseLost, and whatever is our mistake."""
        while len(self._tasks) >= self._services.settings.repair_blobs:
            await self.one_done()
        self._raise_failure()
        if not self.takes(job):
            return
        self.in_flight.add(job.blob_id)
        self._repairing += not job.rebalance
        task = asyncio.create_task(self._work(job), name=f"repair {job.blob_id.hex()}")
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(task, job))

    async def one_done(self) -> bool:
        """Wait until a blob is done with, or for a moment; False when none is in flight. Raises as `submit`."""
        self._raise_failure()
        if not self._tasks:
            return False
        pause_s = self._services.settings.repair_idle_s
        await asyncio.wait(self._tasks, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        self._raise_failure()
        return True

    def _ended(self, task: asyncio.Task[None], job: Job) -> None:
        self._tasks.discard(task)
        self.in_flight.discard(job.blob_id)
        self._repairing -= not job.rebalance
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _work(self, job: Job) -> None:
        try:
            await self._repair(job)
        except LeaseLost:
            raise
        except (CatalogError, ClusterError, OutOfReach) as error:
            log.info("blob %s: %s; again later", job.blob_id.hex(), error)
            await self._postpone(job)
        except Exception:
            # A mistake of ours that one blob brings to light must not end the repair of all others.
            log.exception("blob %s: its repair failed", job.blob_id.hex())
            await self._postpone(job)

    async def _repair(self, job: Job) -> None:
        """Plan and mend until it succeeds, each time without the nodes that refused. Raises OutOfReach,
        NotEnoughNodes, CatalogError."""
        avoid: set[int] = set()
        progressed = Progressed([], [])
        for _ in range(_ATTEMPTS):
            blob = await lookup.blob(self._services.catalog, job.blob_id)
            if blob is None or blob.manifest is not None or not blob.size:
                await self._forget(job)
                return
            standing = await self._roster.look()
            plan = plan_repair(blob, standing, avoid, rebalance=job.rebalance)
            if not plan.moves and job.item is None:
                return
            try:
                whole = await self._mender.mend(
                    blob,
                    plan.stretches,
                    standing=standing,
                    avoid=avoid,
                    suspects=_suspects(job),
                    progressed=progressed,
                )
            except CannotPut as refusal:
                log.info("blob %s: %s", job.blob_id.hex(), refusal)
                avoid.add(refusal.node)
            except OutOfReach:
                if (await self._roster.look()).present == standing.present:
                    await self._give_back(job.blob_id, progressed.put)
                    raise
            except Unreadable as error:
                await self._give_back(job.blob_id, progressed.put)
                await self._unreadable(job, blob, error)
                return
            else:
                await self._commit(job, plan, progressed, whole=whole)
                return
        await self._give_back(job.blob_id, progressed.put)
        raise OutOfReach(f"{len(avoid)} nodes refused new copies")

    async def _commit(self, job: Job, plan: RepairPlan, progressed: Progressed, *, whole: bool) -> None:
        """The layout changes hands in one transaction, if the blob is still as it was (S20)."""
        blob = plan.blob
        superseded = _unnamed(plan, progressed)

        def commit(tx: Transaction) -> bool:
            moved = placements.move(tx, blob.id, old=blob, nodes=plan.nodes, runs=plan.runs)
            if moved:
                work.queue_extra(tx, superseded[:_EXTRAS_A_WRITE])
                self._settle(tx, job, whole=whole)
            return moved

        if not await self._tenure.write(commit):
            log.info("blob %s was deleted or changed during its repair", blob.id.hex())
            await self._give_back(job.blob_id, progressed.put)
            await self._forget(job)
            return
        await self._queue_extra(superseded[_EXTRAS_A_WRITE:])
        if not job.rebalance:
            self.tally.blobs += 1
            self.tally.size += blob.size
        if not whole and job.item is None:
            self._wait(job.blob_id, self._services.settings.retry_s)

    def _settle(self, tx: Transaction, job: Job, *, whole: bool) -> None:
        """The queue's row has done its service, unless copies are left that could not be looked at, or a fault
        was reported that this repair did not know of: it may have passed that place before."""
        if whole:
            work.repaired(tx, job.blob_id, job.item.faults if job.item is not None else ())
        elif job.item is not None:
            work.postpone_repair(tx, job.blob_id, self._later_ms(self._services.settings.retry_s))

    async def _give_back(self, blob_id: bytes, put: Sequence[ExtraCopy]) -> None:
        """What was put for nothing is extra, unless the present layout names that place: then it has replaced
        a copy there. Of a blob that is being deleted all of it is extra: the order to its node may have been
        carried out before the put."""

        def unnamed(tx: Transaction) -> list[ExtraCopy]:
            fresh = blobs.by_ids(tx, tx.placements, [blob_id]).get(blob_id)
            if fresh is None or not _is_referenced(tx, fresh):
                return list(put)
            return [copy for copy in put if not is_named(fresh, *copy_place(copy))]

        if put:
            await self._queue_extra(await self._tenure.write(unnamed))

    async def _queue_extra(self, copies: Sequence[ExtraCopy]) -> None:
        for at in range(0, len(copies), _EXTRAS_A_WRITE):
            part = copies[at : at + _EXTRAS_A_WRITE]
            await self._tenure.write(lambda tx, part=part: work.queue_extra(tx, part))  # type: ignore[misc]

    async def _forget(self, job: Job) -> None:
        if job.item is not None:
            await self._tenure.write(lambda tx: work.repaired(tx, job.blob_id))

    async def _unreadable(self, job: Job, blob: BlobRow, error: Unreadable) -> None:
        """Every node answered and the bytes are not there. Say so once, and look again from time to time: a
        disk may come back."""
        due_ms = self._later_ms(self._services.settings.unreadable_retry_s)
        told = FaultReport(error.stripe, 0, 0, _UNREADABLE)

        def note(tx: Transaction) -> bool:
            if not _is_referenced(tx, blob):
                work.repaired(tx, blob.id)  # it was deleted meanwhile, and its blocks too: nothing is lost
                return False
            work.report_faults(tx, blob.id, [told, *error.faults])
            work.postpone_repair(tx, blob.id, due_ms)
            if not job.is_told_lost:
                work.record_event(tx, "blob-unreadable", detail=f"{blob.id.hex()}: {error}")
            return True

        if await self._tenure.write(note):
            log.error("blob %s can't be read or repaired: %s", blob.id.hex(), error)
            self.tally.unreadable += 1
            self._wait(blob.id, self._services.settings.unreadable_retry_s)

    async def _postpone(self, job: Job) -> None:
        retry_s = self._services.settings.retry_s
        self._wait(job.blob_id, retry_s)
        if job.item is not None:
            due_ms = self._later_ms(retry_s)
            try:
                await self._tenure.write(lambda tx: work.postpone_repair(tx, job.blob_id, due_ms))
            except LeaseLost:
                raise
            except CatalogError as error:
                log.info("blob %s could not be postponed: %s", job.blob_id.hex(), error)

    def _wait(self, blob_id: bytes, seconds: float) -> None:
        """Not again before that, for jobs that no row of the queue holds back. Lost with the process."""
        now = self._services.monotonic()
        if len(self._waiting) >= _WAITING_MAX:
            self._waiting = {known: until for known, until in self._waiting.items() if until > now}
            if len(self._waiting) >= _WAITING_MAX:
                self._waiting.clear()
        self._waiting[blob_id] = now + seconds

    def _later_ms(self, seconds: float) -> int:
        return self._services.now_ms() + int(seconds * 1000)


def _suspects(job: Job) -> frozenset[Suspect]:
    if job.item is None:
        return frozenset()
    return frozenset(Suspect(fault.stripe, fault.shard, fault.node) for fault in job.item.faults)


def _is_referenced(tx: Transaction, blob: BlobRow) -> bool:
    """Whether the blob is still as it was read, and something refers to it: a move to where it lies."""
    return placements.move(tx, blob.id, old=blob, nodes=blob.nodes, runs=blob.runs)


def copy_place(copy: ExtraCopy) -> tuple[int, int, int]:
    """(stripe, shard, node): where a copy lies."""
    return copy.stripe, copy.shard, copy.node


def _unnamed(plan: RepairPlan, progressed: Progressed) -> list[ExtraCopy]:
    """Copies on the nodes that the new layout does not name: those it leaves out, and those that earlier
    attempts put elsewhere."""
    after = BlobRow(
        *(plan.blob.id, plan.blob.size, plan.blob.k, plan.blob.m, plan.blob.stripe_bytes, plan.blob.codec),
        *(plan.blob.transform, plan.nodes, None, plan.runs),
    )
    copies = [*progressed.dropped, *progressed.put]
    return list(dict.fromkeys(copy for copy in copies if not is_named(after, *copy_place(copy))))
