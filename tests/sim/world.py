"""One schedule: a whole store in one thread, made from one seed, broken and mended, and judged."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as driver

from cluster.steward.services import StewardSettings
from codec.geometry import Geometry
from tests.sim.catalog_loss import CatalogLoss
from tests.sim.catalogs import GRACE_MS, copy_template, make_template
from tests.sim.clients import KEYS, Clients, put
from tests.sim.clocks import WallClocks
from tests.sim.grace import GraceWatch
from tests.sim.loop import SimLoop
from tests.sim.membership import Membership
from tests.sim.nemesis import Nemesis
from tests.sim.network import Network
from tests.sim.node import SimNode
from tests.sim.processes import SimFront, SimSteward, Surroundings
from tests.sim.truth import Truth, Violation

STRIPE_BYTES = 4096
QUIET_S_MAX = 400.0
REQUESTS_S_MAX = 120.0
_LOOK_S = 3.0
_AFTERMATH_S = 15.0  # so long after the last fault requests may still fail


@dataclass(frozen=True)
class Shape:
    """Of one schedule."""

    nodes: int
    k: int
    m: int
    storm_s: float
    clients: int
    requests: int
    fault_pause_s: float

    @classmethod
    def of(cls, chance: random.Random) -> Shape:
        """Mostly small ones."""
        nodes, k, m = chance.choices(((3, 2, 1), (4, 2, 1), (6, 4, 2)), (6, 4, 1))[0]
        return cls(
            nodes,
            k,
            m,
            storm_s=chance.choice((4.0, 8.0, 16.0)),
            clients=chance.choice((1, 2, 3)),
            requests=chance.choice((4, 8)),
            fault_pause_s=chance.choice((0.7, 1.5, 4.0)),
        )


@dataclass
class Result:
    """What came of a schedule. `trace` is the hash of all that happened."""

    seed: int
    trace: str
    violation: str
    lines: list[str]
    steps: int
    requests: int
    refused: int
    commits: int
    moves: int
    restores: int
    virtual_s: float


STEWARD = StewardSettings(
    renew_s=2.0,
    lease_expiry_s=6.0,
    health_s=1.5,
    idle_s=2.0,
    retry_s=4.0,
    epoch_s=5.0,
    completions_s=1000.0,
    orphans_s=12.0,
    orphan_epochs=2,
    orphan_share_max=1.0,
    rebuild_after_s=7.0,
    repair_buffer_bytes=1 << 20,
    repair_idle_s=1.5,
    repair_deadline_s=5.0,
    delete_deadline_s=5.0,
    unreadable_retry_s=20.0,
    progress_s=3.0,
    damaged_s=4.0,
    scrub_s=15.0,
)


@dataclass
class Workshop:
    """Templates of catalogs, and where schedules keep their files; of this process. Own it by `with`."""

    folder: Path = field(default_factory=lambda: _memory() / f"trivet-sim-{os.getpid()}")
    _templates: dict[int, Path] = field(default_factory=dict)

    def template(self, nodes: int) -> Path:
        """A catalog that knows so many nodes."""
        if nodes not in self._templates:
            home = self.folder / f"template-{nodes}"
            home.mkdir()
            rows = [
                (n.to_bytes(16, "big"), f"node-{n}", f"region-{n}", f"node-{n}") for n in range(1, nodes + 1)
            ]
            self._templates[nodes] = make_template(home, rows)
        return self._templates[nodes]

    def __enter__(self) -> Workshop:
        self.clear()  # of a process of the same number that was killed
        self.folder.mkdir(mode=0o700)
        # Coroutines of killed processes are finalised some time; what they say then is of no interest.
        self._hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        return self

    def __exit__(self, *_: object) -> None:
        gc.collect()
        self._warnings.__exit__(None, None, None)
        sys.unraisablehook = self._hook
        self.clear()

    def clear(self) -> None:
        """Remove all files; may be called at any time."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _stack(coroutine: Any) -> Iterator[str]:
    """Where a suspended coroutine stands, and what it awaits stands."""
    while coroutine is not None and hasattr(coroutine, "cr_frame"):
        frame = coroutine.cr_frame
        if frame is not None:
            yield f"{coroutine.__name__}:{frame.f_lineno}"
        coroutine = coroutine.cr_await


def _memory() -> Path:
    """Files that need not survive anything lie in memory where there is such a place."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else Path(tempfile.gettempdir())


def run(seed: int, workshop: Workshop, *, tell: bool = False) -> Result:
    """Play the schedule of that seed. `tell` prints it as it goes."""
    loop = SimLoop()
    asyncio.set_event_loop(loop)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=workshop.folder))
    world = World(seed, loop, folder, workshop, tell=tell)
    try:
        return world.play()
    finally:
        world.close()
        loop.finish()
        asyncio.set_event_loop(None)
        shutil.rmtree(folder)


class World:
    """All parts of one schedule."""

    def __init__(self, seed: int, loop: SimLoop, folder: Path, workshop: Workshop, *, tell: bool) -> None:
        self.seed = seed
        self.loop = loop
        self._tell = tell
        self._hash = hashlib.sha256()
        self._lines: list[str] = []
        self._failed: asyncio.Future[None] = loop.create_future()
        loop.complain = lambda what: self.fail(Violation(f"unhandled: {what}"))
        chance = random.Random(seed)
        self.shape = Shape.of(chance)
        shape = self.shape
        self.network = Network(loop, random.Random(f"{seed} network"))
        path = copy_template(workshop.template(shape.nodes), folder)
        self._folder = folder
        self.nodes = [self._new_node(number) for number in range(1, shape.nodes + 1)]
        self._gone: list[SimNode] = []
        connection = driver.connect(str(path), isolation_level=None, check_same_thread=False)
        self.clocks = WallClocks(loop)
        self.grace = GraceWatch(loop, self.clocks, GRACE_MS)
        self.truth = Truth(connection, self.nodes, self.grace)
        for node in self.nodes:
            self._watch(node)
        around = Surroundings(
            loop,
            self.clocks,
            path,
            Geometry(shape.k, shape.m, STRIPE_BYTES),
            self.note,
            self._after_commit,
            self._fatal,
        )
        self.fronts = [SimFront(f"front-{n}", around, random.Random(f"{seed} front {n}")) for n in (1, 2)]
        self.stewards = [
            SimSteward(f"steward-{n}", around, random.Random(f"{seed} steward {n}"), STEWARD) for n in (1, 2)
        ]
        self.clients = Clients(
            loop,
            random.Random(f"{seed} clients"),
            seed=seed,
            fronts=self.fronts,
            note=self.note,
            fail=self.fail,
            may_fail=self._may_fail,
            cut_short=self.grace.cut_short.__contains__,
        )
        self.catalog_loss = CatalogLoss(
            loop,
            random.Random(f"{seed} catalog"),
            path=path,
            services=[*self.fronts, *self.stewards],
            nodes=self.nodes,
            truth=self.truth,
            note=self.note,
        )
        self.nemesis = Nemesis(
            loop,
            random.Random(f"{seed} nemesis"),
            network=self.network,
            nodes=self.nodes,
            fronts=self.fronts,
            stewards=self.stewards,
            truth=self.truth,
            clocks=self.clocks,
            membership=Membership(
                self.fronts,
                width=shape.k + shape.m,
                begin=self._begin_node,
                end=self._end_node,
                note=self.note,
            ),
            catalog_loss=self.catalog_loss,
            note=self.note,
            fail=self.fail,
        )
        self._quiet_since = float("inf")

    # -- nodes -----------------------------------------------------------------------------------------------

    def _new_node(self, number: int) -> SimNode:
        return SimNode(
            number,
            loop=self.loop,
            network=self.network,
            folder=self._folder,
            chance=random.Random(f"{self.seed} node {number}"),
            note=self.note,
        )

    def _watch(self, node: SimNode) -> None:
        node.before_delete = self.truth.before_delete
        node.after_delete = self._after_delete

    def _begin_node(self, number: int) -> SimNode:
        fresh = self._new_node(number)
        self._watch(fresh)
        self.truth.add(fresh)
        self.nodes.append(fresh)
        self.nemesis.watch(fresh)
        fresh.start()
        return fresh

    def _end_node(self, node: SimNode, replaced: bool) -> None:
        if not replaced:
            self.truth.remove(node.number)
            node.thaw()
            node.crash(power=False)
        self.nodes.remove(node)
        self._gone.append(node)

    # -- what happens ----------------------------------------------------------------------------------------

    def note(self, what: str) -> None:
        """One line of the trace."""
        line = f"{self.loop.now:10.6f} {what}".replace(str(self._folder), "")
        self._hash.update(line.encode())
        self._lines.append(line)
        if self._tell:
            print(line)

    def fail(self, error: Exception) -> None:
        """The first violation ends the schedule."""
        if not self._failed.done():
            self.note(f"VIOLATION {error}")
            self._failed.set_exception(error)

    def _after_commit(self) -> None:
        try:
            self.truth.after_commit(self.loop.now)
        except Violation as violation:
            self.fail(violation)

    def _after_delete(self, node: SimNode, keys: list[bytes]) -> None:
        try:
            self.truth.after_delete(node, keys)
        except Violation as violation:
            self.fail(violation)

    def _fatal(self, name: str, error: BaseException) -> None:
        self.fail(Violation(f"{name} ended: {error!r}"))

    def _may_fail(self, began: float) -> bool:
        if began >= self._quiet_since + _AFTERMATH_S:
            return False
        return self.nemesis.may_refuse(began, self.shape.m)

    # -- the schedule ----------------------------------------------------------------------------------------

    def play(self) -> Result:
        """From the first start to the verdict."""
        violation = ""
        try:
            self.loop.run_until_complete(self._race())
        except Violation as error:
            violation = str(error)
        return Result(
            self.seed,
            self._hash.hexdigest(),
            violation,
            self._lines,
            self.loop.steps,
            self.clients.requests,
            self.clients.refused,
            self.truth.commits,
            self.truth.moves,
            self.catalog_loss.restored,
            self.loop.now,
        )

    async def _race(self) -> None:
        schedule = asyncio.ensure_future(self._schedule())
        await asyncio.wait([schedule, self._failed], return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            schedule.cancel()
            await self._failed
        await schedule

    async def _schedule(self) -> None:
        shape = self.shape
        self.note(f"{shape}")
        for node in self.nodes:
            node.start()
        for service in (*self.fronts, *self.stewards):
            await service.start()
        for front in self.fronts:
            await front.nodes.wait_up(5.0)
        # With no blob at all the steward takes nothing for an orphan (S18).
        await self.fronts[0].call(put(self.fronts[0], b"anchor", "0", b"anchor" * 100, 0.0))
        pause_s = shape.storm_s / shape.requests / 1.5
        clients = [
            asyncio.ensure_future(self.clients.run(number, shape.requests, pause_s))
            for number in range(shape.clients)
        ]
        nemesis = asyncio.ensure_future(self.nemesis.run(shape.fault_pause_s))
        await asyncio.sleep(shape.storm_s)
        nemesis.cancel()
        self.note("quiet")
        self._quiet_since = self.loop.now
        await self.nemesis.heal()
        _, waiting = await asyncio.wait(clients, timeout=REQUESTS_S_MAX)
        if waiting:
            raise Violation(f"a request has had no answer for {REQUESTS_S_MAX:.0f} s: {self._where()}")
        for client in clients:
            client.result()
        await self._heal()
        await self._read_all()

    def _where(self) -> str:
        """What the requests under way wait for."""
        running = (task for front in self.fronts for task in front.requests if not task.done())
        return "; ".join(" > ".join(_stack(task.get_coro())) for task in running)

    async def _heal(self) -> None:
        """Until everything is fully redundant and nothing is left over."""
        until = self.loop.now + QUIET_S_MAX
        while True:
            await asyncio.sleep(_LOOK_S)
            wrong = await self._unhealed()
            if not wrong:
                break
            if self.loop.now > until:
                raise Violation(f"after {QUIET_S_MAX:.0f} quiet seconds: {wrong}")
        self.note("healed")

    async def _unhealed(self) -> str:
        await self.nemesis.end_late_drains()
        self.truth.look()
        wrong = self.truth.unprotected()
        if wrong:
            return wrong
        wrong = await self.nemesis.settle()
        if not wrong:
            self.truth.look()
            wrong = self.truth.leftovers()
        if wrong and self.clocks.jumped:
            self._wait_for_clocks()
        return wrong

    def _wait_for_clocks(self) -> None:
        """What a wrong clock put off is due some day: that day comes, for all that are behind it."""
        day_ms = self.truth.last_due_ms()
        for service in (*self.fronts, *self.stewards):
            behind_ms = day_ms - self.clocks.now_ms(service.name)
            if behind_ms > QUIET_S_MAX * 500:
                self.note(f"{service.name} waits {behind_ms} ms")
                self.clocks.set(service.name, self.clocks.ahead_ms(service.name) + behind_ms)

    async def _read_all(self) -> None:
        for front in self.fronts:
            for key in KEYS:
                if not await self.clients.check(f"at last {front.name}", front, key):
                    raise Violation(f"P1: {key.decode()} can't be read through {front.name} in the end")

    def close(self) -> None:
        """Give back what the operating system has."""
        for service in (*self.fronts, *self.stewards):
            service.close()
        for node in (*self.nodes, *self._gone):
            node.close()
        self.truth.catalog_gone()
