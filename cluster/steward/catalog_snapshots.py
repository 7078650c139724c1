"""Snapshots of the embedded catalog on the nodes (S17): made when due, then what is older is trimmed.

One is due when there is none, when the log since the last one has grown as large as that one, when the catalog asks for
one (its outbox overflowed, so that the log has a gap), and when what a restore would need lies on too few of the nodes
that answer, or is damaged: a new one makes up for everything before it. The old one is trimmed only when the new one
lies complete on as many nodes as the log wants.
"""

import asyncio
import logging
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final, Self

import msgspec

from catalog import outbox
from catalog import progress as rows
from catalog.transaction import Transaction
from cluster import wire
from cluster.catalog_log import CatalogLog, LogEntry
from cluster.errors import LinkError, RemoteFault
from cluster.log_names import BATCH, SNAPSHOT, LogEntryName, pack_name
from cluster.steward import progress
from cluster.steward.node_calls import call
from cluster.steward.progress import CatalogSnapshot
from cluster.steward.services import MakeSnapshot, StewardServices
from cluster.steward.tenure import Tenure

log = logging.getLogger(__name__)

DUE_ROW: Final = "catalog-snapshot-due"
"""Progress row of the catalog: msgpack of the highest batch that no log will have. A later snapshot settles it."""
GROWN_BYTES_MIN: Final = 64 << 20
_CHUNK_S_MAX: Final = 30.0
_NOT_SERVED: Final = int(wire.Status.NOT_SUPPORTED)


class CatalogSnapshots:
    """The steward's unit, of one tenure."""

    def __init__(
        self,
        services: StewardServices,
        sink: CatalogLog,
        path: Path,
        make: MakeSnapshot,
        *,
        grown_bytes_min: int = GROWN_BYTES_MIN,
        look_s: float = 600.0,
        short_s: float = 60.0,
    ) -> None:
        """`path` is the catalog's file. `look_s`: how often redundancy is counted while no node comes or goes;
        `short_s`: how long it may be short before another snapshot is made."""
        self._services = services
        self._sink = sink
        self._path = path
        self._make = make
        self._grown_bytes_min = grown_bytes_min
        self._look_s = look_s
        self._short_s = short_s
        self._seen: frozenset[int] = frozenset()  # the nodes that answered at the last count
        self._look_due_s = 0.0
        self._settled_batch = 0  # what was shipped when redundancy was last counted
        self._short_since: float | None = None

    @classmethod
    def wanted(cls, services: StewardServices) -> Self | None:
        """The unit; None when the catalog keeps no log on the nodes."""
        sink, make, path = services.catalog_log, services.make_snapshot, services.catalog.path
        return cls(services, sink, path, make) if sink and make and path else None

    async def step(self, tenure: Tenure) -> float:
        """Trim, and make a snapshot if one is due; how many seconds until the next look. Raises CatalogError."""
        catalog = self._services.catalog
        state = await catalog.read(lambda reader: progress.read(reader, CatalogSnapshot)) or CatalogSnapshot()
        if state.chunks:
            await self._trim(tenure, state)
        said = await self._ask_all()
        reason = await self._why_due(state, said)
        if reason:
            log.info("snapshot of the catalog: %s", reason)
            await self._trim(tenure, await self._ship(tenure, state))
            self._short_since = None
        return self._services.settings.catalog_log_s

    # -- whether ---------------------------------------------------------------------------------------------

    async def _why_due(self, state: CatalogSnapshot, said: dict[int, wire.LogStatus]) -> str:
        if not state.chunks:
            return "there is none yet"
        wanted = await self._services.catalog.read(lambda reader: rows.read(reader, DUE_ROW))
        if wanted is not None and msgspec.msgpack.decode(wanted, type=int) > state.batch:
            return "the log has a gap"
        grown = sum(status.nbytes for status in said.values()) // self._sink.copies - state.nbytes
        if grown >= max(self._grown_bytes_min, state.nbytes):
            return f"the log has grown by {grown} bytes"
        now = self._services.monotonic()
        damaged = any(status.damaged for status in said.values())
        if damaged or await self._is_short(state, said, now):
            if self._short_since is None:
                self._short_since = now
            if now - self._short_since >= self._short_s:
                return "the log is damaged" if damaged else "the log lies on too few nodes"
        else:
            self._short_since = None
        return ""

    async def _is_short(self, state: CatalogSnapshot, said: dict[int, wire.LogStatus], now: float) -> bool:
        """Whether something that a restore needs is on fewer nodes than it should be, by what they list. Batches step
        over numbers: what is missing shows by a step that is too wide."""
        answering = frozenset(said)
        if answering == self._seen and now < self._look_due_s and self._short_since is None:
            return False
        self._seen, self._look_due_s = answering, now + self._look_s
        copies: Counter[LogEntryName] = Counter()
        for number in answering:
            copies.update(await self._names(number, state))
        whole: dict[tuple[int, int], int] = {}  # a batch in pieces is as safe as the rarest of them
        for name, count in copies.items():
            if name.kind == BATCH:
                key = name.term, name.batch
                whole[key] = min(count, whole.get(key, count))
        batches = Counter[int]()
        for (_, batch), count in whole.items():
            batches[batch] = max(batches[batch], count)
        settled, self._settled_batch = self._settled_batch, max(batches, default=state.batch)
        needed = [copies[LogEntryName(SNAPSHOT, state.term, state.batch, c)] for c in range(state.chunks)]
        there = sorted(batch for batch in batches if state.batch < batch <= settled)
        needed += [batches[batch] for batch in there]
        steps = [after - before for before, after in pairwise([state.batch, *there])]
        return min(needed) < self._sink.copies or max(steps, default=0) > outbox.STEP_OVER

    async def _names(self, number: int, state: CatalogSnapshot) -> list[LogEntryName]:
        """What a node lists from the last snapshot on; nothing when it ceases to answer."""
        names: list[LogEntryName] = []
        after, more = b"", True
        while more:
            try:
                page = await self._status(number, after, wire.LOG_STATUS_MAX)
            except LinkError:
                return []
            found = [LogEntryName(*fields[:4]) for fields in page.names]
            names += [name for name in found if (name.term, name.batch) >= (state.term, state.batch)]
            more = page.more and bool(found)
            after = pack_name(found[-1]) if found else b""
        return names

    async def _ask_all(self) -> dict[int, wire.LogStatus]:
        """What the nodes say that answer and can."""
        said = {}
        for number in self._able():
            try:
                said[number] = await self._status(number, b"", 0)
            except LinkError as error:
                log.info("node %d does not tell of the catalog's log: %s", number, error)
        return said

    async def _status(self, number: int, after: bytes, limit: int) -> wire.LogStatus:
        ask = wire.LogStatusRequest(after, limit)
        reply = await call(self._services, number, wire.Op.LOG_STATUS, ask)
        try:
            return wire.decode_log_status(reply.header)
        except msgspec.DecodeError as error:
            raise LinkError(f"node {number} answered nonsense: {error}") from None

    def _able(self) -> list[int]:
        links = ((node.number, self._services.nodes.link(node.number)) for node in self._services.nodes.nodes)
        return [
            number
            for number, link in links
            if link is not None and link.up and link.version >= wire.VERSION_LOG
        ]

    # -- making ----------------------------------------------------------------------------------------------

    async def _ship(self, tenure: Tenure, state: CatalogSnapshot) -> CatalogSnapshot:
        # This write makes a batch, so no two attempts have a name in common: their chunks can't be mixed up.
        begun = msgspec.structs.replace(state, attempts=state.attempts + 1)
        await tenure.write(lambda tx: progress.write(tx, begun), unshipped=True)
        batch, term, chunks = await asyncio.to_thread(self._make, self._path)
        rest = iter(chunks)
        count = nbytes = 0
        while (chunk := await asyncio.to_thread(next, rest, None)) is not None:
            entry = LogEntry(LogEntryName(SNAPSHOT, term, batch, count), chunk)
            await self._sink.store(tenure.catalog_id, tenure.term, [entry], _CHUNK_S_MAX)
            count, nbytes = count + 1, nbytes + len(chunk)
        made = CatalogSnapshot(begun.attempts, term, batch, count, nbytes, self._services.now_ms())
        await tenure.write(partial(_note, made=made), unshipped=True)
        log.info("snapshot of the catalog up to batch %d: %d chunks, %d bytes", batch, count, nbytes)
        return made

    async def _trim(self, tenure: Tenure, made: CatalogSnapshot) -> None:
        """Have every node that answers drop what comes before the snapshot."""
        keep = LogEntryName(SNAPSHOT, made.term, made.batch, 0)
        order = wire.TrimLog(tenure.catalog_id, tenure.term, keep)
        for number in self._able():
            more = True
            while more:
                try:
                    reply = await call(self._services, number, wire.Op.TRIM_LOG, order)
                    more = wire.decode_log_trimmed(reply.header).more
                except RemoteFault as fault:
                    if fault.status != _NOT_SERVED:
                        log.warning("node %d does not trim the catalog's log: %s", number, fault)
                    break
                except (LinkError, msgspec.DecodeError) as error:
                    log.info("node %d did not trim the catalog's log: %s", number, error)
                    break


def _note(tx: Transaction, made: CatalogSnapshot) -> None:
    progress.write(tx, made)
    outbox.gap_closed(tx, made.batch)
