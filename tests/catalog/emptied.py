"""Databases for tests that use them one after another: emptied, not made anew, which takes a tenth of the time.

What a test could leave behind is rows, sequences and connections; a test that changes more, such as a table, has a
database of its own (`making.PostgresStore` alone).
"""

import os
import time

import psycopg
from psycopg import sql

from tests.postgres import PostgresServer, new_database

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
_SEQUENCES = "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public'"
_CLOSE_OTHERS = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()"""


class EmptiedDatabases:
    """Those of one server. Not for threads."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._free: list[str] = []
        self._tables: list[str] = []
        self._sequences: dict[str, int | None] = {}
        self._rows: dict[str, bytes] = {}
        """What a new catalog has, by table; tables without rows are left out."""

    def take(self) -> str:
        """The URL of one with a new, empty catalog, which has an identity of its own."""
        if self._free:
            return self._free.pop()
        url = new_database(self.server)
        if not self._tables:
            with psycopg.connect(url) as connection:
                self._look(connection)
        return url

    def give_back(self, url: str) -> None:
        """Empty it, whoever is connected."""
        with psycopg.connect(url) as connection:
            connection.execute(_CLOSE_OTHERS)
            emptied = sorted({*self._written(connection), *self._rows})
            connection.execute(
                sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.Identifier, emptied)))
            )
            for table, rows in self._rows.items():
                with connection.cursor().copy(_copying(table, "FROM STDIN")) as copy:
                    copy.write(rows)
            connection.execute(
                "UPDATE meta SET catalog_id = %s, clock_ms = %s, created_ms = %s",
                (os.urandom(16), *(time.time_ns() // 1_000_000,) * 2),
            )
            for name, value in _sequences(connection).items():
                if value != self._sequences[name]:
                    at = self._sequences[name]
                    connection.execute("SELECT setval(%s, %s, %s)", (name, at or 1, at is not None))
        self._free.append(url)

    def _look(self, connection: psycopg.Connection) -> None:
        self._tables = [str(name) for (name,) in connection.execute(_TABLES)]
        self._sequences = _sequences(connection)
        for table in self._written(connection):
            with connection.cursor().copy(_copying(table, "TO STDOUT")) as copy:
                self._rows[table] = b"".join(copy)

    def _written(self, connection: psycopg.Connection) -> list[str]:
        """The tables that have rows."""
        asked = [
            sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(sql.Literal(name), sql.Identifier(name))
            for name in self._tables
        ]
        return [str(name) for (name,) in connection.execute(sql.SQL(" UNION ALL ").join(asked))]


def _copying(table: str, where: str) -> sql.Composed:
    return sql.SQL("COPY {} {}").format(sql.Identifier(table), sql.SQL(where))


def _sequences(connection: psycopg.Connection) -> dict[str, int | None]:
    return dict(connection.execute(_SEQUENCES).fetchall())
