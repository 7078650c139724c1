"""Storage nodes as the catalog's log sees them, in memory."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from catalog.errors import CatalogBusy
from catalog.log_records import BATCH, SNAPSHOT, LogRecord, LogUnreadable


class Name(NamedTuple):
    """Of an entry."""

    kind: int
    term: int
    batch: int
    chunk: int


class Node:
    """One node's share of the log; a `LogSource`."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.catalog_id = b""
        self.term = 0
        self.entries: dict[Name, bytes] = {}
        self.rotten: set[Name] = set()  # listed, and can't be read

    def names(self) -> list[Name]:
        return sorted(self.entries)

    def read(self, name: Name) -> bytes:
        if name not in self.entries or name in self.rotten:
            raise LogUnreadable(f"{self.what}: {name}")
        return self.entries[name]

    def add(self, catalog_id: bytes, name: Name, payload: bytes) -> None:
        self.catalog_id, self.term = catalog_id, max(self.term, name.term)
        self.entries[name] = payload


class Nodes:
    """Three of them, as a `LogSink`: each append goes to two, in turn. `held` keeps appends on their way; `refused` so
    many of the next ones."""

    def __init__(self) -> None:
        self.all = [Node(f"node {number}") for number in (1, 2, 3)]
        self.ready = True
        self.refused = 0
        self.appends: list[list[int]] = []
        self.passing = asyncio.Event()
        self.passing.set()

    async def append(self, catalog_id: bytes, records: Sequence[LogRecord]) -> None:
        self.appends.append([record.batch for record in records])
        turn = len(self.appends)
        await self.passing.wait()
        if self.refused:
            self.refused -= 1
            raise CatalogBusy("a test refuses it")
        count = len(self.all)
        for node in (self.all[turn % count], self.all[(turn + 1) % count]):
            for record in records:
                node.add(catalog_id, Name(BATCH, record.term, record.batch, 0), record.payload)

    def add_snapshot(self, catalog_id: bytes, made: tuple[int, int, Sequence[bytes]]) -> None:
        """On the first two."""
        batch, term, chunks = made
        for node in self.all[:2]:
            for number, chunk in enumerate(chunks):
                node.add(catalog_id, Name(SNAPSHOT, term, batch, number), chunk)
