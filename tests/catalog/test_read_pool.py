"""Scans in threads."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from catalog import schema
from catalog.engine import Catalog
from catalog.errors import CatalogBusy, CatalogFailed
from catalog.read_pool import ReadPool
from catalog.statement import Reader, Statement
from tests.catalog.making import put

_COUNT = Statement(sa.select(sa.func.count()).select_from(schema.objects))


class _NoReader(Reader):
    """A connection that is never asked anything."""

    def __init__(self) -> None:
        pass

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Nothing to open."""
        yield


async def test_a_slow_scan_does_not_hold_the_loop() -> None:
    """It is awaited when patience is over, and answered from the thread or by a busy loop's own asking."""
    pool = ReadPool([_NoReader()], waiting_max=10)
    gate = threading.Event()
    slow = asyncio.create_task(pool.run(lambda reader: gate.wait(10)))
    assert (await asyncio.wait([slow], timeout=0.02))[1] == {slow}
    gate.set()
    assert await slow
    gate.clear()
    second = asyncio.create_task(pool.run(lambda reader: gate.wait(10)))
    await asyncio.sleep(0)
    gate.set()
    while not second.done():
        pool.settle()
        await asyncio.sleep(0)
    pool.close()


async def test_p8_waiting_scans_are_bounded() -> None:
    """Above the limit: refused at once; a cancelled one frees its place."""
    pool = ReadPool([_NoReader()], waiting_max=2)
    gate = threading.Event()
    running = [asyncio.create_task(pool.run(lambda reader: gate.wait(10))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(CatalogBusy):
        await pool.run(lambda reader: None)
    running[1].cancel()
    gate.set()
    assert await running[0]
    assert await pool.run(lambda reader: 1) == 1
    pool.close()


async def test_a_scan_sees_one_moment(catalog: Catalog, bucket_id: int) -> None:
    """A commit between two statements of a scan stays unseen by it. Break caught: no `snapshot`."""
    between, go_on = threading.Event(), threading.Event()

    def scan(reader: Reader) -> tuple[object, object]:
        first = reader.row(_COUNT)
        between.set()
        go_on.wait(10)
        return first, reader.row(_COUNT)

    scanning = asyncio.create_task(catalog.read(scan))
    while not between.is_set():
        await asyncio.sleep(0)
    await put(catalog, bucket_id, b"key")
    go_on.set()
    assert await scanning == ((0,), (0,))
    assert await catalog.read(lambda reader: reader.row(_COUNT)) == (1,)


async def test_errors_come_back(catalog: Catalog) -> None:
    """The caller's own, and the database's as ours."""
    with pytest.raises(ZeroDivisionError):
        await catalog.read(lambda reader: 1 // 0)
    with pytest.raises(CatalogFailed):
        await catalog.read(lambda reader: reader.rows(Statement(sa.text("SELECT nonsense"))))
    with pytest.raises(CatalogFailed):
        await catalog.read(lambda reader: reader.rows(Statement(sa.text("DELETE FROM objects"))))
