"""Whether two catalogs hold the same."""

from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as driver

_OF_THE_FILE = ("outbox", "alembic_version")
_OF_A_RESTORE = ("meta", "leases", "events", "progress", "sqlite_sequence")


def contents(path: Path) -> dict[str, list[Any]]:
    """Every row of every table but those that are the file's own."""
    connection = driver.connect(path)
    try:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in tables
            if table not in _OF_THE_FILE
        }
    finally:
        connection.close()


def same(lost: dict[str, list[Any]], found: dict[str, list[Any]]) -> None:
    """What was restored is what was lost, but for the traces of the restore."""
    for table in _OF_A_RESTORE:
        for rows in (lost, found):
            rows.pop(table, None)
    assert found == lost
