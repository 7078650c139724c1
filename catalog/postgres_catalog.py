"""The catalog in a PostgreSQL database: what `engine.Catalog` promises, over a few connections of one process."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from catalog import migrating, postgres, schema, transaction
from catalog.configuration import Configuration
from catalog.engine import INSERT_META, Catalog, CatalogSettings, new_meta
from catalog.errors import CatalogRefused
from catalog.model import NewBlob
from catalog.postgres import Link, Postgres
from catalog.postgres_pool import PostgresPool
from catalog.postgres_writer import PostgresWriter
from catalog.statement import Parameters, Reader, Row, Statement
from catalog.transaction import Transaction
from catalog.usage_changes import SHARES, UsageChanges
from catalog.write_queue import QueueSettings

log = logging.getLogger(__name__)
T = TypeVar("T")

_POINT_WAIT_S = 5.0
_SCAN_WAIT_S = 60.0

_GENERATION = Statement(sa.select(schema.meta.c.config_generation))


def create(url: str, *, cluster_id: bytes, identity: bytes, now_ms: int) -> None:
    """Make the tables and the catalog's own row, which comes last: without it there is no catalog, and the next
    `create` goes on. Raises CatalogRefused when there is one, CatalogBusy when the database is out of reach."""
    database = Postgres(url)
    migrate(database)
    link = Link(database)
    try:
        cursor = link.cursor()
        cursor.execute(INSERT_META.text(database.dialect), new_meta(identity, cluster_id, now_ms))
    except postgres.DriverError as error:
        if not postgres.is_duplicate(error):
            raise
        raise CatalogRefused(f"there is a catalog in {database.name} already") from error
    finally:
        link.drop()


def migrate(database: Postgres) -> None:
    """Bring the schema to HEAD_REVISION, from nothing too. Raises CatalogRefused, and what the driver raises."""
    connection = database.connect()
    try:
        migrating.migrate(database.engine(connection))
    except (sa.exc.DBAPIError, postgres.DriverError):
        # Another process may have done the same at the same time.
        again = database.connect()
        try:
            if postgres.revision_of(again) != schema.HEAD_REVISION:
                raise
        finally:
            again.close()
    finally:
        connection.close()


def _bring_up_to_date(database: Postgres, *, may_migrate: bool) -> None:
    connection = database.connect()
    try:
        revision = postgres.revision_of(connection)
    finally:
        connection.close()
    if revision == schema.HEAD_REVISION:
        return
    if revision is None:
        raise CatalogRefused(f"there is no catalog in {database.name}: make one with trivet init")
    if not may_migrate:
        raise CatalogRefused(
            f"{database.name} is of another release (schema {revision}, this one has {schema.HEAD_REVISION}), and a "
            "store runs on it: stop that, and start it again with the release that is installed now"
        )
    migrate(database)


class PostgresCatalog(Catalog):
    """The database at `url`. Any number of processes may have it open; transactions that conflict are retried."""

    def __init__(
        self,
        url: str,
        settings: CatalogSettings,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        *,
        may_migrate: bool,
    ) -> None:
        """Use `Catalog.open`."""
        super().__init__(settings, clock, random)
        self._database = Postgres(url)
        _bring_up_to_date(self._database, may_migrate=may_migrate)
        # Few enough to be summed at once, many enough that two processes seldom write the same rows of the books.
        self._share = secrets.randbelow(SHARES)
        self._configuration = Configuration(self._read_meta())
        self._started = False
        self._writer: PostgresWriter
        self._points: PostgresPool
        self._scans: PostgresPool

    def _read_meta(self) -> Any:
        link = Link(self._database)
        try:
            return transaction.read_meta(link.reader())
        except AssertionError as error:
            raise CatalogRefused(
                f"the catalog in {self._database.name} was begun and not finished: run trivet init again"
            ) from error
        finally:
            link.drop()

    async def start(self) -> None:
        """Begin to serve, on the running loop. Connections are made when they are needed."""
        settings = self.settings
        self._points = PostgresPool(
            [Link(self._database) for _ in range(settings.connections)],
            snapshots=False,
            waiting_max=settings.waiting_reads_max,
            answer_wait_s=_POINT_WAIT_S,
        )
        self._scans = PostgresPool(
            [Link(self._database) for _ in range(settings.read_threads)],
            snapshots=True,
            waiting_max=settings.waiting_reads_max,
            answer_wait_s=_SCAN_WAIT_S,
        )
        self._writer = PostgresWriter(
            link=Link(self._database),
            settings=QueueSettings(
                wait_s=settings.server_wait_s,
                waiting_writes_max=settings.waiting_writes_max,
                batch_writes_max=settings.batch_writes_max,
                abandoned_blobs_max=settings.abandoned_blobs_max,
            ),
            answer_wait_s=_POINT_WAIT_S,
            begin=self._begin,
        )
        self._started = True

    async def close(self) -> None:
        """Finish what waits, then close the connections."""
        if not self._started:
            return
        await self._writer.finish()
        self._points.close()
        self._scans.close()

    def _begin(self, cursor: Any) -> Transaction:
        begun = self._transaction(cursor, self._database.dialect)
        begun.usage = UsageChanges(self._share)
        return begun

    @property
    def path(self) -> None:
        """There is no file."""
        return

    @property
    def waiting_writes(self) -> int:
        """Requests that no group commit has taken up yet."""
        return self._writer.waiting

    def tell_commits(self, heard: Callable[[int, float], None]) -> None:
        """See `Catalog.tell_commits`."""
        self._writer.on_commit = heard

    async def write(
        self,
        function: Callable[[Transaction], T],
        *,
        blob: NewBlob | None = None,
        frees: bool = False,
        unshipped: bool = False,
    ) -> T:
        """See `Catalog.write`; the function runs in the writer's thread. The server has its own replication."""
        return await self._writer.submit(function, blob, frees)  # type: ignore[no-any-return]

    def abandon(self, blob: NewBlob) -> None:
        """See `Catalog.abandon`."""
        self._writer.abandon(blob)

    async def read(self, function: Callable[[Reader], T]) -> T:
        """See `Catalog.read`: in a thread, on a snapshot."""
        return await self._scans.run(function)

    async def point(self, statement: Statement, parameters: Parameters = ()) -> list[Row]:
        """See `Catalog.point`: one statement in a transaction of its own."""
        return await self._points.run(lambda reader: reader.rows(statement, parameters))

    async def configuration(self) -> Configuration:
        """Cached configuration, proved to be as of now (P4): one round trip."""
        (generation,) = (await self.point(_GENERATION))[0]
        if generation != self._configuration.meta.config_generation:
            self._configuration = Configuration(await self.read(transaction.read_meta))
        return self._configuration
