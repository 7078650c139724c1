"""Several processes at one catalog (S16, P1)."""

import asyncio
import signal

from catalog import listing, lookup
from catalog.engine import Catalog
from catalog.errors import PreconditionFailed
from catalog.model import Condition
from tests.catalog.making import SQLITE_ONLY, Clock, SqliteStore, Store, put, start_child


async def _keys(catalog: Catalog, bucket_id: int, prefix: bytes) -> set[bytes]:
    page = await catalog.read(
        lambda reader: listing.list_objects(reader, bucket_id=bucket_id, prefix=prefix, limit=100_000)
    )
    return {entry.key for entry in page.entries}


@SQLITE_ONLY
async def test_s16_processes_take_turns(store: SqliteStore, catalog: Catalog, bucket_id: int) -> None:
    """Two write at full speed while a third writes now and then, and nobody is refused or waits for two
    seconds."""
    children = [start_child("put", str(store.path), str(bucket_id), name, "8", "100") for name in ("a", "b")]
    talking = [asyncio.create_task(asyncio.to_thread(child.communicate)) for child in children]
    while not all(task.done() for task in talking):
        await put(catalog, bucket_id, b"mine")
        await asyncio.sleep(0.002)
    assert [child.returncode for child in children] == [0, 0], [await task for task in talking]
    for name in ("a", "b"):
        expected = {f"{name}-{client}-{turn}".encode() for client in range(8) for turn in range(100)}
        assert await _keys(catalog, bucket_id, name.encode()) == expected


@SQLITE_ONLY
async def test_p1_sigkill_loses_nothing_acknowledged(
    store: SqliteStore, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Whatever a writer said before it was killed is there, for processes that were open and for new ones.
    (That a commit also outlives the power is `synchronous = FULL`, which no test here can show.)"""
    for turn in range(3):
        child = start_child("put", str(store.path), str(bucket_id), f"turn{turn}", "16", "100000")
        assert child.stdout is not None
        said = [await asyncio.to_thread(child.stdout.readline) for _ in range(300 + 37 * turn)]
        child.send_signal(signal.SIGKILL)
        rest, _ = await asyncio.to_thread(child.communicate)
        whole_lines = "".join(said) + rest[: rest.rfind("\n") + 1]
        acknowledged = {line.encode() for line in whole_lines.split()}
        assert len(acknowledged) >= 300
        assert acknowledged <= await _keys(catalog, bucket_id, b"turn%d" % turn)
        await put(catalog, bucket_id, b"next")
    again = store.open(clock)
    await again.start()
    assert acknowledged <= await _keys(again, bucket_id, b"turn2")
    assert await lookup.lookup(again, bucket_id, b"next") is not None
    await again.close()


async def test_s12_no_update_of_a_counter_is_lost(
    store: Store, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Compare-and-swap on one key by six clients over two openings (P4)."""
    other = store.open(clock)
    await other.start()
    await put(catalog, bucket_id, b"counter", etag="0")

    async def client(which: Catalog) -> None:
        for _ in range(20):
            while True:
                row = await lookup.lookup(which, bucket_id, b"counter")
                assert row is not None
                seen = int(row.etag)
                try:
                    await put(
                        which,
                        bucket_id,
                        b"counter",
                        etag=str(seen + 1),
                        condition=Condition(if_match=str(seen)),
                    )
                except PreconditionFailed:
                    continue
                break

    await asyncio.gather(*(client(which) for which in [catalog, other] * 3))
    row = await lookup.lookup(catalog, bucket_id, b"counter")
    assert row is not None
    assert row.etag == "120"
    await other.close()
