"""What the catalog's crash test records: creation, writes one after another and side by side, a checkpoint.

python -m tests.crash.catalog_program DIRECTORY MARKS SEED
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from random import Random

from catalog import buckets, objects
from catalog.engine import Catalog, CatalogSettings, create
from catalog.model import Attributes, NewBlob
from catalog.transaction import Transaction

CLUSTER_ID = b"crash states 016"
SETTINGS = CatalogSettings(ballast_bytes=1 << 12, wal_bytes_max=64 << 10)
KEYS = 12
ROUNDS = 14


def etag_of(key: int, version: int) -> str:
    return f"{key}-{version}"


def blob_of(key: int, version: int) -> NewBlob:
    """A blob of its own for each version, as the front would have written it."""
    blob_id = (1).to_bytes(4, "big") + (version * KEYS + key).to_bytes(4, "big") + bytes(8)
    return NewBlob(id=blob_id, size=10, k=2, m=1, stripe_bytes=1 << 20, nodes=(1, 2, 3), stripes=1)


async def main(directory: Path, marks: int, random: Random) -> None:
    path = directory / "catalog.sqlite"
    create(path, cluster_id=CLUSTER_ID, nodes_hold_data=False, settings=SETTINGS)
    catalog = Catalog.open(path, SETTINGS)
    await catalog.start()
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

    for version in range(1, ROUNDS + 1):
        keys = random.sample(range(KEYS), random.randint(1, 6))
        await asyncio.gather(*((delete if random.random() < 0.25 else put)(key, version) for key in keys))
    await catalog.close()
    os.write(marks, b"closed\n")


if __name__ == "__main__":
    descriptor = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT, 0o600)
    asyncio.run(main(Path(sys.argv[1]), descriptor, Random(int(sys.argv[3]))))
