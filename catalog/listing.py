"""LIST pages: S3's rules of order, prefix, delimiter and marker, at a cost of O(page) (P9).

The elements of a listing are the keys without the delimiter after the prefix, and the common prefixes of the
others; all are ordered by bytes, and a page holds those greater than `after`. So a marker inside a common
prefix skips it. The walk seeks past each common prefix: it never reads through what lies below one.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from catalog import schema
from catalog.attributes import CHECKSUM_KINDS
from catalog.model import ListEntry, Page
from catalog.statement import Reader, Row, Statement, page, parameter

_FIRST_CHUNK_ROWS = 16
# Above every key: keys have at most 1,024 bytes.
_BEYOND = b"\xff" * 1025

_objects = schema.objects
_LIST = Statement(
    page(
        sa.select(
            _objects.c.key,
            _objects.c.size,
            _objects.c.etag,
            _objects.c.modified_ms,
            _objects.c.storage_class,
            _objects.c.checksum_code,
        )
        .where(
            _objects.c.bucket_id == parameter("p_bucket"),
            _objects.c.key >= parameter("p_from"),
            _objects.c.key < parameter("p_to"),
        )
        .order_by(_objects.c.key)
    ),
    "p_bucket",
    "p_from",
    "p_to",
    "limit",
)

Position = tuple[bytes, str]
"""Where a walk goes on: a key, and what orders rows of one key (empty: before all of them)."""

Fetch = Callable[[Position, bytes, int], list[Row]]
"""Rows at or after a position, below a key, ascending, so many at most; the key is each row's first column."""


def successor(prefix: bytes) -> bytes:
    """The least key above all that begin with the prefix."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else _BEYOND


def after_key(row: Row) -> Position:
    """The position after a row whose key has no other row."""
    return row[0] + b"\0", ""


class Walk:
    """One page's walk over ordered rows. After `run`: `prefixes`, `truncated`, `last`."""

    def __init__(self, *, prefix: bytes, delimiter: bytes, after: bytes, limit: int) -> None:
        self.prefix = prefix
        self.delimiter = delimiter
        self.after = after
        self.limit = limit
        self.prefixes: list[bytes] = []
        self.truncated = False
        self.last = b""

    def run(self, fetch: Fetch, *, step: Callable[[Row], Position] = after_key, tie: str = "") -> list[Row]:
        """The page's rows. `tie` is the marker among the rows of the key `after`: empty skips them all."""
        if self.limit <= 0:
            return []
        position, beyond = self._start(tie), successor(self.prefix)
        rows = (
            self._rolled(fetch, step, position, beyond)
            if self.delimiter
            else self._flat(fetch, position, beyond)
        )
        last_key = rows[-1][0] if rows else b""
        self.last = max(last_key, self.prefixes[-1]) if self.prefixes else last_key
        return rows

    def _start(self, tie: str) -> Position:
        after, prefix = self.after, self.prefix
        if self.delimiter and after.startswith(prefix):
            rolled = self._common_prefix(after)
            if rolled is not None:
                return successor(rolled), ""
        if not after or after < prefix:
            return prefix, ""
        return (after, tie) if tie else (after + b"\0", "")

    def _common_prefix(self, key: bytes) -> bytes | None:
        found = key.find(self.delimiter, len(self.prefix))
        return None if found < 0 else key[: found + len(self.delimiter)]

    def _flat(self, fetch: Fetch, position: Position, beyond: bytes) -> list[Row]:
        rows = fetch(position, beyond, self.limit + 1)
        self.truncated = len(rows) > self.limit
        return rows[: self.limit]

    def _rolled(
        self, fetch: Fetch, step: Callable[[Row], Position], position: Position, beyond: bytes
    ) -> list[Row]:
        entries: list[Row] = []
        chunk = min(self.limit + 1, _FIRST_CHUNK_ROWS)
        while True:
            rows = fetch(position, beyond, chunk)
            before = len(entries) + len(self.prefixes)
            inside = self._take(rows, entries)
            if self.truncated or len(rows) < chunk:
                return entries
            position = step(rows[-1]) if inside is None else (successor(inside), "")
            # Read ahead as long as it pays: rows below a common prefix are read for nothing.
            taken = len(entries) + len(self.prefixes)
            chunk = chunk * 2 if taken - before == chunk else max(1, (taken - before) // 2)
            chunk = min(chunk, self.limit + 1 - taken)

    def _take(self, rows: list[Row], entries: list[Row]) -> bytes | None:
        """Sort rows into entries and prefixes, until the page is full; the prefix the last row lies in."""
        inside: bytes | None = None
        for row in rows:
            key: bytes = row[0]
            if inside is not None and key.startswith(inside):
                continue
            if len(entries) + len(self.prefixes) == self.limit:
                self.truncated = True
                return None
            inside = self._common_prefix(key)
            if inside is None:
                entries.append(row)
            else:
                self.prefixes.append(inside)
        return inside


def list_objects(
    reader: Reader,
    *,
    bucket_id: int,
    prefix: bytes = b"",
    delimiter: bytes = b"",
    after: bytes = b"",
    limit: int = 1000,
) -> Page:
    """One page of current keys greater than `after`; `limit` counts keys and common prefixes together. With
    a limit of 0 the page is empty and not truncated, as S3 has it."""
    walk = Walk(prefix=prefix, delimiter=delimiter, after=after, limit=limit)
    rows = walk.run(
        lambda position, beyond, count: reader.rows(_LIST, (bucket_id, position[0], beyond, count))
    )
    return Page([_entry(row) for row in rows], walk.prefixes, walk.truncated, walk.last)


def _entry(row: Row) -> ListEntry:
    key, size, etag, modified_ms, storage_class, code = row
    algorithm, kind = (None, None) if code is None else CHECKSUM_KINDS[code]
    return ListEntry(key, size, etag, modified_ms, storage_class or "STANDARD", algorithm, kind)
