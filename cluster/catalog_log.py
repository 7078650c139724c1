"""Where the embedded catalog's log goes: to a few nodes, durably, before a commit is answered (S17).

Entries go to the nodes with the lowest numbers that are well, so that a log lies on few of them. A node that refuses,
is lost or is late (a multiple of its own recent latency) is replaced by the next one at once; a late answer still
counts when it comes. Of three nodes any two hold every entry, whichever two took it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from catalog.errors import CatalogBusy
from catalog.log_records import LogRecord
from cluster import wire
from cluster.errors import CallLate, LinkDown, LinkError, RemoteFault
from cluster.link import Link
from cluster.log_names import PIECE_BYTES, LogEntryName, piece_name
from cluster.topology import NodeInfo, NodeSet
from codec.block import page_checksums

APPEND_S_MAX: Final = 10.0  # as for a shard: a disk that stalls is waited for
_RETURN_S_MAX: Final = 2.0
_RETURN_LOOK_S: Final = 0.02
_FAILURES_TOLD: Final = 8
_FRAME_BYTES: Final = 3 << 20
_APPEND: Final = int(wire.Op.APPEND_LOG)
_FENCED: Final = int(wire.Status.FENCED)
_CLOSED: Final = frozenset(("joining", "removed"))
_LEAVING: Final = "draining"


class LogEntry(NamedTuple):
    """What a node stores under one name: at most PIECE_BYTES."""

    name: LogEntryName
    payload: bytes


class _Frame(NamedTuple):
    """Entries that travel together; the header lacks the fence."""

    entries: list[tuple[int, int, int, int, int, bytes]]
    payload: bytes


class CatalogLog:
    """The catalog's `LogSink`. Belongs to one event loop, the one of the links."""

    def __init__(
        self,
        nodes: NodeSet,
        copies: int,
        *,
        read_term: Callable[[], Awaitable[int]],
        append_s_max: float = APPEND_S_MAX,
    ) -> None:
        """`read_term` reads the term from the catalog itself, past every cache: asked when a node obeys a higher one
        than ours. A steward of this catalog has raised it then, or the catalog was restored without us."""
        assert copies > 0, "a catalog without copies has no log"
        self.copies: Final = copies
        self._nodes = nodes
        self._read_term = read_term
        self._append_s_max = append_s_max
        self._term = 0

    @property
    def ready(self) -> bool:
        """Whether enough nodes are connected for an append to succeed."""
        return sum(map(self._is_able, self._nodes.nodes)) >= self.copies

    def append(self, catalog_id: bytes, records: Sequence[LogRecord]) -> "asyncio.Future[None]":
        """All records are synced on `copies` nodes when the future is done. They are on their way when it returns: on a
        busy loop each turn costs as much as a disk does. The future fails with CatalogBusy: then any of them may lie on
        any node, and may be appended again. Cancelling it only means that nobody waits."""
        self._term = max(self._term, *(record.term for record in records))
        append = _Append(self, catalog_id, list(_frames(_pieces(records))), self._append_s_max)
        append.begin()
        return append.done

    async def store(
        self, catalog_id: bytes, term: int, entries: Iterable[LogEntry], deadline_s: float
    ) -> None:
        """The entries are synced on `copies` nodes when it returns. Raises CatalogBusy."""
        self._term = max(self._term, term)
        await _Store(self, catalog_id, list(_frames(entries)), deadline_s).run()

    # -- for _Store ------------------------------------------------------------------------------------------

    @property
    def term(self) -> int:
        """The highest known."""
        return self._term

    async def higher_term(self, refused: int) -> bool:
        """After a node refused that term: whether our catalog has a higher one."""
        if self._term <= refused:
            self._term = max(self._term, await self._read_term())
        return self._term > refused

    def candidates(self) -> list[int]:
        """The numbers of the nodes to ask, in this order."""
        able = [node for node in self._nodes.nodes if self._is_able(node)]
        return [node.number for node in sorted(able, key=self._preference)]

    def link(self, number: int) -> Link | None:
        return self._nodes.link(number)

    def patience_s(self, number: int) -> float:
        """How long the answer of that node may take before another one is asked too."""
        return self._nodes.write_patience_s(number, _APPEND)

    def standing(self) -> str:
        """How the nodes stand that are not able, for people."""
        unable = [node for node in self._nodes.nodes if not self._is_able(node)]
        links = [(node.name, self._nodes.link(node.number)) for node in unable]
        return "; ".join(
            f"{name}: {link.failure or 'takes no entries' if link else 'gone'}" for name, link in links
        )

    def _is_able(self, node: NodeInfo) -> bool:
        link = self._nodes.link(node.number)
        return (
            link is not None
            and link.up
            and link.version >= wire.VERSION_LOG
            and node.state not in _CLOSED
            and not link.write_breaker.blocked
        )

    def _preference(self, node: NodeInfo) -> tuple[bool, bool, int]:
        link = self._nodes.link(node.number)
        assert link is not None
        unwell = link.is_stalled(writing=True) or not link.breaker.closed or not link.write_breaker.closed
        return unwell, node.state == _LEAVING, node.number


class _Append:
    """An append as it goes nearly always: to the nodes that come first, which store it. It takes no task. Whatever else
    happens is left to a `_Store`, from the beginning, for to store something twice does no harm."""

    def __init__(self, sink: CatalogLog, catalog_id: bytes, frames: list[_Frame], deadline_s: float) -> None:
        self._sink = sink
        self._catalog_id = catalog_id
        self._frames = frames
        self._deadline_s = deadline_s
        self._missing = sink.copies
        self._store: asyncio.Task[None] | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        chosen = self._sink.candidates()[: self._missing]
        if len(chosen) < self._missing or len(self._frames) > 1:
            self._begin_again()
            return
        (frame,) = self._frames
        header = _header(self._catalog_id, self._sink.term, frame)
        for number in chosen:
            link = self._sink.link(number)
            assert link is not None, "a candidate is linked"
            patience_s = self._sink.patience_s(number)
            try:
                reply = link.call(_APPEND, header, frame.payload, self._deadline_s, patience_s)
            except LinkError:
                self._begin_again()
                return
            reply.add_done_callback(partial(self._heard, number))
            link.flush()

    def _heard(self, number: int, reply: "asyncio.Future[wire.Frame]") -> None:
        if self._store is not None:
            return
        error = None if reply.cancelled() else reply.exception()
        if reply.cancelled() or error is not None:
            self._begin_again(number if isinstance(error, CallLate) else None)
            return
        self._missing -= 1
        if not self._missing and not self.done.done():
            self.done.set_result(None)

    def _begin_again(self, late: int | None = None) -> None:
        store = _Store(self._sink, self._catalog_id, self._frames, self._deadline_s, late)
        self._store = asyncio.ensure_future(store.run())
        self._store.add_done_callback(self._stored)
        self.done.add_done_callback(self._nobody_waits)

    def _stored(self, store: asyncio.Task[None]) -> None:
        if self.done.done():
            return
        if store.cancelled():
            self.done.cancel()
        elif (error := store.exception()) is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)

    def _nobody_waits(self, _: "asyncio.Future[None]") -> None:
        assert self._store is not None
        self._store.cancel()


class _Attempt(NamedTuple):
    """A node that was asked, and since when it is late."""

    number: int
    late_s: float


class _Store:
    """One `store` under way. `late`: a node to ask last."""

    def __init__(
        self,
        sink: CatalogLog,
        catalog_id: bytes,
        frames: list[_Frame],
        deadline_s: float,
        late: int | None = None,
    ) -> None:
        self._sink = sink
        self._late = late
        self._catalog_id = catalog_id
        self._frames = frames
        self._clock = asyncio.get_running_loop().time
        now = self._clock()
        self._until_s = now + deadline_s
        self._return_until_s = now + _RETURN_S_MAX
        self._asked: dict[asyncio.Task[None], _Attempt] = {}
        self._failures: list[str] = []
        self._stored: set[int] = set()
        self._refused = False

    async def run(self) -> None:
        candidates = sorted(self._sink.candidates(), key=lambda number: number == self._late)
        missing = self._sink.copies
        try:
            while missing > 0:
                now = self._clock()
                in_time = sum(attempt.late_s > now for attempt in self._asked.values())
                for number in candidates[: missing - in_time] if missing > in_time else ():
                    candidates.remove(number)
                    self._ask(number, now)
                late = self._refused or now >= self._return_until_s
                if now >= self._until_s or (late and not self._asked):
                    raise CatalogBusy(self._why())
                if not self._asked:
                    # Too few are linked: one that was started again is so within a moment.
                    await asyncio.sleep(_RETURN_LOOK_S)
                    candidates = [n for n in self._sink.candidates() if n not in self._stored]
                    continue
                missing -= await self._hear(now)
        finally:
            for task in self._asked:  # what was sent is stored all the same, if the node still comes to it
                task.cancel()

    def _ask(self, number: int, now: float) -> None:
        task = asyncio.ensure_future(self._send(number))
        self._asked[task] = _Attempt(number, now + self._sink.patience_s(number))

    async def _hear(self, now: float) -> int:
        """Wait until a node has answered or is late; how many have stored it."""
        next_s = min([self._until_s, *(a.late_s for a in self._asked.values() if a.late_s > now)])
        done, _ = await asyncio.wait(
            self._asked, timeout=max(0.0, next_s - now), return_when=asyncio.FIRST_COMPLETED
        )
        stored = 0
        for task in [task for task in self._asked if task in done]:  # in an order that is always the same
            number, _ = self._asked.pop(task)
            error = task.exception()
            if error is None:
                stored += 1
                self._stored.add(number)
            elif isinstance(error, LinkError):
                self._refused = self._refused or isinstance(error, RemoteFault)
                self._failures = [*self._failures[-_FAILURES_TOLD:], f"node {number}: {error}"]
            else:
                raise error
        return stored

    async def _send(self, number: int) -> None:
        """Returns when that node has synced everything. Raises LinkError."""
        while True:
            link = self._sink.link(number)
            if link is None:
                raise LinkDown(f"node {number} is not part of the cluster any more")
            term, left_s = self._sink.term, self._until_s - self._clock()
            replies = [
                link.call(_APPEND, _header(self._catalog_id, term, frame), frame.payload, left_s)
                for frame in self._frames
            ]
            try:
                for reply in replies:
                    await reply
            except RemoteFault as fault:
                if fault.status != _FENCED or not await self._sink.higher_term(term):
                    raise
            else:
                return

    def _why(self) -> str:
        late = [f"node {attempt.number} is late" for attempt in self._asked.values()]
        reasons = "; ".join([*self._failures, *late]) or self._sink.standing()
        return f"the catalog's log needs {self._sink.copies} nodes: {reasons}"


def _header(catalog_id: bytes, term: int, frame: _Frame) -> bytes:
    return wire.encode(wire.AppendLog(catalog_id, term, frame.entries))


def _frames(entries: Iterable[LogEntry]) -> Iterator[_Frame]:
    taken: list[tuple[int, int, int, int, int, bytes]] = []
    payloads: list[bytes] = []
    nbytes = 0
    for name, payload in entries:
        if taken and (nbytes + len(payload) > _FRAME_BYTES or len(taken) == wire.APPEND_LOG_MAX):
            yield _Frame(taken, b"".join(payloads))
            taken, payloads, nbytes = [], [], 0
        taken.append((*name, len(payload), page_checksums(payload)))
        payloads.append(payload)
        nbytes += len(payload)
    if taken:
        yield _Frame(taken, b"".join(payloads))


def _pieces(records: Iterable[LogRecord]) -> Iterator[LogEntry]:
    """The entries of batches. A large one comes in pieces, whose names tell how many there are."""
    for record in records:
        payload = record.payload
        parts = [payload[at : at + PIECE_BYTES] for at in range(0, len(payload), PIECE_BYTES)]
        for piece, part in enumerate(parts):
            yield LogEntry(piece_name(record.term, record.batch, piece, len(parts)), part)
