"""Figures of the catalog alone, by hand: `python -m tests.catalog.measure [DIRECTORY]`. What a statement, a
page and a group commit cost, beside an idle event loop and beside one that is never idle."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from catalog import buckets, engine, listing, lookup, objects
from catalog.engine import Catalog
from catalog.model import Attributes, Checksum, NewBlob
from catalog.transaction import Transaction
from tests.catalog.making import CLUSTER_ID, ETAG, new_blob

_KEYS = [b"dir/key-%08d" % (number * 7919 % 5000) for number in range(5000)]
_ATTRIBUTES = Attributes(checksum=Checksum("CRC32", "FULL_OBJECT", "AAAAAA=="))
_LAYOUTS = [(1, 2, 3), (2, 3, 1), (3, 1, 2), (1, 3, 2), (2, 1, 3), (3, 2, 1)]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _blob(number: int) -> NewBlob:
    return new_blob(nodes=_LAYOUTS[number % 6])


def _put(tx: Transaction, bucket_id: int, key: bytes, blob: NewBlob) -> None:
    objects.put(
        tx,
        bucket_id=bucket_id,
        key=key,
        blob=blob,
        etag=ETAG,
        content_type="application/octet-stream",
        attributes=_ATTRIBUTES,
    )


def _put_directories(tx: Transaction, bucket_id: int) -> None:
    for number in range(3000):
        _put(tx, bucket_id, b"p/%04d/%d" % (number % 1000, number // 1000), _blob(number))


async def _inside(catalog: Catalog, name: str, one: Callable[[Transaction, bytes], object]) -> None:
    def run(tx: Transaction) -> float:
        began = time.perf_counter()
        for key in _KEYS:
            one(tx, key)
        return time.perf_counter() - began

    took = await catalog.write(run)
    _say(f"{name:42} {took / len(_KEYS) * 1e6:9.1f} µs in the transaction")


async def _each(name: str, one: Callable[[int], Awaitable[object]], count: int) -> None:
    began = time.perf_counter()
    for number in range(count):
        await one(number)
    _say(f"{name:42} {(time.perf_counter() - began) / count * 1e6:9.1f} µs")


async def _commits(catalog: Catalog, bucket_id: int, clients: int, label: str) -> None:
    stop = time.perf_counter() + 2
    took: list[float] = []

    async def client(number: int) -> None:
        turn = 0
        while (began := time.perf_counter()) < stop:
            blob = _blob(turn)
            key = b"%s/%d/%d-%d" % (label.encode(), clients, number, turn)
            await catalog.write(lambda tx, k=key, b=blob: _put(tx, bucket_id, k, b), blob=blob)  # type: ignore[misc]
            took.append(time.perf_counter() - began)
            turn += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    took.sort()
    _say(
        f"puts, {clients:3} clients, {label:24} {len(took) / 2:9.0f} /s   "
        f"p50 {took[len(took) // 2] * 1e3:.2f} ms, p99 {took[len(took) * 99 // 100] * 1e3:.2f} ms"
    )


async def _beside_a_busy_loop(catalog: Catalog, bucket_id: int, clients: int) -> None:
    stopped = False

    async def busy() -> None:
        while not stopped:
            until = time.perf_counter() + 80e-6
            while time.perf_counter() < until:
                pass
            await buckets.get(catalog, "bucket")
            await asyncio.sleep(0)

    spinning = [asyncio.create_task(busy()) for _ in range(4)]
    await _commits(catalog, bucket_id, clients, "busy loop")
    stopped = True
    await asyncio.gather(*spinning)


async def measure(directory: Path) -> None:
    """All figures, on a new catalog in the directory."""
    engine.create(directory / "catalog.sqlite", cluster_id=CLUSTER_ID, nodes_hold_data=False)
    catalog = Catalog.open(directory / "catalog.sqlite")
    await catalog.start()
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))
    number = bucket.id
    await _inside(catalog, "put, new key", lambda tx, key: _put(tx, number, key, _blob(key[-1])))
    await _inside(catalog, "put, over a key", lambda tx, key: _put(tx, number, key, _blob(key[-1])))
    await _inside(catalog, "delete", lambda tx, key: objects.delete(tx, bucket_id=number, key=key))
    await _inside(catalog, "put, new key", lambda tx, key: _put(tx, number, key, _blob(key[-1])))
    await _each("lookup", lambda turn: lookup.lookup(catalog, number, _KEYS[turn % 5000]), 10_000)
    await _each("bucket by name, proved fresh", lambda _: buckets.get(catalog, "bucket"), 10_000)

    def page(delimiter: bytes, prefix: bytes) -> Callable[[int], Awaitable[object]]:
        return lambda _: catalog.read(
            lambda reader: listing.list_objects(reader, bucket_id=number, prefix=prefix, delimiter=delimiter)
        )

    await _each("LIST, 1,000 keys", page(b"", b""), 100)
    await _each("LIST, 1,000 keys, delimiter", page(b"/", b"dir/"), 100)
    await catalog.write(lambda tx: _put_directories(tx, number))
    await _each("LIST, 1,000 common prefixes", page(b"/", b"p/"), 50)
    for clients in (1, 16, 64):
        await _commits(catalog, number, clients, "idle loop")
    for clients in (1, 16):
        await _beside_a_busy_loop(catalog, number, clients)
    await catalog.close()


def main() -> None:
    """In the named directory, or in a temporary one."""
    with TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        uvloop.run(measure(Path(directory)))


if __name__ == "__main__":
    main()
