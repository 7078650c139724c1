"""Group commits on their way to the nodes: what waits for them, what does not, and what others take over (S17)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from catalog import buckets, outbox, work
from catalog.engine import Catalog
from catalog.errors import BucketExists, CatalogBusy, CommitUnknown
from catalog.log_records import LogRecord
from catalog.shipping import Shipping
from tests.catalog.making import Clock, SqliteStore, fail_on_fatal, new_blob, put, small_settings
from tests.catalog.nodes_log import Nodes


def open_catalog(path: Path, clock: Clock, *, lock_wait_s: float = 2.0) -> Catalog:
    """With a log."""
    settings = msgspec.structs.replace(small_settings(lock_wait_s=lock_wait_s), copies=2)
    return Catalog.open(path, settings, clock=clock, on_fatal=fail_on_fatal)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A new catalog."""
    return SqliteStore(tmp_path).path


@pytest.fixture
def nodes() -> Nodes:
    """Where its log goes."""
    return Nodes()


@pytest_asyncio.fixture
async def catalog(path: Path, clock: Clock, nodes: Nodes) -> AsyncIterator[Catalog]:
    """One process of the store."""
    opened = open_catalog(path, clock)
    await opened.start()
    opened.replicate_to(nodes)
    yield opened
    nodes.passing.set()
    await opened.close()


def _bucket(name: str) -> Callable[[Any], Any]:
    return lambda tx: buckets.create(tx, name=name, owner="o", region="r")


def _note(tx: Any) -> None:
    work.record_event(tx, "test", detail="")


async def _rows(catalog: Catalog) -> list[int]:
    """The batches that wait in the outbox."""
    records = await catalog.read(lambda reader: outbox.records_after(reader, 0))
    return [record.batch for record in records]


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while True:
            holds = condition()
            if asyncio.iscoroutine(holds):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(0.005)


async def test_s17_an_answer_waits_for_the_nodes(catalog: Catalog, nodes: Nodes) -> None:
    """Committed and visible, but not answered, nor is a refusal that rests on it. Red when answers go out at the
    commit, and when those of batches that changed nothing do."""
    nodes.passing.clear()
    created = asyncio.create_task(catalog.write(_bucket("b")))
    await _until(lambda: nodes.appends)
    refused = asyncio.create_task(catalog.write(_bucket("b")))
    nothing = asyncio.create_task(catalog.write(lambda tx: None))
    assert len(await _rows(catalog)) == 1
    done, _ = await asyncio.wait({created, refused, nothing}, timeout=0.1)
    assert not done
    nodes.passing.set()
    assert (await created).name == "b"
    with pytest.raises(BucketExists):
        await refused
    await nothing


async def test_s17_what_comes_while_a_record_travels_shares_the_next_batch(
    path: Path, clock: Clock, nodes: Nodes
) -> None:
    """And waits for as long as that takes. Red when each gets a batch of its own, and when the time counts as a wait
    for the lock."""
    catalog = open_catalog(path, clock, lock_wait_s=0.2)
    await catalog.start()
    catalog.replicate_to(nodes)
    nodes.passing.clear()
    tasks = []
    for number in range(20):
        tasks.append(asyncio.create_task(catalog.write(_bucket(f"b{number}"))))
        await asyncio.sleep(0 if number < 16 else 0.02)  # some of them during the commit, some after it
    done, _ = await asyncio.wait(tasks, timeout=0.5)
    assert not done
    nodes.passing.set()
    await asyncio.gather(*tasks)
    assert nodes.appends == [[1], [2]]
    await catalog.close()


class _Slow:
    """A `LogSink` whose appends the test brings to their ends."""

    ready = True

    def __init__(self) -> None:
        self.appends: list[asyncio.Future[None]] = []

    def append(self, catalog_id: bytes, records: Sequence[LogRecord]) -> asyncio.Future[None]:
        self.appends.append(asyncio.get_running_loop().create_future())
        return self.appends[-1]


class _Heard:
    """An answer."""

    said = ""

    def deliver(self) -> None:
        self.said = "stored"

    def lose(self, error: BaseException) -> None:
        self.said = "lost"


async def test_s17_nothing_is_answered_before_what_came_earlier() -> None:
    """With a gap a restore would end before it. Red when an append that is done counts although the one before it is
    not, or has failed."""
    sink, first, second = _Slow(), _Heard(), _Heard()
    shipping = Shipping(sink, b"c" * 16, lambda: None)
    for number, answer in ((1, first), (2, second)):
        shipping.learn(number, [LogRecord(1, number, b"")])
        shipping.answer(number, [answer])
        shipping.ship()
    sink.appends[1].set_result(None)
    await asyncio.sleep(0.01)
    assert (first.said, second.said) == ("", "")
    sink.appends[0].set_exception(CatalogBusy("a node is away"))
    await asyncio.sleep(0.01)
    assert (first.said, second.said) == ("lost", "lost")
    shipping.ship()
    assert shipping.shipped == 0
    sink.appends[2].set_result(None)
    await asyncio.sleep(0.01)
    assert shipping.shipped == 2
    shipping.close()


async def _has(catalog: Catalog, count: int) -> bool:
    return len(await _rows(catalog)) >= count


async def test_s17_rows_are_dropped_when_the_nodes_have_them(catalog: Catalog) -> None:
    """By the next batch, or soon by one of its own. Red when an idle writer leaves them there."""
    await catalog.write(_bucket("b"))
    await _until(lambda: _empty(catalog))


async def _empty(catalog: Catalog) -> bool:
    return not await _rows(catalog)


async def test_s17_without_enough_nodes_nothing_is_evaluated(catalog: Catalog, nodes: Nodes) -> None:
    """A write is refused and its blob is garbage; what need not wait passes, and is shipped when the nodes are back.
    Red when such a write is committed, and when nobody ships what waited."""
    await catalog.write(_bucket("b"))
    nodes.ready = False
    blob = new_blob()
    with pytest.raises(CatalogBusy):
        await catalog.write(_bucket("c"), blob=blob)
    await catalog.write(_note, unshipped=True)
    assert await _rows(catalog)
    nodes.ready = True
    await _until(lambda: _empty(catalog))
    assert max(max(batches) for batches in nodes.appends) >= 2


async def test_s17_what_the_nodes_do_not_take_in_time_is_unknown(catalog: Catalog, nodes: Nodes) -> None:
    """It is committed here, so it is neither success nor failure, and goes to the nodes before anything newer is
    answered. Red when it is answered as a failure, and when the next append leaves it out. (Its blob would not be
    lost even if it were abandoned: a row names it.)"""
    bucket = await catalog.write(_bucket("b"))
    nodes.refused = 1
    with pytest.raises(CommitUnknown):
        await put(catalog, bucket.id, b"k")
    lost = nodes.appends[-1]
    await put(catalog, bucket.id, b"l")
    assert nodes.appends[-2:] == [lost, [3]]


async def test_s17_what_another_process_left_is_shipped(
    path: Path, clock: Clock, catalog: Catalog, nodes: Nodes
) -> None:
    """A process without nodes commits and goes; the other one finds it, with its next batch or by looking, and answers
    nothing newer before. Red when only a process's own records are shipped, and when nobody looks while there is
    nothing to write."""
    await catalog.write(_bucket("b"))
    command = open_catalog(path, clock)
    await command.start()
    await command.write(_bucket("left"))
    await command.close()
    await catalog.write(_bucket("c"))
    assert nodes.appends[-1] == [3, 5]
    await _until(lambda: _empty(catalog))  # so that no batch of its own is to come
    command = open_catalog(path, clock)
    await command.start()
    await command.write(_bucket("left again"))
    await command.close()
    await _until(lambda: nodes.appends[-1][-1] >= 4)
    await _until(lambda: _empty(catalog))


async def test_s17_a_full_outbox_asks_for_a_snapshot(
    catalog: Catalog, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has a gap then: nothing is answered until a snapshot is there that contains it. Red when writes pass
    meanwhile."""
    monkeypatch.setattr(outbox, "ROWS_MAX", 5)
    nodes.ready = False
    for _ in range(8):
        await catalog.write(_note, unshipped=True)
    assert len(await _rows(catalog)) < 5
    nodes.ready = True
    with pytest.raises(CatalogBusy, match="snapshot"):
        await catalog.write(_bucket("b"))
    at = await catalog.read(outbox.position)
    await catalog.write(lambda tx: outbox.gap_closed(tx, 1), unshipped=True)
    with pytest.raises(CatalogBusy, match="snapshot"):
        await catalog.write(_bucket("b"))
    await catalog.write(lambda tx: outbox.gap_closed(tx, at.batch), unshipped=True)
    await _until(lambda: _passes(catalog))


async def test_s17_a_gap_that_another_process_made_holds_back_answers(
    path: Path, clock: Clock, catalog: Catalog, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found at the beginning of the next batch, whose requests were taken before. Red when they are answered: they lie
    behind the gap."""
    await catalog.write(_bucket("b"))
    monkeypatch.setattr(outbox, "ROWS_MAX", 5)
    other = open_catalog(path, clock)
    await other.start()
    while not await other.read(outbox.has_gap):
        await other.write(_note, unshipped=True)
    with pytest.raises((CatalogBusy, CommitUnknown)):
        await catalog.write(_bucket("c"))
    await other.close()


async def _passes(catalog: Catalog) -> bool:
    try:
        await catalog.write(_bucket("b"))
    except CatalogBusy:
        return False
    return True


async def test_p8_the_writer_waits_when_the_nodes_are_far_behind(
    catalog: Catalog, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when batches go on without end while the nodes hang."""
    monkeypatch.setattr("catalog.replication.BATCHES_AHEAD", 3)
    nodes.passing.clear()
    tasks = []
    for number in range(6):
        tasks.append(asyncio.create_task(catalog.write(_bucket(f"b{number}"))))
        await _until(partial(_has, catalog, min(number + 1, 3)))
    await asyncio.wait(tasks, timeout=0.1)
    assert len(await _rows(catalog)) == 3
    nodes.passing.set()
    await asyncio.gather(*tasks)
