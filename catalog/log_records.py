"""What the embedded catalog asks of the storage nodes, so that it does not live on one disk alone (S17).

The catalog hands the records of its group commits to a `LogSink`, and is made again from what `LogSource`s hold.
Both are implemented in `cluster`, which this package does not import.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

BATCH = 0
SNAPSHOT = 1
CHUNK_BYTES_MAX = 1 << 20
"""Of one chunk of a snapshot."""


class LogRecord(Struct, frozen=True):
    """One group commit: `payload` says what it changed (`batch_records.py`)."""

    term: int
    batch: int
    payload: bytes


class LogSink(Protocol):
    """Where group commits go."""

    @property
    def ready(self) -> bool:
        """Whether enough nodes are connected for an append to succeed. Asked for every write: cheap."""

    def append(self, catalog_id: bytes, records: Sequence[LogRecord]) -> Awaitable[None]:
        """All of them are durable on as many nodes as the store wants when what it gives is done. An entry that is
        there already is replaced. Appends overlap, and are done in any order. Raises CatalogBusy, then, when that can't
        be had in time: each of them may be there or not."""


class LogUnreadable(Exception):
    """An entry can't be had from this source: it is gone, damaged, or the node does not answer."""


class LogEntryName(Protocol):
    """The name of what a source holds: a group commit, or a chunk of the snapshot that holds all up to `batch`."""

    @property
    def kind(self) -> int:
        """BATCH or SNAPSHOT."""

    @property
    def term(self) -> int:
        """The catalog's term at that commit (S18)."""

    @property
    def batch(self) -> int:
        """The number of the commit."""

    @property
    def chunk(self) -> int:
        """Of a snapshot, counted from 0; 0 for a group commit."""


Name = TypeVar("Name", bound=LogEntryName)


class LogSource(Protocol[Name]):
    """What one node holds. For synchronous code."""

    @property
    def what(self) -> str:
        """Which node this is, for people."""

    @property
    def catalog_id(self) -> bytes:
        """The catalog that the node obeys; empty if it knows none."""

    @property
    def term(self) -> int:
        """The highest term of that catalog that it has seen."""

    def names(self) -> Sequence[Name]:
        """All entries, sorted by (kind, term, batch, chunk)."""

    def read(self, name: Name) -> bytes:
        """The payload, verified. Raises LogUnreadable."""
