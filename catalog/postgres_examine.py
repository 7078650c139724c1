"""A look at a catalog in PostgreSQL from outside: nothing is migrated or written."""

from __future__ import annotations

import time
from contextlib import closing
from typing import cast

import sqlalchemy as sa
from msgspec import Struct

from catalog import postgres, schema, statement
from catalog.errors import CatalogBusy
from catalog.examine import newest_ms
from catalog.model import NodeRow
from catalog.nodes import list_nodes
from catalog.postgres import Cursor, Postgres
from catalog.statement import Reader, Statement, constant

_ABOUT = Statement(
    sa.select(
        sa.func.version(),
        sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * constant("1000"), sa.BigInteger),
        sa.func.pg_database_size(sa.func.current_database()),
    )
)


class DatabaseExamination(Struct, frozen=True):
    """`ahead_s`: how far the server's clock is ahead of the caller's. `founded`: there is a catalog in it. `newest_ms`
    and `nodes` are empty where the schema is not this release's, or there is none."""

    name: str
    server: str
    encoding: str
    nbytes: int
    ahead_s: float
    revision: str | None
    founded: bool
    newest_ms: int
    nodes: tuple[NodeRow, ...]


def examine_database(url: str) -> DatabaseExamination:
    """Look at the database at `url`. Raises CatalogRefused when it can't serve, CatalogBusy when it is out of reach."""
    database = Postgres(url)
    try:
        with closing(database.connect()) as connection:
            reader = Reader(cast(statement.Cursor, Cursor(connection)), database.dialect)
            asked_s = time.time()
            about = reader.row(_ABOUT)
            answered_s = time.time()
            assert about is not None
            version, server_ms, nbytes = about
            revision = postgres.revision_of(connection)
            known = revision == schema.HEAD_REVISION
            founded = revision is not None and bool(connection.execute("SELECT 1 FROM meta").fetchone())
            return DatabaseExamination(
                name=database.name,
                server=" ".join(version.split()[:2]),
                encoding=connection.info.parameter_status("server_encoding") or "unknown",
                nbytes=nbytes,
                ahead_s=server_ms / 1000 - (asked_s + answered_s) / 2,
                revision=revision,
                founded=founded,
                newest_ms=newest_ms(reader) if known else 0,
                nodes=list_nodes(reader) if known else (),
            )
    except postgres.DriverError as error:
        raise CatalogBusy(f"{database.name} can't be read: {error}") from error
