"""Schema migrations by Alembic, run from code (S25: they only add)."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import sqlalchemy as sa

from catalog import schema
from catalog.errors import CatalogRefused

_REVISION = sa.text("SELECT version_num FROM alembic_version")


def revision_of(connection: Any) -> str | None:
    """The revision of an open database, None when it has no schema. `connection` is the driver's."""
    cursor = connection.cursor()
    tables = cursor.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchall()
    if not tables:
        return None
    rows = cursor.execute(str(_REVISION)).fetchall()
    return rows[0][0] if rows else None


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to HEAD_REVISION in one transaction, under the file lock. Raises CatalogRefused when
    it is newer than this code."""
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(files("catalog") / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, schema.HEAD_REVISION)
        except CommandError as error:
            raise CatalogRefused(f"the catalog was written by a newer Trivet: {error}") from error
        connection.commit()
