"""A PostgreSQL database that was put back from a dump, or that a standby brought which lagged behind (S18).

It knows nothing of what happened since, as a restored file does not: see `catalog.backup`.
"""

from __future__ import annotations

from contextlib import closing

import sqlalchemy as sa

from catalog import postgres
from catalog.backup import succeed
from catalog.engine import Catalog
from catalog.errors import CatalogFailed, CatalogRefused
from catalog.postgres import Postgres
from catalog.statement import Statement

_activity = sa.table(
    "pg_stat_activity", *(sa.column(name) for name in ("pid", "datname", "application_name"))
)
_OTHERS = Statement(
    sa.select(sa.func.count())
    .select_from(_activity)
    .where(
        _activity.c.datname == sa.func.current_database(),
        _activity.c.application_name == sa.literal_column(f"'{postgres.APPLICATION}'"),
        _activity.c.pid != sa.func.pg_backend_pid(),
    )
)


async def succeed_restored(url: str) -> int:
    """Make the catalog in the database at `url` another than the one that it was copied from: its term, which is
    returned, is higher than any that one can have had, no lease is held, and orphan collection is off. Raises
    CatalogRefused while processes of a store have it open, CatalogBusy, CatalogFailed."""
    database = Postgres(url)
    try:
        with closing(database.connect()) as connection:
            row = connection.execute(_OTHERS.text(database.dialect).encode()).fetchone()
    except postgres.DriverError as error:
        raise CatalogFailed(str(error)) from error
    assert row is not None
    if row[0]:
        raise CatalogRefused(
            f"processes of a store have {database.name} open ({row[0]} connections): stop all fronts and the steward"
        )
    catalog = Catalog.open(url)
    await catalog.start()
    try:
        return await catalog.write(succeed)
    finally:
        await catalog.close()
