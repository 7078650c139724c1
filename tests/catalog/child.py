"""Another process at the same catalog: `child.py COMMAND DIRECTORY …`, run by the tests of several processes."""

import asyncio
import fcntl
import itertools
import os
import resource
import signal
import sys
from pathlib import Path

from catalog import backup, buckets, objects
from catalog.engine import Catalog, CatalogSettings
from catalog.lock import FileLock
from catalog.model import Attributes, NewBlob


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _put(catalog: Catalog, bucket_id: int, key: str) -> None:
    blob = NewBlob((1).to_bytes(4, "big") + os.urandom(12), 4096, 2, 1, 1 << 20, (1, 2, 3), 1)
    await catalog.write(
        lambda tx: objects.put(
            tx,
            bucket_id=bucket_id,
            key=key.encode(),
            blob=blob,
            etag="",
            content_type="",
            attributes=Attributes(),
        ),
        blob=blob,
    )


async def put_many(path: Path, bucket_id: int, prefix: str, clients: int, count: int) -> None:
    """Each client puts `count` keys; each key is said when it is acknowledged."""
    catalog = Catalog.open(path, CatalogSettings(ballast_bytes=1 << 16, wal_bytes_max=1 << 20))
    await catalog.start()

    async def client(number: int) -> None:
        for turn in range(count):
            key = f"{prefix}-{number}-{turn}"
            await _put(catalog, bucket_id, key)
            _say(key)

    await asyncio.gather(*(client(number) for number in range(clients)))
    await catalog.close()


async def put_until_files_may_not_grow(path: Path, bucket_id: int) -> None:
    """Put keys, then let every write to a file fail, and put one more: the commit has an I/O error."""
    catalog = Catalog.open(path, CatalogSettings(ballast_bytes=1 << 16))
    await catalog.start()
    await _put(catalog, bucket_id, "before")
    _say("before")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    await _put(catalog, bucket_id, "after")
    _say("after")


async def replace_bucket(path: Path, name: str, owner: str) -> None:
    """Delete a bucket and create it again for another owner."""
    catalog = Catalog.open(path, CatalogSettings(ballast_bytes=1 << 16))
    await catalog.start()
    bucket = await buckets.get(catalog, name)
    if bucket is not None:
        await catalog.write(lambda tx: buckets.delete(tx, bucket.id))
    await catalog.write(lambda tx: buckets.create(tx, name=name, owner=owner, region="r"))
    await catalog.close()


def back_up_and_restore(path: Path, directory: Path) -> None:
    """Again and again, each to a name of its own that is said when it is done, until killed."""
    for turn in itertools.count():
        copied, restored = directory / f"backup-{turn}", directory / f"restored-{turn}"
        backup.backup(path, copied)
        _say(copied.name)
        backup.restore(copied, restored)
        _say(restored.name)


def hold_lock(path: Path) -> None:
    """Take the catalog's lock, say so, and freeze until standard input ends."""
    lock = FileLock(path.with_name("catalog.lock"))
    lock.acquire()
    _say("held")
    sys.stdin.read()


def act_as_recovery(path: Path) -> None:
    """Look like a process that rebuilds the write-ahead log's index after a crash, until standard input ends:
    its two locks are held and the index has no valid header. Readers find the database busy."""
    index = os.open(f"{path}-shm", os.O_RDWR)
    for lock_byte in (120, 122):
        fcntl.lockf(index, fcntl.LOCK_EX, 1, lock_byte)
    os.pwrite(index, bytes(96), 0)
    _say("held")
    sys.stdin.read()


def main() -> None:
    """Run one command."""
    command, path, *rest = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]
    match command:
        case "put":
            asyncio.run(put_many(path, int(rest[0]), rest[1], int(rest[2]), int(rest[3])))
        case "full-disk-error":
            asyncio.run(put_until_files_may_not_grow(path, int(rest[0])))
        case "replace-bucket":
            asyncio.run(replace_bucket(path, rest[0], rest[1]))
        case "back-up":
            back_up_and_restore(path, Path(rest[0]))
        case "recover":
            act_as_recovery(path)
        case "hold":
            hold_lock(path)
        case _:
            raise SystemExit(f"unknown command {command}")


if __name__ == "__main__":
    main()
