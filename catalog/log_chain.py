"""What several nodes hold of the catalog's log, as one, and the chain in it that leads to the newest state (S17)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from catalog.batch_records import UNLOGGED, Header, RecordDamaged, header_of
from catalog.errors import CatalogRefused
from catalog.log_records import BATCH, LogSource, LogUnreadable
from catalog.snapshots import SnapshotDamaged, chunk_header


class State(NamedTuple):
    """The catalog as of the end of a batch."""

    term: int
    batch: int


class Chain(NamedTuple):
    """From `base`, a whole snapshot or, with batch 0, the catalog as it was created, by these batches in order."""

    base: State
    batches: list[State]


class Log:
    """Everything that the sources hold of the catalog that the newest of them obeys. `nodes`: how many of the sources
    are not another catalog's."""

    def __init__(self, sources: Sequence[LogSource[Any]]) -> None:
        """Raises CatalogRefused when no source knows a catalog."""
        known = [source for source in sources if source.catalog_id]
        if not known:
            raise CatalogRefused("no node was ever told of a catalog: there is nothing to restore")
        self.catalog_id = max(known, key=lambda source: source.term).catalog_id
        self.nodes = sum(source.catalog_id in (b"", self.catalog_id) for source in sources)
        self.unreadable: list[str] = []
        self._batches: dict[State, list[tuple[LogSource[Any], Any]]] = defaultdict(list)
        self._chunks: dict[State, dict[int, list[tuple[LogSource[Any], Any]]]] = defaultdict(dict)
        for source in sources:
            for name in source.names():
                state = State(name.term, name.batch)
                if name.kind == BATCH:
                    self._batches[state].append((source, name))
                else:
                    self._chunks[state].setdefault(name.chunk, []).append((source, name))
        self._headers: dict[State, Header | None] = {}
        self._chunk_counts: dict[State, int] = {}
        self._in_doubt: set[State] = set()

    def chain(self, *, past_gaps: bool) -> Chain:
        """The one that leads to the newest state. Raises CatalogRefused when there is none, or when newer batches are
        there that no chain leads to; with `past_gaps` these are left out."""
        newest: State | None = None
        for tip in sorted({*self._batches, *self._chunks}, reverse=True):
            there = self._is_there(tip)
            if newest is None and (there or tip in self._in_doubt):
                newest = tip
            if there and (chain := self._back_from(tip)) is not None:
                if newest is not None and tip != newest and not past_gaps:
                    raise CatalogRefused(
                        f"batch {newest.batch} of term {newest.term} is there, but not all that leads to it can be "
                        f"had: without a gap it goes to batch {tip.batch} of term {tip.term}. {self._missing()}"
                    )
                return chain
        raise CatalogRefused(
            f"these nodes hold no snapshot of the catalog with all that leads on. {self._missing()}"
        )

    def copies_of(self, chain: Chain) -> int:
        """On how many of this catalog's nodes among the sources each part of the chain lies, at least: by what they
        list, and as far as it was read."""
        parts = [self._batches[state] for state in chain.batches]
        if chain.base.batch > 0:
            chunks = self._chunks[chain.base]
            parts += [chunks[number] for number in range(self._chunk_counts[chain.base])]
        in_doubt = any(state in self._in_doubt for state in (chain.base, *chain.batches))
        return (
            min(sum(source.catalog_id == self.catalog_id for source, _ in part) for part in parts) - in_doubt
        )

    def record(self, state: State) -> bytes:
        """Of a batch of the chain. Raises CatalogRefused when it can't be read any more, or is not the same on all
        nodes: a catalog that was put back without `restore` has gone on under its old term, and histories are mixed."""
        found: set[bytes] = set()
        for payload in self._payloads(state, self._batches[state]):
            try:
                if self._is_of(state, header_of(payload)):
                    found.add(payload)
            except RecordDamaged as error:
                self._is_bad(state, error)
        if not found:
            raise CatalogRefused(f"batch {state.batch} of term {state.term} can't be read. {self._missing()}")
        if len(found) > 1:
            raise CatalogRefused(
                f"these nodes hold two different batches {state.batch} of term {state.term}: an older state of the "
                "catalog was put in its place by other means than a restore. Name the directory of one node only, or "
                "restore a backup"
            )
        return found.pop()

    def chunks(self, state: State) -> Iterator[bytes]:
        """Of a snapshot that is a base. Raises CatalogRefused when one can't be read any more."""
        of_state = self._chunks[state]
        for number in range(len(of_state)):
            chunk = self._chunk(state, number)
            if chunk is None:
                raise CatalogRefused(f"chunk {number} of the snapshot can't be read. {self._missing()}")
            yield chunk
            if chunk_header(chunk).is_last:
                return

    def _missing(self) -> str:
        told = f" Unreadable: {'; '.join(self.unreadable[:5])}." if self.unreadable else ""
        return f"Name the directories of more nodes, if there are any.{told}"

    def _back_from(self, tip: State) -> Chain | None:
        batches: list[State] = []
        at = tip
        while not self._has_snapshot(at):
            header = self._header(at)
            if header is None or header.previous_term == UNLOGGED:
                return None
            batches.append(at)
            at = State(header.previous_term, header.previous_batch)
            if at.batch == 0:
                break
        batches.reverse()
        return Chain(at, batches)

    def _is_there(self, state: State) -> bool:
        return self._header(state) is not None or self._has_snapshot(state)

    def _header(self, state: State) -> Header | None:
        if state not in self._headers:
            self._headers[state] = self._read_header(state)
        return self._headers[state]

    def _read_header(self, state: State) -> Header | None:
        for payload in self._payloads(state, self._batches.get(state, [])):
            try:
                header = header_of(payload)
            except RecordDamaged as error:
                self._is_bad(state, error)
                continue
            if self._is_of(state, header):
                return header
        return None

    def _is_of(self, state: State, header: Header) -> bool:
        return header.catalog_id == self.catalog_id and (header.term, header.batch) == state

    def _has_snapshot(self, state: State) -> bool:
        if state not in self._chunks:
            return False
        if state not in self._chunk_counts:
            self._chunk_counts[state] = self._count_chunks(state)
        return self._chunk_counts[state] > 0

    def _count_chunks(self, state: State) -> int:
        """0: it is not whole."""
        for number in range(len(self._chunks[state])):
            chunk = self._chunk(state, number)
            if chunk is None:
                return 0
            if chunk_header(chunk).is_last:
                return number + 1
        return 0

    def _chunk(self, state: State, number: int) -> bytes | None:
        for payload in self._payloads(state, self._chunks[state].get(number, [])):
            try:
                header = chunk_header(payload)
            except SnapshotDamaged as error:
                self._is_bad(state, error)
                continue
            if (header.catalog_id, header.term, header.batch) == (self.catalog_id, *state):
                return payload
        return None

    def _payloads(self, state: State, places: list[tuple[LogSource[Any], Any]]) -> Iterator[bytes]:
        """What can be read of that state, one source after the other."""
        for source, name in places:
            try:
                yield source.read(name)
            except LogUnreadable as error:
                self._is_bad(state, error)

    def _is_bad(self, state: State, error: Exception) -> None:
        """A node says that it has something of that state, and it can't be used: unless another node has it, what was
        answered may go further than what is left shows."""
        self.unreadable.append(str(error))
        self._in_doubt.add(state)
