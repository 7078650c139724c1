"""`trivet restart`: each process of the `trivet up` that runs here once, one after the other, while the store goes on.

The supervisor restarts one process at a time; in between, this waits for what the next step needs. After a node: that
it is up, that all who had a connection to it have one again, and that nothing is short of redundancy because it was
away.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from catalog import nodes
from catalog.engine import Catalog
from catalog.errors import CatalogError
from cluster.reports.cluster import node_statuses
from cluster.reports.redundancy import repair_report
from cluster.topology import NodeSet
from compose import control
from compose.data_dir import DataDir
from compose.refusal import StartRefused
from compose.settings import Settings
from compose.wiring import NODES_FOLLOW_S, asked_nodes, opened_catalog

PROCESS_S_MAX = 600.0
"""To end its work, and to come back: a node with much to recover takes its time."""
LINKS_S_MAX = 5.0
"""Links try once a second at least; some connection may have been one that ended by itself, a command's."""
FOLLOWED_S = 3 * NODES_FOLLOW_S
"""It stays so for as long: every process has read from the catalog by then that the node is up, and uses it."""
WHOLE_S_MAX = 300.0
LOOK_EVERY_S = 0.1


class Sight(NamedTuple):
    """A node and the store's redundancy at one moment. `connections`: to the node, of whomever."""

    up: bool
    connections: int
    short_blobs: int


Look = Callable[[], Awaitable[Sight]]


def restart(settings: Settings, done: Callable[[str], None]) -> str:
    """What stands in the way of more, for a person; empty when all were restarted. `done` is told each process that is
    back. Raises StartRefused when there is nothing to restart, or somebody does it already.
    """
    place = DataDir(settings.data)
    reply = _told(place, control.PROCESSES)
    if reply is None:
        raise StartRefused(
            f"no `trivet up` runs in {settings.data}. Processes that run by themselves are restarted one by one, as "
            "they were started: systemctl restart"
        )
    if reply.problems:
        raise StartRefused(" ".join(reply.problems))
    with _alone(place):
        return asyncio.run(_restart_all(settings, reply.processes, done))


async def _restart_all(settings: Settings, processes: list[str], done: Callable[[str], None]) -> str:
    place = DataDir(settings.data)
    async with opened_catalog(settings) as catalog, asked_nodes(settings, catalog) as node_set:
        names = {row.name for row in await nodes.current(catalog)}
        for process in processes:

            async def once(process: str = process) -> str:
                reply = await asyncio.to_thread(_told, place, control.RESTART, process)
                return "the store was stopped meanwhile" if reply is None else " ".join(reply.problems)

            async def look(process: str = process) -> Sight:
                return await _look(catalog, node_set, process)

            problem = await restarted_node(look, once, process) if process in names else await once()
            if problem:
                return problem
            done(process)
    return ""


async def restarted_node(
    look: Look,
    restart_once: Callable[[], Awaitable[str]],
    name: str,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> str:
    """What stands in the way of going on after this node; empty when nothing does. What was short of redundancy before
    need not be whole afterwards.
    """
    before = await look()
    problem = await restart_once()
    began_s, well_since_s = clock(), math.inf
    while not problem:
        looked_s = clock()
        try:
            now = await look()
        except CatalogError:
            now = Sight(up=False, connections=0, short_blobs=0)  # busy; there is time
        waited_s = clock() - began_s
        linked = now.connections >= before.connections or waited_s > LINKS_S_MAX
        well = now.up and linked and now.short_blobs <= before.short_blobs
        well_since_s = min(well_since_s, looked_s) if well else math.inf
        if clock() - well_since_s >= FOLLOWED_S:
            return ""
        if waited_s > WHOLE_S_MAX:
            return (
                f"{name} was restarted, and after {WHOLE_S_MAX:.0f} s it is not up again, or objects still lack what "
                "it missed (trivet status): the rest is as it was"
            )
        # To count many blobs takes its time: this must not become the store's main occupation.
        await pause(max(LOOK_EVERY_S, 10 * (clock() - looked_s)))
    return problem


async def _look(catalog: Catalog, node_set: NodeSet, name: str) -> Sight:
    states = await node_statuses(catalog, node_set)
    report = await catalog.read(repair_report)
    short_blobs = max(report.reduced_blobs, report.queued_blobs)
    for state in states:
        if state.row.name == name and state.status is not None:
            return Sight(state.row.state in {nodes.UP, nodes.DRAINING}, state.status.peers, short_blobs)
    return Sight(up=False, connections=0, short_blobs=short_blobs)


def _told(place: DataDir, verb: str, process: str = "") -> control.Reply | None:
    try:
        return control.tell(place.control, verb, PROCESS_S_MAX, process)
    except TimeoutError:
        return control.Reply([f"the supervisor has not answered within {PROCESS_S_MAX:.0f} s"])


@contextmanager
def _alone(place: DataDir) -> Iterator[None]:
    """Two at once could take two nodes away. Raises StartRefused."""
    file = os.open(place.run / "restart.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartRefused("another `trivet restart` is at work") from None
        yield
    finally:
        os.close(file)
