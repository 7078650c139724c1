"""Schema migrations by Alembic, run from code (S25: they only add)."""

from __future__ import annotations

from importlib.resources import files

import sqlalchemy as sa

from catalog import schema
from catalog.errors import CatalogRefused


def migrate(engine: sa.Engine, revision: str = schema.HEAD_REVISION) -> None:
    """Bring the schema to `revision`, the newest by default. The engine's connection is in a transaction, which is
    committed, and the caller holds the file lock. Raises CatalogRefused when the schema is newer than this code."""
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(files("catalog") / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, revision)
        except CommandError as error:
            raise CatalogRefused(f"the catalog was written by a newer Trivet: {error}") from error
        connection.commit()
