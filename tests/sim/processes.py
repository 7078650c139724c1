"""Fronts and stewards: the real writer, reader, links, catalog and background worker, each set in a process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from catalog import lookup, snapshots
from catalog import nodes as node_rows
from catalog.engine import Catalog
from cluster import wire
from cluster.blob_reader import BlobReader
from cluster.blob_writer import BlobIds, BlobWriter, WriterSettings
from cluster.budget import ByteBudget
from cluster.link import Link, LinkSettings
from cluster.receipt import Receipt
from cluster.steward import worker
from cluster.steward.services import StewardServices, StewardSettings
from cluster.stripe_read import ReaderSettings
from cluster.topology import NodeInfo, NodeSet
from codec.geometry import Geometry
from compose.fault_reporter import FaultReporter
from compose.wiring import catalog_log, follow_nodes
from s3front.blob_store import new_blob
from tests.sim.catalogs import close_catalog, open_catalog
from tests.sim.clocks import WallClocks
from tests.sim.loop import Process, SimLoop
from tests.sim.node import CLUSTER_ID, SECRET

T = TypeVar("T")

BUDGET_BYTES = 1 << 20
LINKS = LinkSettings(sweep_s=0.05, probe_s=3.0, silence_s_max=5.0)


@dataclass(frozen=True)
class Surroundings:
    """What all processes of a schedule are put into."""

    loop: SimLoop
    clocks: WallClocks
    catalog_path: Path
    geometry: Geometry
    note: Callable[[str], None]
    after_commit: Callable[[], None]
    on_fatal: Callable[[str, BaseException], None]


class Service:
    """A process with a catalog and links of its own, that can be killed, frozen and started again."""

    role = wire.Role.FRONT

    def __init__(self, name: str, surroundings: Surroundings, chance: random.Random) -> None:
        self.name = name
        self.surroundings = surroundings
        self.chance = chance
        self.process = Process(name)
        self.process.kill()
        self.catalog: Catalog
        self.nodes: NodeSet
        self._callers: list[asyncio.Future[Any]] = []
        self.requests: list[asyncio.Task[Any]] = []
        self._opened: list[Catalog] = []

    @property
    def alive(self) -> bool:
        return not self.process.dead

    def now_ms(self) -> int:
        """Its wall clock."""
        return self.surroundings.clocks.now_ms(self.name)

    def start(self) -> asyncio.Task[None]:
        """The task ends when it serves."""
        assert self.process.dead
        self.process = Process(self.name)
        self.surroundings.note(f"{self.name} starts")
        return self.surroundings.loop.create_task(self._open(), context=self.process.context)

    async def _open(self) -> None:
        around = self.surroundings
        self.catalog = await open_catalog(
            around.catalog_path,
            around.loop,
            self.chance,
            clock=self.now_ms,
            after_call=around.after_commit,
            on_fatal=lambda error: around.on_fatal(self.name, error),
        )
        self._opened.append(self.catalog)
        rows = await node_rows.current(self.catalog)
        infos = [
            NodeInfo(row.number, row.node_id, row.name, row.region, row.zone, (row.host, row.port), row.state)
            for row in rows
            if row.state != node_rows.REMOVED
        ]
        self.nodes = NodeSet(infos, {info.number: self._link(info) for info in infos}, new_link=self._link)
        await self.nodes.start()
        self.following = asyncio.ensure_future(follow_nodes(self.nodes, self.catalog, rows, 2.0))
        self.log = catalog_log(self.catalog, self.nodes)
        await self._serve()

    def _link(self, info: NodeInfo) -> Link:
        return Link(
            info.address,
            secret=SECRET,
            cluster_id=CLUSTER_ID,
            node_id=info.node_id,
            role=self.role,
            settings=LINKS,
            clock=self.surroundings.loop.time,
        )

    async def _serve(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        """SIGKILL. Who waits for an answer learns that there will be none."""
        if self.process.dead:
            return
        self.surroundings.note(f"{self.name} is killed")
        self.process.kill()
        for caller in self._callers:
            if not caller.done():
                caller.set_exception(ConnectionResetError(f"{self.name} died"))
        self._callers.clear()
        self.requests.clear()

    def close(self) -> None:
        """At the end of a schedule."""
        for catalog in self._opened:
            close_catalog(catalog)
        self._opened.clear()

    async def call(self, work: Coroutine[Any, Any, T], *, leave_after_s: float | None = None) -> T:
        """Run a request in this process, for a client outside of it.

        Raises what it raises, ConnectionRefusedError when the process is down and ConnectionResetError when it dies.
        `leave_after_s`: the client goes away then.
        """
        if self.process.dead:
            work.close()
            raise ConnectionRefusedError(f"{self.name} is down")
        loop = self.surroundings.loop
        answer: asyncio.Future[T] = loop.create_future()
        self._callers.append(answer)
        task: asyncio.Task[T] = loop.create_task(work, context=self.process.context)
        self.requests = [request for request in self.requests if not request.done()] + [task]

        def done(task: asyncio.Task[T]) -> None:
            if answer.done():
                if not task.cancelled():
                    task.exception()
            elif task.cancelled():
                answer.cancel()
            elif (error := task.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(task.result())

        task.add_done_callback(done)
        if leave_after_s is not None:
            loop.call_later(leave_after_s, task.cancel, context=self.process.context)
        try:
            return await answer
        finally:
            if answer in self._callers:
                self._callers.remove(answer)


class SimFront(Service):
    """A front without HTTP: objects in, objects out."""

    async def _serve(self) -> None:
        catalog, geometry = self.catalog, self.surroundings.geometry
        faults = FaultReporter(catalog)
        self.reporting = asyncio.ensure_future(faults.run())
        self.writer = BlobWriter(
            self.nodes,
            geometry,
            ByteBudget(BUDGET_BYTES),
            BlobIds(self.chance.randbytes),
            WriterSettings(window_stripes=2, sync_bytes=3 * geometry.stripe_bytes),
            on_abandoned=self._abandoned,
        )
        self.reader = BlobReader(
            self.nodes,
            ByteBudget(BUDGET_BYTES),
            lambda blob_id: lookup.blob(catalog, blob_id),
            faults.report,
            ReaderSettings(window_stripes=2),
        )

    def _abandoned(self, receipt: Receipt) -> None:
        self.catalog.abandon(new_blob(receipt))


class SimSteward(Service):
    """A steward; of several, one is in office."""

    role = wire.Role.STEWARD

    def __init__(
        self,
        name: str,
        surroundings: Surroundings,
        chance: random.Random,
        settings: StewardSettings,
    ) -> None:
        super().__init__(name, surroundings, chance)
        self.settings = settings

    async def _serve(self) -> None:
        loop = self.surroundings.loop
        services = StewardServices(
            self.catalog,
            self.nodes,
            self.settings,
            monotonic=loop.time,
            now_ms=self.now_ms,
            random=self.chance.randbytes,
            catalog_log=self.log,
            make_snapshot=snapshots.make_snapshot,
        )
        self.working = asyncio.ensure_future(worker.run(services, asyncio.Event()))
        self.working.add_done_callback(self._ended)

    def _ended(self, working: asyncio.Future[None]) -> None:
        error = None if working.cancelled() else working.exception()
        if error is not None:
            self.surroundings.on_fatal(self.name, error)
