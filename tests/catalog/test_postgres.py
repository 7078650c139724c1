"""What PostgreSQL does otherwise: transactions that meet, connections that are lost, commits of unknown outcome."""

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TypeVar

import pytest

from catalog import buckets, engine, leases, lookup, usage, work
from catalog.engine import Catalog, CatalogSettings
from catalog.errors import CatalogBusy, CatalogFull, CatalogRefused, CommitUnknown, PreconditionFailed
from catalog.layouts import number_of
from catalog.model import Condition, NewBlob
from catalog.postgres import Postgres
from catalog.postgres_catalog import PostgresCatalog
from catalog.postgres_restored import succeed_restored
from catalog.transaction import Transaction
from catalog.usage_changes import Usage
from tests.catalog.making import CLUSTER_ID, Clock, PostgresStore, new_blob, put, small_settings
from tests.postgres import PostgresServer, drop_database, empty_database, new_database

T = TypeVar("T")

_END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid()"
)


@pytest.fixture(params=["postgresql"])
def store(postgres_server: PostgresServer) -> Iterator[PostgresStore]:
    """All tests here are of this database."""
    made = PostgresStore(postgres_server)
    yield made
    made.drop()


async def test_s13_no_update_of_four_writers_over_two_processes_is_lost(
    store: PostgresStore, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """A counter in one key, raised by compare-and-set through two catalogs. Red when transactions are READ COMMITTED:
    two take the same reference from the blob that both replace."""
    other = store.open(clock)
    await other.start()
    await put(catalog, bucket_id, b"counter", etag="0")

    async def raised(door: Catalog) -> None:
        while True:
            row = await lookup.lookup(door, bucket_id, b"counter")
            assert row is not None
            with suppress(PreconditionFailed, CatalogBusy):
                condition = Condition(if_match=row.etag)
                await put(door, bucket_id, b"counter", etag=str(int(row.etag) + 1), condition=condition)
                return

    async def writer(door: Catalog) -> None:
        for _ in range(25):
            await raised(door)

    await asyncio.gather(*(writer(door) for door in (catalog, other, catalog, other)))
    row = await lookup.lookup(catalog, bucket_id, b"counter")
    assert row is not None
    assert (row.etag, row.sequence) == ("100", 101)
    await other.close()


async def test_the_books_of_several_writers_agree(
    store: PostgresStore, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Each process keeps a share of its own, and the books are their sum. Red when a reader leaves the shares out."""
    other = store.open(clock)
    await other.start()
    await asyncio.gather(
        *(put(door, bucket_id, b"%d" % number) for number in range(40) for door in (catalog, other))
    )
    found = await other.read(lambda reader: usage.recount(reader, bucket_id))
    assert found.stored == found.counted
    assert found.stored == Usage(40, 40, 40 * 4096)
    assert (await catalog.read(usage.totals))[1] == found.stored
    await other.close()


async def test_a_connection_that_was_cut_is_made_again(
    store: PostgresStore, catalog: Catalog, bucket_id: int
) -> None:
    """By an operator, or a server's restart, between two requests: nobody sees it. Red when a pooled connection is used
    without a second try."""
    await put(catalog, bucket_id, b"key")
    await asyncio.gather(*(lookup.lookup(catalog, bucket_id, b"key") for _ in range(64)))
    store.server.execute(_END_OTHERS, database=store.url.rsplit("/", 1)[1])
    assert all(await asyncio.gather(*(lookup.lookup(catalog, bucket_id, b"key") for _ in range(64))))
    await put(catalog, bucket_id, b"key")
    assert (await catalog.read(lambda reader: usage.recount(reader, bucket_id))).agrees


async def test_s13_two_that_wait_for_each_other_do_not_wait_long(
    store: PostgresStore, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Two fronts meet in two rows, in opposite orders, as they do in assignments of nodes that are new to both. Neither
    is refused, and both are done before the server would look for deadlocks. Red when a lock is waited for until then:
    both give up after the same second, meet again, and 26 requests in a row were refused."""
    other = store.open(clock)
    await other.start()
    layouts = [(1, 2, 3), (4, 5, 6)]
    both_hold_one = threading.Barrier(2)
    met = [False, False]

    def take(tx: Transaction, which: int) -> None:
        number_of(tx, layouts[which])
        if not met[which]:
            met[which] = True
            both_hold_one.wait(10.0)
        number_of(tx, layouts[1 - which])

    began = time.monotonic()
    await asyncio.gather(
        *(door.write(partial(take, which=which)) for which, door in enumerate((catalog, other)))
    )
    assert time.monotonic() - began < 0.9
    assert {catalog.placements.number_by_nodes[nodes] for nodes in layouts} == {
        other.placements.number_by_nodes[nodes] for nodes in layouts
    }
    await other.close()


async def test_events_are_numbered_in_the_order_in_which_they_are_committed(
    store: PostgresStore, catalog: Catalog, clock: Clock
) -> None:
    """A reader that goes on behind the last number it has seen misses none. Red when the database's own counter gives
    the numbers: one that drew its number first, and commits last, is never read."""
    other = store.open(clock)
    await other.start()
    drawn, over = threading.Event(), threading.Event()

    def slowly(tx: Transaction) -> None:
        work.record_event(tx, "first")
        drawn.set()
        over.wait(0.5)

    first = asyncio.create_task(catalog.write(slowly))
    await asyncio.to_thread(drawn.wait)
    await other.write(lambda tx: work.record_event(tx, "second"))
    seen = await other.read(work.list_events)
    over.set()
    await first
    now = await other.read(lambda reader: work.list_events(reader, after=seen[-1].number))
    assert sorted(event.kind for event in seen + now) == ["first", "second"]
    await other.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """One that the test may stop."""
    server = PostgresServer()
    server.start()
    yield server
    server.close()


async def _until(ask: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await ask()
        except CatalogBusy:
            await asyncio.sleep(0.01)


async def test_without_its_server_a_catalog_is_busy_and_then_well_again(own_server: PostgresServer) -> None:
    """Killed, so that what it has answered must come back from its log; the process goes on. Red when a lost
    connection is kept."""
    clock = Clock()
    store = PostgresStore(own_server)
    catalog = store.open(clock)
    await catalog.start()
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))
    await put(catalog, bucket.id, b"before")
    own_server.kill()
    lost = new_blob()
    with pytest.raises(CatalogBusy):
        await put(catalog, bucket.id, b"while", lost)
    with pytest.raises(CatalogBusy):
        await catalog.configuration()
    with pytest.raises(CatalogBusy):
        await catalog.read(usage.totals)
    own_server.start()
    assert await _until(lambda: lookup.lookup(catalog, bucket.id, b"before")) is not None
    await _until(lambda: put(catalog, bucket.id, b"after"))
    assert await lookup.lookup(catalog, bucket.id, b"while") is None
    await catalog.close()
    # What the refused request had brought was queued as garbage before the catalog closed.
    again = store.open(clock)
    await again.start()
    clock.now_ms += 2 * again.settings.grace_ms
    due = await again.read(
        lambda reader: work.due_garbage(reader, again.placements, now_ms=clock.now_ms, limit=10)
    )
    assert [item.blob_id for item in due] == [lost.id]
    await again.close()


class _Cutter:
    """A proxy that hands everything on until a client says COMMIT: then it cuts the connection, the word handed on
    first or not."""

    def __init__(self, port: int, *, hand_on: bool) -> None:
        self._port = port
        self._hand_on = hand_on
        self.armed = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
            threading.Thread(target=self._to_client, args=(server, client), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError):
            while data := client.recv(65536):
                if self.armed.is_set() and b"COMMIT" in data:
                    self.armed.clear()
                    client.shutdown(socket.SHUT_RDWR)
                    if not self._hand_on:
                        server.shutdown(socket.SHUT_RDWR)
                    if self._hand_on:
                        server.sendall(data)
                        server.shutdown(socket.SHUT_WR)
                        while server.recv(65536):
                            pass
                    return
                server.sendall(data)

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("hand_on", [True, False])
async def test_s11_a_commit_of_unknown_outcome_is_told_and_its_blob_left_alone(
    store: PostgresStore, catalog: Catalog, bucket_id: int, clock: Clock, hand_on: bool
) -> None:
    """The connection is cut exactly at COMMIT, which the server has got or not: both look alike from here. The process
    goes on. Red when the blob is queued as garbage (then the object that was committed loses its bytes), and when the
    batch is evaluated again."""
    proxy = _Cutter(store.server.port, hand_on=hand_on)
    behind = Catalog.open(
        store.url.replace(f":{store.server.port}/", f":{proxy.port}/"), small_settings(), clock=clock
    )
    await behind.start()
    await put(behind, bucket_id, b"before")
    proxy.armed.set()
    blob: NewBlob = new_blob()
    with pytest.raises(CommitUnknown):
        await put(behind, bucket_id, b"key", blob)
    await put(behind, bucket_id, b"after")
    clock.now_ms += 2 * behind.settings.grace_ms
    row = await _until(lambda: lookup.lookup(catalog, bucket_id, b"key"))
    if row is not None:
        assert row.blob.id == blob.id
        assert row.sequence == 1
    due = await catalog.read(
        lambda reader: work.due_garbage(reader, catalog.placements, now_ms=clock.now_ms, limit=10)
    )
    assert due == []
    assert (await catalog.read(lambda reader: usage.recount(reader, bucket_id))).agrees
    await behind.close()
    proxy.close()


@pytest.mark.long
async def test_a_disk_that_stalls_for_seconds_refuses_no_write(own_server: PostgresServer) -> None:
    """With the limits of operation: what comes meanwhile waits, and so does what was being committed. Red when a write
    waits as long as for a file's lock, 2 s: each request of those seconds is refused."""
    store = PostgresStore(own_server)
    catalog = store.open(Clock(), CatalogSettings())
    await catalog.start()
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))
    own_server.freeze()
    began = time.monotonic()
    puts = [asyncio.create_task(put(catalog, bucket.id, b"%d" % number)) for number in range(100)]
    await asyncio.wait(puts, timeout=3.5)
    assert not any(task.done() for task in puts)
    own_server.thaw()
    await asyncio.gather(*puts)
    assert time.monotonic() - began < CatalogSettings().server_wait_s
    await catalog.close()


@pytest.mark.long
async def test_a_process_that_froze_in_a_transaction_costs_others_no_request(
    own_server: PostgresServer,
) -> None:
    """It holds a row until the server ends its transaction, after 4 s. Red without that limit, and when others do not
    wait for longer than it."""
    store = PostgresStore(own_server)
    catalog = store.open(Clock(), CatalogSettings())
    await catalog.start()
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))
    frozen = Postgres(store.url).connect()
    frozen.execute("BEGIN")
    frozen.execute("UPDATE buckets SET owner = 'another'")
    await catalog.write(lambda tx: buckets.delete(tx, bucket.id))
    frozen.close()
    assert await buckets.get(catalog, "bucket") is None
    await catalog.close()


@pytest.mark.long
async def test_a_server_that_stands_still_gets_each_request_an_answer(own_server: PostgresServer) -> None:
    """Writes and reads of every kind end in bounded time with a 503, none is left hanging, and all is well when it goes
    on. Red when nobody cuts the connection of what waits for an answer."""
    store = PostgresStore(own_server)
    limits = CatalogSettings(server_wait_s=0.5)
    catalog = store.open(Clock(), limits)
    await catalog.start()
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))
    await put(catalog, bucket.id, b"before")
    await lookup.lookup(catalog, bucket.id, b"before")
    own_server.freeze()
    asked = [
        *(put(catalog, bucket.id, b"%d" % number) for number in range(100)),
        *(lookup.lookup(catalog, bucket.id, b"before") for _ in range(100)),
    ]
    async with asyncio.timeout(limits.server_wait_s + 15.0):
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {CatalogBusy, CommitUnknown}
    own_server.thaw()
    assert await _until(lambda: lookup.lookup(catalog, bucket.id, b"before")) is not None
    await _until(lambda: put(catalog, bucket.id, b"after"))
    assert (await catalog.read(lambda reader: usage.recount(reader, bucket.id))).agrees
    await catalog.close()


async def test_what_does_not_answer_is_cut_off(own_server: PostgresServer) -> None:
    """A server that stands still holds no request for ever. Red when nobody cuts the connection."""
    store = PostgresStore(own_server)
    catalog = store.open(Clock())
    await catalog.start()
    assert isinstance(catalog, PostgresCatalog)
    asleep = asyncio.create_task(
        catalog._points.run(lambda reader: reader._cursor.execute("SELECT pg_sleep(600)"))
    )
    while not any(job_link._connection for job_link in catalog._points.links):
        await asyncio.sleep(0.01)
    for link in catalog._points.links:
        link.sever()
    with pytest.raises(CatalogBusy):
        await asleep
    assert await catalog.meta()
    await catalog.close()


def test_a_database_without_a_catalog_is_refused_and_made_once(postgres_server: PostgresServer) -> None:
    """As a file is."""
    url = empty_database(postgres_server)
    with pytest.raises(CatalogRefused, match="no catalog"):
        Catalog.open(url)
    with pytest.raises(CatalogRefused, match="hold data"):
        engine.create(url, cluster_id=CLUSTER_ID, nodes_hold_data=True)
    engine.create(url, cluster_id=CLUSTER_ID, nodes_hold_data=False)
    with pytest.raises(CatalogRefused, match="already"):
        engine.create(url, cluster_id=CLUSTER_ID, nodes_hold_data=False)
    Catalog.open(url)


async def test_s18_a_database_from_a_dump_takes_the_place_of_what_it_was_copied_from(
    store: PostgresStore, catalog: Catalog, bucket_id: int, clock: Clock
) -> None:
    """Its term is above any that the lost one can have had, and again so the second time; ids of blobs that were given
    out since the dump are not given out again, and orphan collection waits for the operator. Red without the raise: a
    dump has the term that the lost catalog had."""
    await put(catalog, bucket_id, b"before")
    clock.now_ms += 1000
    lost = await catalog.meta()
    url = empty_database(store.server)
    store.server.dump_into(store.url, url)
    first = await succeed_restored(url)
    assert first > lost.term + 1_000_000
    running = Catalog.open(url, clock=clock)
    await running.start()
    meta = await running.meta()
    assert (meta.catalog_id, meta.term) == (lost.catalog_id, first)
    assert meta.upload_epoch > lost.upload_epoch
    assert not meta.orphans_allowed
    assert (await running.read(leases.read)).holder is None
    assert await lookup.lookup(running, bucket_id, b"before") is not None
    await put(running, bucket_id, b"after")
    assert [event.kind for event in await running.read(work.list_events)][-1:] == ["catalog-restored"]
    with pytest.raises(CatalogRefused, match="stop all fronts"):
        await succeed_restored(url)
    await running.close()
    async with asyncio.timeout(10.0):
        assert await _until_closed(url) > first
    drop_database(store.server, url)


async def _until_closed(url: str) -> int:
    """A connection that was closed is on the server's list for another moment."""
    while True:
        try:
            return await succeed_restored(url)
        except CatalogRefused:
            await asyncio.sleep(0.01)


@pytest.mark.long
@pytest.mark.skipif(os.getuid() != 0, reason="a file system of the test's own can only be mounted by root")
async def test_a_full_disk_refuses_writes_and_lets_reads_go_on(own_server: PostgresServer) -> None:
    """As a full disk under the embedded catalog does, except that deletes need space too: rows leave marks. When
    there is some again all is well by itself. Red when what the server says of it is an error like any other, a 500."""
    small = own_server.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(small)], check=True)
    try:
        place = own_server.place_of(small)
        store = PostgresStore(own_server)
        own_server.execute(f"ALTER DATABASE {store.url.rsplit('/', 1)[1]} SET TABLESPACE {place}")
        catalog = store.open(Clock())
        await catalog.start()
        bucket = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))
        await put(catalog, bucket.id, b"before")
        filler = small / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as growing:
            while True:
                growing.write(bytes(1 << 16))
        puts = [
            await asyncio.gather(
                *(put(catalog, bucket.id, b"%d-%d" % (turn, n)) for n in range(64)), return_exceptions=True
            )
            for turn in range(20)
        ]
        refused = [outcome for turn in puts for outcome in turn if isinstance(outcome, Exception)]
        assert {type(refusal) for refusal in refused} == {CatalogFull}
        assert await lookup.lookup(catalog, bucket.id, b"before") is not None
        assert (await catalog.read(lambda reader: usage.recount(reader, bucket.id))).agrees
        filler.unlink()
        await asyncio.gather(*(put(catalog, bucket.id, b"again-%d" % n) for n in range(256)))
        await catalog.close()
        own_server.stop()
    finally:
        if own_server.running:
            own_server.kill()
        subprocess.run(["umount", str(small)], check=True)


def test_a_database_that_holds_no_text_of_every_language_is_refused(postgres_server: PostgresServer) -> None:
    """With what to do instead. Red without that question: names come back as bytes, and are compared as such."""
    url = empty_database(postgres_server, encoding="SQL_ASCII")
    for ask in (partial(engine.create, cluster_id=CLUSTER_ID, nodes_hold_data=False), Catalog.open):
        with pytest.raises(CatalogRefused, match=r"SQL_ASCII.*ENCODING 'UTF8'"):
            ask(url)


def test_a_newer_schema_is_refused_on_a_server_too(postgres_server: PostgresServer) -> None:
    """Code must not touch what it does not know."""
    url = new_database(postgres_server)
    postgres_server.execute("UPDATE alembic_version SET version_num = '9999'", database=url.rsplit("/", 1)[1])
    with pytest.raises(CatalogRefused, match="newer Trivet"):
        Catalog.open(url)


def test_an_address_that_nobody_answers_at_is_busy_and_tells_no_password() -> None:
    """Red when the URL is named as it was given."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(CatalogBusy) as told:
        Catalog.open(f"postgresql://trivet:hidden-word@127.0.0.1:{port}/trivet")
    assert "hidden-word" not in str(told.value)
