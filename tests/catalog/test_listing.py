"""LIST against a model of S3's rules, and its cost (P9)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import buckets, listing
from catalog.attributes import CHECKSUM_KINDS
from catalog.engine import Catalog
from catalog.model import Attributes, Checksum, Page
from catalog.statement import Parameters, Reader, Row, Statement
from tests.catalog.making import Clock, SqliteStore, new_blob, put

# Few letters, so that prefixes and delimiters meet; the least and the greatest bytes that UTF-8 has.
_LETTERS = st.sampled_from(["a", "b", "/", "é", "\x00", "\x7f", "\U0010ffff", "ab", "//"])
_KEYS = st.lists(_LETTERS, min_size=1, max_size=6).map(lambda letters: "".join(letters).encode())
_PREFIXES = st.lists(_LETTERS, max_size=3).map(lambda letters: "".join(letters).encode())
_DELIMITERS = st.sampled_from([b"", b"/", b"a", "é".encode(), b"//", b"ab", b"\x00", b"b/a"])


class _Live:
    """One catalog for all examples of a property, a new bucket for each."""

    def __init__(self, runner: asyncio.Runner, catalog: Catalog) -> None:
        self.runner = runner
        self.catalog = catalog
        self._buckets = 0

    def fill(self, keys: set[bytes]) -> int:
        """A new bucket with these keys."""
        self._buckets += 1
        name = f"bucket-{self._buckets}"

        async def make() -> int:
            bucket = await self.catalog.write(
                lambda tx: buckets.create(tx, name=name, owner="owner", region="region")
            )
            await asyncio.gather(*(put(self.catalog, bucket.id, key) for key in keys))
            return bucket.id

        return self.runner.run(make())

    def page(self, bucket_id: int, **question: Any) -> Page:
        """One page."""
        return self.runner.run(
            self.catalog.read(lambda reader: listing.list_objects(reader, bucket_id=bucket_id, **question))
        )


@contextmanager
def _live() -> Iterator[_Live]:
    with TemporaryDirectory() as directory, asyncio.Runner() as runner:
        catalog = SqliteStore(Path(directory)).open(Clock())
        runner.run(catalog.start())
        yield _Live(runner, catalog)
        runner.run(catalog.close())


def _elements(keys: set[bytes], prefix: bytes, delimiter: bytes) -> list[tuple[bytes, bool]]:
    """The model: all elements of a listing in order; the flag says common prefix."""
    found: set[tuple[bytes, bool]] = set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        found.add((key, False) if at < 0 else (key[: at + len(delimiter)], True))
    return sorted(found)


def _of(page: Page) -> list[tuple[bytes, bool]]:
    return sorted([(entry.key, False) for entry in page.entries] + [(one, True) for one in page.prefixes])


@pytest.fixture(scope="module")
def live() -> Iterator[_Live]:
    """Shared by the properties of this file."""
    with _live() as one:
        yield one


@given(
    keys=st.sets(_KEYS, max_size=60),
    prefix=_PREFIXES,
    delimiter=_DELIMITERS,
    markers=st.lists(_KEYS, max_size=4),
    limit=st.integers(0, 30),
)
def test_a_page_is_what_the_model_says(
    live: _Live, *, keys: set[bytes], prefix: bytes, delimiter: bytes, markers: list[bytes], limit: int
) -> None:
    """Elements greater than the marker, in order, up to the limit; whatever the marker is: a key, a common
    prefix, something between or inside."""
    bucket_id = live.fill(keys)
    elements = _elements(keys, prefix, delimiter)
    for after in [b"", prefix, *markers, *(element for element, _ in elements[:3])]:
        rest = [element for element in elements if element[0] > after]
        page = live.page(bucket_id, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        assert _of(page) == rest[:limit]
        assert [entry.key for entry in page.entries] == sorted(entry.key for entry in page.entries)
        assert page.prefixes == sorted(page.prefixes)
        assert page.truncated == (0 < limit < len(rest))
        assert page.last == (rest[:limit][-1][0] if rest[:limit] else b"")


@given(keys=st.sets(_KEYS, max_size=20), prefix=_PREFIXES, delimiter=_DELIMITERS)
def test_pages_of_every_size_make_the_same_whole(
    live: _Live, keys: set[bytes], prefix: bytes, delimiter: bytes
) -> None:
    """Following `last` from page to page, at every limit."""
    bucket_id = live.fill(keys)
    whole = _elements(keys, prefix, delimiter)
    for limit in range(1, len(whole) + 2):
        found: list[tuple[bytes, bool]] = []
        after = b""
        while True:
            page = live.page(bucket_id, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
            found += _of(page)
            if not page.truncated:
                break
            after = page.last
        assert found == whole


async def test_an_entry_says_what_list_shows(catalog: Catalog, bucket_id: int, clock: Clock) -> None:
    """Size, ETag, time, storage class, kind of checksum; keys of the greatest length."""
    key = b"k" * 1024
    for kind in CHECKSUM_KINDS:
        attributes = Attributes(checksum=Checksum(*kind, "value"), storage_class="GLACIER")
        await put(catalog, bucket_id, key, new_blob(size=7), etag="e-7", attributes=attributes)
        page = await catalog.read(lambda reader: listing.list_objects(reader, bucket_id=bucket_id))
        (entry,) = page.entries
        assert (entry.key, entry.size, entry.etag, entry.modified_ms) == (key, 7, "e-7", clock.now_ms)
        assert (entry.storage_class, entry.checksum_algorithm, entry.checksum_type) == ("GLACIER", *kind)
    await put(catalog, bucket_id, key)
    page = await catalog.read(lambda reader: listing.list_objects(reader, bucket_id=bucket_id))
    assert (page.entries[0].storage_class, page.entries[0].checksum_type) == ("STANDARD", None)


async def test_buckets_do_not_see_each_other(catalog: Catalog, bucket_id: int) -> None:
    """The key range of one ends where the next begins."""
    other = await catalog.write(lambda tx: buckets.create(tx, name="other", owner="owner", region="region"))
    await put(catalog, bucket_id, b"\xf4\x8f\xbf\xbf")
    await put(catalog, other.id, b"\x00")
    for one, key in ((bucket_id, b"\xf4\x8f\xbf\xbf"), (other.id, b"\x00")):
        page = await catalog.read(lambda reader, b=one: listing.list_objects(reader, bucket_id=b))  # type: ignore[misc]
        assert [entry.key for entry in page.entries] == [key]


class _CountingReader(Reader):
    """Counts statements and rows."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader._cursor, reader._dialect)
        self.statements = 0
        self.rows_read = 0

    def rows(self, statement: Statement, parameters: Parameters = ()) -> list[Row]:
        """As Reader.rows."""
        found = super().rows(statement, parameters)
        self.statements += 1
        self.rows_read += len(found)
        return found


@pytest.mark.parametrize(
    ("shape", "rows_per_element"),
    [
        ("flat", 2),
        ("one deep directory each", 3),
        ("many keys below each prefix", 3),
        ("keys and directories mixed", 4),
    ],
)
async def test_p9_a_page_costs_what_it_shows(
    catalog: Catalog, bucket_id: int, shape: str, rows_per_element: int
) -> None:
    """A page of 50 out of a thousand keys or more, of every shape: rows read in proportion to the page, never to
    what lies below its prefixes. Break caught: a walk that reads on instead of seeking past a prefix."""
    keys = {
        "flat": [b"%05d" % number for number in range(1000)],
        "one deep directory each": [b"%05d/x" % number for number in range(1000)],
        "many keys below each prefix": [b"%03d/%03d" % (n // 30, n % 30) for n in range(1800)],
        "keys and directories mixed": [
            b"%03d/%03d" % (n // 30, n % 30) if n // 30 % 2 else b"%05d" % n for n in range(1800)
        ],
    }[shape]

    for start in range(0, len(keys), 500):
        await asyncio.gather(*(put(catalog, bucket_id, key) for key in keys[start : start + 500]))

    def count(reader: Reader) -> tuple[Page, int, int]:
        counting = _CountingReader(reader)
        page = listing.list_objects(counting, bucket_id=bucket_id, delimiter=b"/", after=b"00", limit=50)
        return page, counting.rows_read, counting.statements

    page, rows_read, statements = await catalog.read(count)
    assert _of(page) == [element for element in _elements(set(keys), b"", b"/") if element[0] > b"00"][:50]
    assert rows_read <= rows_per_element * 50
    assert statements <= 2 * 50
