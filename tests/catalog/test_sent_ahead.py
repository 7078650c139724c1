"""Records that travel to the nodes while their batches are being committed, and commits that fail then (S17, S11)."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pysqlite3.dbapi2 as driver
import pytest
import pytest_asyncio

from catalog import buckets, engine, leases, replay
from catalog.embedded import EmbeddedCatalog
from catalog.engine import Catalog
from catalog.errors import CatalogFailed, CatalogFull, CommitUnknown
from tests.catalog.contents import contents, same
from tests.catalog.making import CLUSTER_ID, Clock, fail_on_fatal, small_settings
from tests.catalog.nodes_log import Nodes

_SQLITE_FULL = 13


@pytest.fixture
def path(tmp_path: Path, clock: Clock) -> Path:
    """A catalog as it is created, which no transaction has touched."""
    place = tmp_path / "catalog.sqlite"
    engine.create(place, cluster_id=CLUSTER_ID, nodes_hold_data=False, clock=clock)
    return place


@pytest.fixture(autouse=True)
def _room_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a full disk."""
    monkeypatch.setattr("catalog.ballast._RETRY_S", 0.1)


@pytest.fixture
def nodes() -> Nodes:
    """Where its log goes."""
    return Nodes()


async def started(path: Path, clock: Clock, nodes: Nodes | None) -> EmbeddedCatalog:
    """One process of the store."""
    settings = msgspec.structs.replace(small_settings(), copies=2)
    catalog = Catalog.open(path, settings, clock=clock, on_fatal=fail_on_fatal)
    await catalog.start()
    if nodes is not None:
        catalog.replicate_to(nodes)
    assert isinstance(catalog, EmbeddedCatalog)
    return catalog


@pytest_asyncio.fixture
async def catalog(path: Path, clock: Clock, nodes: Nodes) -> AsyncIterator[EmbeddedCatalog]:
    """A process that has made the newest batch, and so sends ahead."""
    opened = await started(path, clock, nodes)
    await make(opened, "first")
    yield opened
    await opened.close()


async def make(catalog: Catalog, name: str) -> Any:
    """A batch of one bucket. After a full disk it takes a moment."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await catalog.write(partial(buckets.create, name=name, owner="o", region="r"))
            except CatalogFull:
                await asyncio.sleep(0.02)


@contextmanager
def held_commits(catalog: EmbeddedCatalog, *, fail: bool) -> Iterator[threading.Event]:
    """Commits wait for the event; then they find the disk full, if they are to fail."""
    writer: Any = catalog._writer
    commit, passing = writer._commit, threading.Event()

    def held() -> None:
        passing.wait(10)
        if fail:
            error = driver.OperationalError("database or disk is full")
            error.sqlite_errorcode = _SQLITE_FULL
            raise error
        commit()

    writer._commit = held
    try:
        yield passing
    finally:
        passing.set()
        writer._commit = commit


async def come(nodes: Nodes, batch: int) -> None:
    """Until the nodes have that batch."""
    async with asyncio.timeout(5):
        while batch not in itertools.chain(*nodes.appends):
            await asyncio.sleep(0.005)


async def fail_to_make(catalog: EmbeddedCatalog, nodes: Nodes, name: str, batch: int) -> None:
    """A batch that comes to the nodes and is not committed."""
    with held_commits(catalog, fail=True) as passing:
        create = partial(buckets.create, name=name, owner="o", region="r")
        made = asyncio.create_task(catalog.write(create))
        await come(nodes, batch)
        passing.set()
        with pytest.raises(CatalogFull):
            await made


def names(path: Path) -> list[str]:
    """The buckets of a catalog."""
    return sorted(row[1] for row in contents(path)["buckets"])


async def test_s17_a_record_travels_while_its_batch_is_committed(
    catalog: EmbeddedCatalog, nodes: Nodes
) -> None:
    """The answer waits for both. Red when the nodes' answer is enough."""
    with held_commits(catalog, fail=False) as passing:
        made = asyncio.create_task(make(catalog, "b"))
        await come(nodes, 2)
        done, _ = await asyncio.wait({made}, timeout=0.1)
        assert not done
        passing.set()
        assert (await made).name == "b"


async def test_s11_a_record_whose_commit_failed_leads_nowhere(
    path: Path, catalog: EmbeddedCatalog, nodes: Nodes, tmp_path: Path
) -> None:
    """What is committed later names the batch before it, under a number of its own; the restore does not come past it.
    Red when its number is used again (what any two nodes hold is then no chain, or another history), and when the next
    record names it as its predecessor."""
    await fail_to_make(catalog, nodes, "undone", 2)
    await make(catalog, "later")
    await make(catalog, "last")
    assert list(itertools.chain(*nodes.appends)) == [1, 2, 3, 4]
    for number, pair in enumerate(itertools.combinations(nodes.all, 2)):
        target = tmp_path / f"{number}.sqlite"
        replay.restore_from_log(pair, target)
        assert names(target) == ["first", "last", "later"]
        same(contents(path), contents(target))


async def test_s11_a_failed_commit_that_is_the_newest_comes_back(
    catalog: EmbeddedCatalog, nodes: Nodes, tmp_path: Path
) -> None:
    """Nobody was told that it was done, nor can be told that it never will be: as of any commit that is cut short."""
    await fail_to_make(catalog, nodes, "undone", 2)
    replay.restore_from_log(nodes.all, tmp_path / "restored.sqlite")
    assert names(tmp_path / "restored.sqlite") == ["first", "undone"]


async def test_s17_who_did_not_make_the_newest_batch_commits_first(
    path: Path, clock: Clock, catalog: EmbeddedCatalog, nodes: Nodes, tmp_path: Path
) -> None:
    """Another process may have sent something under the next number and died. Red when who takes over sends ahead, and
    when it uses that number."""
    await fail_to_make(catalog, nodes, "undone", 2)
    other = await started(path, clock, nodes)
    with held_commits(other, fail=False) as passing:
        made = asyncio.create_task(make(other, "theirs"))
        await asyncio.wait({made}, timeout=0.2)
        assert list(itertools.chain(*nodes.appends)) == [1, 2]
        passing.set()
        await made
    await other.close()
    await make(catalog, "ours")
    assert sorted({*itertools.chain(*nodes.appends)}) == [1, 2, 3, 5]
    replay.restore_from_log(nodes.all[1:], tmp_path / "restored.sqlite")
    assert names(tmp_path / "restored.sqlite") == ["first", "ours", "theirs"]


async def test_s17_what_was_committed_before_the_nodes_were_there_goes_first(
    path: Path, clock: Clock, nodes: Nodes, tmp_path: Path
) -> None:
    """A process that starts commits before it knows the nodes. Red when its next batch overtakes those: the nodes never
    get them."""
    catalog = await started(path, clock, None)
    await make(catalog, "before")
    await make(catalog, "too")
    catalog.replicate_to(nodes)
    await make(catalog, "after")
    await catalog.close()
    assert nodes.appends == [[1, 2, 3]]
    replay.restore_from_log(nodes.all, tmp_path / "restored.sqlite")
    assert names(tmp_path / "restored.sqlite") == ["after", "before", "too"]


async def test_s18_a_new_term_is_not_sent_ahead(
    catalog: EmbeddedCatalog, nodes: Nodes, tmp_path: Path
) -> None:
    """Red when it is: of a batch that raises the term and is not committed the restore takes the chain that ends there,
    and leaves out what was answered since under the old term."""
    seen = await catalog.read(leases.read)
    assert leases.LeaseWatch(lambda: 0.0, 1.0).expired(seen)
    with held_commits(catalog, fail=True) as passing:
        taking = catalog.write(lambda tx: leases.acquire(tx, "me", seen=seen), unshipped=True)
        create = partial(buckets.create, name="undone", owner="o", region="r")
        both = asyncio.gather(taking, catalog.write(create), return_exceptions=True)
        await asyncio.wait({asyncio.ensure_future(both)}, timeout=0.2)
        passing.set()
        assert {type(outcome) for outcome in await both} == {CatalogFull}
    await make(catalog, "later")
    replay.restore_from_log(nodes.all, tmp_path / "restored.sqlite")
    assert names(tmp_path / "restored.sqlite") == ["first", "later"]


async def test_s17_a_batch_that_can_not_begin_takes_nothing_back(
    catalog: EmbeddedCatalog, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch before it was sent ahead, is committed, and waits to be sent again. Red when it is taken for the one
    that was rolled back: the nodes never get it; and when what waits for a batch that can't begin is tried for ever."""
    nodes.refused = 2  # it is sent again at once
    with pytest.raises(CommitUnknown):
        await make(catalog, "unknown")
    writer: Any = catalog._writer
    begin = writer._begin

    def fails_once(cursor: Any) -> Any:
        monkeypatch.setattr(writer, "_begin", begin)
        raise driver.OperationalError("disk I/O error")

    monkeypatch.setattr(writer, "_begin", fails_once)
    with pytest.raises(CatalogFailed):
        await make(catalog, "refused")
    await make(catalog, "later")
    assert nodes.appends[:3] == [[1], [2], [2]]
    assert 2 in itertools.chain(*nodes.appends[3:])


async def test_s11_a_failed_commit_is_not_sent_again(catalog: EmbeddedCatalog, nodes: Nodes) -> None:
    """Its record was on its way when the nodes refused it. Red when it waits for the next occasion."""
    nodes.passing.clear()
    nodes.refused = 1
    await fail_to_make(catalog, nodes, "undone", 2)
    nodes.passing.set()
    await make(catalog, "later")
    assert list(itertools.chain(*nodes.appends)) == [1, 2, 3]
