"""What PostgreSQL does otherwise: transactions that meet, connections that are lost, commits of unknown outcome."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import pytest

from catalog import buckets, engine, lookup, usage, work
from catalog.engine import Catalog
from catalog.errors import CatalogBusy, CatalogRefused, CommitUnknown, PreconditionFailed
from catalog.model import Condition, NewBlob
from catalog.postgres_catalog import PostgresCatalog
from catalog.usage_changes import Usage
from tests.catalog.making import CLUSTER_ID, Clock, PostgresStore, new_blob, put, small_settings
from tests.postgres import PostgresServer, empty_database, new_database

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
