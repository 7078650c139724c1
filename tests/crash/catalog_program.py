"""What the catalog's crash test records: creation, writes one after another and side by side, a checkpoint; its log
goes to two nodes, which a crash of the catalog's machine leaves as they are.

python -m tests.crash.catalog_program DIRECTORY MARKS SEED
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

from catalog import buckets, objects
from catalog.engine import Catalog, CatalogSettings, create
from catalog.log_records import LogRecord
from catalog.model import Attributes, NewBlob
from catalog.transaction import Transaction

CLUSTER_ID = b"crash states 016"
SETTINGS = CatalogSettings(ballast_bytes=1 << 12, wal_bytes_max=64 << 10, copies=2)
NODES = 2
_TRAVEL_S = 0.004
KEYS = 12
ROUNDS = 14


def etag_of(key: int, version: int) -> str:
    return f"{key}-{version}"


def blob_of(key: int, version: int) -> NewBlob:
    """A blob of its own for each version, as the front would have written it."""
    blob_id = (1).to_bytes(4, "big") + (version * KEYS + key).to_bytes(4, "big") + bytes(8)
    return NewBlob(id=blob_id, size=10, k=2, m=1, stripe_bytes=1 << 20, nodes=(1, 2, 3), stripes=1)


class MarkedNodes:
    """A `LogSink`: what a node has is a mark. Records travel for a while, and reach one node before the other."""

    ready = True

    def __init__(self, marks: int) -> None:
        self._marks = marks

    async def append(self, catalog_id: bytes, records: Sequence[LogRecord]) -> None:
        for node in range(NODES):
            await asyncio.sleep(_TRAVEL_S)
            for record in records:
                where = node, record.term, record.batch
                os.write(self._marks, b"stored %d %d %d %s\n" % (*where, record.payload.hex().encode()))


async def main(directory: Path, marks: int, random: Random) -> None:
    path = directory / "catalog.sqlite"
    create(path, cluster_id=CLUSTER_ID, nodes_hold_data=False, settings=SETTINGS)
    catalog = Catalog.open(path, SETTINGS)
    await catalog.start()
    catalog.replicate_to(MarkedNodes(marks))
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="us-east-1"))
    os.write(marks, b"made\n")

    async def put(key: int, version: int) -> None:
        os.write(marks, b"try %d %d\n" % (key, version))
        blob = blob_of(key, version)

        def commit(tx: Transaction) -> None:
            objects.put(
                tx,
                bucket_id=bucket.id,
                key=b"key-%d" % key,
                blob=blob,
                etag=etag_of(key, version),
                content_type="text/plain",
                attributes=Attributes(metadata={"pad": "x" * 900}),
            )

        await catalog.write(commit, blob=blob)
        os.write(marks, b"done %d %d\n" % (key, version))

    async def delete(key: int, _version: int) -> None:
        os.write(marks, b"try %d 0\n" % key)
        await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket.id, key=b"key-%d" % key))
        os.write(marks, b"done %d 0\n" % key)

    async def change(key: int, version: int, chance: float) -> None:
        await asyncio.sleep(chance * 4 * _TRAVEL_S)  # some of them while others travel
        await (delete if chance < 0.25 else put)(key, version)

    for version in range(1, ROUNDS + 1):
        keys = random.sample(range(KEYS), random.randint(1, 6))
        await asyncio.gather(*(change(key, version, random.random()) for key in keys))
    await catalog.close()
    os.write(marks, b"closed\n")


if __name__ == "__main__":
    descriptor = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT, 0o600)
    asyncio.run(main(Path(sys.argv[1]), descriptor, Random(int(sys.argv[3]))))
