"""100,000 keys, listed by every shape of delimiter and prefix, against a model that looks at all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from catalog import listing, version_listing
from catalog.transaction import Transaction
from catalog.version_rows import VALUES
from tests.large.conftest import Front

SHAPES: list[tuple[bytes, bytes]] = [
    (prefix, delimiter)
    for delimiter in (b"", b"/", b"//", b"-", "é".encode(), b"0/", b"none")
    for prefix in (b"", b"d", b"deep/", b"wide/0", b"deep/00/1", b"m/", b"no such")
]
_ROW: dict[str, object] = {
    "sequence": 1,
    "size": 1,
    "modified_ms": 1,
    "etag": "e",
    "storage_class": None,
    "checksum_code": None,
    "blob_id": b"",
    "version_id": None,
    "content_type": "a/b",
    "attributes": None,
}


def keys(count: int, random: Random) -> list[bytes]:
    """Flat, deep and wide ones; prefixes that are keys too; doubled, trailing and foreign delimiters."""
    made: set[bytes] = set()
    shapes: tuple[Callable[[int], bytes], ...] = (
        lambda n: b"flat-%06d" % n,
        lambda n: b"wide/%06d" % n,
        lambda n: b"deep/%02d/%02d/%d" % (n % 7, n % 31, n),
        lambda n: b"m//%d//%d" % (n % 100, n),
        lambda n: b"%d/" % n,
        lambda n: b"%d" % n,
        lambda n: "é%dé/%d".encode() % (n % 50, n),
        lambda n: bytes(random.choices(b"/-0d\xc3\xa9\xff", k=random.randint(1, 12))),
    )
    while len(made) < count:
        for shape in shapes:
            made.add(shape(len(made)))
    return sorted(made)[:count]


def modelled(held: list[bytes], prefix: bytes, delimiter: bytes) -> list[tuple[bytes, bool]]:
    """All that a listing shows, in order; the flag says common prefix."""
    found: dict[tuple[bytes, bool], None] = {}
    for key in held:
        if key.startswith(prefix):
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            found[(key, False) if at < 0 else (key[: at + len(delimiter)], True)] = None
    return sorted(found)


@pytest.fixture(
    scope="module", params=[10_000, pytest.param(100_000, marks=pytest.mark.long)], ids=["short", "long"]
)
def filled(front: Front, request: pytest.FixtureRequest) -> tuple[int, list[bytes]]:
    """A bucket whose rows were written without the rest of a PUT, which a listing never looks at."""
    held = keys(request.param, Random(6))
    bucket_id = front.bucket(f"keys-{request.param}")
    values = [_ROW[name] for name in VALUES]
    marks = ", ".join("?" * (len(VALUES) + 2))
    insert = f"INSERT INTO objects (bucket_id, key, {', '.join(VALUES)}) VALUES ({marks})"

    def fill(tx: Transaction, some: list[bytes]) -> None:
        tx._cursor.executemany(insert, [(bucket_id, key, *values) for key in some])  # type: ignore[attr-defined]

    for at in range(0, len(held), 20_000):
        front.run(front.catalog.write(partial(fill, some=held[at : at + 20_000])))
    return bucket_id, held


@pytest.mark.parametrize(("prefix", "delimiter"), SHAPES)
def test_the_listing_is_the_model_s(
    front: Front, filled: tuple[int, list[bytes]], prefix: bytes, delimiter: bytes
) -> None:
    """Page by page, of keys and of versions. Red when a walk loses, repeats or misplaces anything at the edge of a page
    or of a prefix."""
    bucket_id, held = filled
    expected = modelled(held, prefix, delimiter)
    shape: dict[str, Any] = {"bucket_id": bucket_id, "prefix": prefix, "delimiter": delimiter}
    found: list[tuple[bytes, bool]] = []
    after, truncated = b"", True
    while truncated:
        page = front.run(front.catalog.read(partial(listing.list_objects, **shape, after=after)))
        found += sorted([(one.key, False) for one in page.entries] + [(one, True) for one in page.prefixes])
        after, truncated = page.last, page.truncated
    assert found == expected
    found, key, version, truncated = [], b"", "", True
    while truncated:
        one_page = partial(version_listing.list_versions, **shape, key_marker=key, version_marker=version)
        versions = front.run(front.catalog.read(one_page))
        shown = [(one.key, False) for one in versions.entries]
        found += sorted(shown + [(one, True) for one in versions.prefixes])
        key, version, truncated = versions.next_key, versions.next_version, versions.truncated
    assert found == expected
