"""How the catalog grows: bytes an object, and what a read and a page cost at each size. The figures of docs/scaling.md:

python -m tests.docs.catalog_growth --objects 10000 100000 1000000
python -m tests.docs.catalog_growth --objects 10000 100000 --postgres
python -m tests.docs.catalog_growth --objects 100000 --migrate
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import uvloop
from pysqlite3 import dbapi2

from catalog import buckets, engine, listing, lookup, moving, objects
from catalog.engine import Catalog
from catalog.model import Attributes, Checksum
from catalog.transaction import Transaction
from tests.catalog.making import CLUSTER_ID, ETAG, new_blob
from tests.postgres import PostgresServer, empty_database, new_database

ATTRIBUTES = Attributes(checksum=Checksum("CRC64NVME", "FULL_OBJECT", "AAAAAAAAAAA="))
LAYOUTS = [(1, 2, 3), (2, 3, 1), (3, 1, 2), (1, 3, 2), (2, 1, 3), (3, 2, 1)]
GROUP, READS, PAGES = 500, 2000, 50


def key_of(number: int) -> bytes:
    """Some 40 bytes, as a camera's pictures have them; consecutive numbers lie far from each other."""
    scattered = int.from_bytes(hashlib.blake2b(number.to_bytes(8, "big"), digest_size=4).digest(), "big")
    return b"photos/2026/%02d/%02d/IMG-%010d-%08d" % (
        scattered % 12 + 1,
        scattered % 28 + 1,
        scattered,
        number,
    )


def _put_group(bucket_id: int, first: int, tx: Transaction) -> None:
    for number in range(first, first + GROUP):
        objects.put(
            tx,
            bucket_id=bucket_id,
            key=key_of(number),
            blob=new_blob(nodes=LAYOUTS[number % len(LAYOUTS)]),
            etag=ETAG,
            content_type="image/jpeg",
            attributes=ATTRIBUTES,
        )


async def _point(catalog: Catalog, bucket_id: int, there: int, turn: int) -> None:
    assert await lookup.lookup(catalog, bucket_id, key_of(turn * 7919 % there)) is not None


async def _page(catalog: Catalog, bucket_id: int, turn: int) -> None:
    after = key_of(turn * 613)
    await catalog.read(lambda reader: listing.list_objects(reader, bucket_id=bucket_id, after=after))


async def _each(count: int, one: Callable[[int], Awaitable[object]]) -> float:
    """Seconds that one of them takes in the middle."""
    took = []
    for number in range(count):
        began = time.perf_counter()
        await one(number)
        took.append(time.perf_counter() - began)
    return sorted(took)[count // 2]


async def grow(catalog: Catalog, sizes: list[int], stored_bytes: Callable[[], int]) -> None:
    """Prints a line at each size."""
    await catalog.start()
    bucket_id = (await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))).id
    empty, there = stored_bytes(), 0
    sys.stdout.write(
        "| objects | bytes an object | of them in all | point read | page of 1,000 | rate of PUTs |\n"
    )
    for size in sizes:
        began, before = time.perf_counter(), there
        for first in range(there, size, GROUP):
            await catalog.write(partial(_put_group, bucket_id, first))
        there, took = size, time.perf_counter() - began
        point_s = await _each(READS, partial(_point, catalog, bucket_id, there))
        page_s = await _each(PAGES, partial(_page, catalog, bucket_id))
        total = stored_bytes() - empty
        sys.stdout.write(
            f"| {size:,} | {total / size:.0f} | {total >> 20:,} MiB | {point_s * 1e6:.0f} µs | {page_s * 1e3:.2f} ms | "
            f"{(size - before) / took:,.0f}/s |\n"
        )
        sys.stdout.flush()
    await catalog.close()


def _sqlite_bytes(path: Path) -> int:
    # The same library as the catalog's: two in one process would undo each other's locks.
    with closing(dbapi2.connect(path)) as connection:
        pages, size, free = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "page_size", "freelist_count")
        )
    return int((pages - free) * size)


def _move(path: Path) -> None:
    """What `trivet catalog migrate` does; the checksums of both sides are part of its time."""
    server = PostgresServer()
    server.start()
    try:
        url = empty_database(server)
        name = url.rsplit("/", 1)[1]
        empty = int(str(server.execute(f"SELECT pg_database_size('{name}')")[0][0]))
        began = time.perf_counter()
        tables = moving.move(path, url, progress=lambda _table, _done, _of: None)
        took = time.perf_counter() - began
        total = int(str(server.execute(f"SELECT pg_database_size('{name}')")[0][0])) - empty
        rows = sum(table.rows for table in tables)
        sys.stdout.write(
            f"moved {rows:,} rows in {took:.1f} s, {rows / took:,.0f}/s, into {total >> 20:,} MiB\n"
        )
    finally:
        server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--migrate", action="store_true", help="move it into PostgreSQL afterwards")
    options = parser.parse_args()
    if options.postgres:
        server = PostgresServer()
        server.start()
        try:
            url = new_database(server)
            name = url.rsplit("/", 1)[1]

            def stored_bytes() -> int:
                return int(str(server.execute(f"SELECT pg_database_size('{name}')")[0][0]))

            uvloop.run(grow(Catalog.open(url), options.objects, stored_bytes))
        finally:
            server.close()
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "catalog.sqlite"
            engine.create(path, cluster_id=CLUSTER_ID, nodes_hold_data=False)
            uvloop.run(grow(Catalog.open(path), options.objects, lambda: _sqlite_bytes(path)))
            if options.migrate:
                _move(path)


if __name__ == "__main__":
    main()
