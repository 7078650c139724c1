"""Moving an embedded catalog into a PostgreSQL database, while the store does not run.

Table by table in the order of the primary key, in slices: each is one transaction of the target, which also notes how
far it is. So a move that was killed at any instant goes on where it was. The source is renamed first, so that no store
starts on it meanwhile, and once more when all of it is over. The target's `meta` row, without which there is no catalog
in it, comes last: after count and checksum of every table were found the same on both sides.

A new term makes nodes refuse deletes of a process that still works on the old file (S18).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from catalog import backup, schema, sqlite
from catalog.engine import wall_clock_ms
from catalog.errors import CatalogFailed, CatalogRefused
from catalog.lock import FileLock, lock_path
from catalog.new_file import moved_path, moving_path
from catalog.postgres import DriverError, Postgres
from catalog.postgres_catalog import migrate

_ROWS: Final = 1000
_BYTES: Final = 4 << 20
_TERMS: Final = 1 << 32
_STAYS: Final = {"meta", "outbox"}
"""What the new catalog has of its own: a row that says which one it is, and no log on the nodes (S17)."""
_POSITIONS: Final = "catalog_move"

Row = tuple[Any, ...]


class TableMoved(msgspec.Struct, frozen=True):
    """One table, the same on both sides; `checksum` is SHA-256 over its rows in the order of their key."""

    name: str
    rows: int
    checksum: str


Progress = Callable[[str, int, int], None]
"""Called with a table's name, the rows that are done, and how many there are."""


def move(
    path: Path, url: str, *, progress: Progress, clock: Callable[[], int] = wall_clock_ms
) -> list[TableMoved]:
    """Move the catalog at `path` into the database at `url`, or go on with a move that was cut short. The caller keeps
    the store from running. Raises CatalogRefused when there is nothing to move or the database is not for it,
    CatalogFailed when the two sides differ, CatalogBusy when the database is out of reach."""
    sqlite.check_version(sqlite.runtime_version())
    database = Postgres(url)
    source_path = _taken(path)
    try:
        with sqlite.finished_file(source_path) as source, closing(database.connect()) as target:
            migrate(database)
            _begin(source, target, database.name)
            for table in _tables():
                _copy(source, target, table, progress)
            report = [_compared(source, target, table, progress) for table in _tables()]
            _finish(source, target, clock())
    except (DriverError, sqlite.DriverError, sa.exc.DBAPIError) as error:
        raise CatalogFailed(
            f"the move was cut short ({error}): run the command again, and it goes on"
        ) from error
    source_path.rename(moved_path(path))
    _sync(path.parent)
    return report


def _taken(path: Path) -> Path:
    """The source as a file that nobody has open, out of the way of a start."""
    aside = moving_path(path)
    if not path.exists():
        if not aside.exists():
            raise CatalogRefused(f"there is no catalog at {path}")
        return aside
    if aside.exists():
        raise CatalogRefused(f"both {path} and {aside} are there: keep the one that is the store's")
    database = sqlite.Sqlite(path, mmap_bytes=0, cache_bytes=8 << 20)
    lock = FileLock(lock_path(path))
    lock.acquire()
    try:
        with closing(database.connect(query_only=False)) as connection:
            revision = sqlite.revision_of(connection)
            if revision != schema.HEAD_REVISION:
                raise CatalogRefused(
                    f"{path} has schema {revision}, not {schema.HEAD_REVISION}: start and stop the store once with "
                    "this release, then move its catalog"
                )
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size:
            raise CatalogRefused(f"{path} is in use: stop the store, then move its catalog")
        backup.check(path, str(path))
        path.rename(aside)
        _sync(path.parent)
    finally:
        lock.close()
    return aside


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tables() -> list[sa.Table]:
    return [table for table in schema.metadata.sorted_tables if table.name not in _STAYS]


def _begin(source: Any, target: Any, name: str) -> None:
    """Refuse a database that holds anything else; note whose move this is."""
    (catalog_id,) = source.execute("SELECT catalog_id FROM meta").fetchone()
    if target.execute("SELECT 1 FROM meta").fetchone() is not None:
        raise CatalogRefused(f"there is a catalog in {name} already")
    target.execute(
        f"CREATE TABLE IF NOT EXISTS {_POSITIONS} "
        "(table_name TEXT PRIMARY KEY, catalog_id BYTEA NOT NULL, position BYTEA, moved BIGINT NOT NULL)"
    )
    begun = target.execute(f"SELECT DISTINCT catalog_id FROM {_POSITIONS}").fetchall()  # noqa: S608
    owners = {row[0] for row in begun}
    if owners - {catalog_id}:
        raise CatalogRefused(f"{name} holds the beginning of another catalog's move: take an empty database")
    if owners:
        return
    for table in _tables():
        if target.execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchone() is not None:  # noqa: S608
            raise CatalogRefused(f"{name} is not empty (table {table.name}): take an empty database")
    with target.transaction():
        for table in _tables():
            target.execute(f"INSERT INTO {_POSITIONS} VALUES (%s, %s, NULL, 0)", (table.name, catalog_id))  # noqa: S608


def _key_columns(table: sa.Table) -> list[str]:
    return [column.name for column in table.primary_key.columns]


def _rows_of(source: Any, table: sa.Table, after: Sequence[Any] | None) -> Any:
    """The source's rows behind a key, in its order; read as they are taken."""
    key = ", ".join(_key_columns(table))
    text = f"SELECT {_columns(table)} FROM {table.name}"  # noqa: S608
    if after is not None:
        text += f" WHERE ({key}) > ({', '.join('?' * len(after))})"
    return source.cursor().execute(f"{text} ORDER BY {key}", tuple(after or ()))


def _columns(table: sa.Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


def _slices(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Bounded in rows and bytes: a row of `manifests` may have a megabyte."""
    taken: list[Row] = []
    nbytes = 0
    for row in rows:
        taken.append(row)
        nbytes += sum(len(value) for value in row if isinstance(value, (bytes, str)))
        if len(taken) >= _ROWS or nbytes >= _BYTES:
            yield taken
            taken, nbytes = [], 0
    if taken:
        yield taken


def _copy(source: Any, target: Any, table: sa.Table, progress: Progress) -> None:
    (total,) = source.execute(f"SELECT count(*) FROM {table.name}").fetchone()  # noqa: S608
    position, moved = target.execute(
        f"SELECT position, moved FROM {_POSITIONS} WHERE table_name = %s",  # noqa: S608
        (table.name,),
    ).fetchone()
    after = None if position is None else msgspec.msgpack.decode(position)
    insert = f"INSERT INTO {table.name} ({_columns(table)}) VALUES ({', '.join(['%s'] * len(table.columns))})"  # noqa: S608
    key_at = [list(table.columns).index(column) for column in table.primary_key.columns]
    progress(table.name, moved, total)
    for rows in _slices(_rows_of(source, table, after)):
        moved += len(rows)
        last = msgspec.msgpack.encode([rows[-1][at] for at in key_at])
        with target.transaction(), target.cursor() as cursor:
            cursor.executemany(insert, rows)
            cursor.execute(
                f"UPDATE {_POSITIONS} SET position = %s, moved = %s WHERE table_name = %s",  # noqa: S608
                (last, moved, table.name),
            )
        progress(table.name, moved, total)


def _compared(source: Any, target: Any, table: sa.Table, progress: Progress) -> TableMoved:
    """Read both sides whole. Raises CatalogFailed when they differ."""
    key = ", ".join(_key_columns(table))
    progress(f"{table.name}: compared", 0, 1)
    ours = _checksum(_rows_of(source, table, None))
    with target.transaction(), target.cursor(name="compared") as cursor:
        cursor.itersize = _ROWS
        cursor.execute(f"SELECT {_columns(table)} FROM {table.name} ORDER BY {key}")  # noqa: S608
        theirs = _checksum(cursor)
    if ours != theirs:
        raise CatalogFailed(
            f"table {table.name} is not the same in the database ({theirs[0]} rows there, {ours[0]} here): drop the "
            "database, make an empty one, and run the command again"
        )
    progress(f"{table.name}: compared", 1, 1)
    return TableMoved(table.name, *ours)


def _checksum(rows: Iterable[Row]) -> tuple[int, str]:
    digest, count, encode = hashlib.sha256(), 0, msgspec.msgpack.encode
    for row in rows:
        digest.update(encode(row))
        count += 1
    return count, digest.hexdigest()


def _finish(source: Any, target: Any, now_ms: int) -> None:
    """From the commit of this on the database is the catalog."""
    numbers = dict(source.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    columns = [column.name for column in schema.meta.columns]
    meta = dict(
        zip(columns, source.execute(f"SELECT {', '.join(columns)} FROM meta").fetchone(), strict=True)  # noqa: S608
    )
    meta["term"] = max(meta["term"] + _TERMS, int(time.time()) << 28)
    meta["config_generation"] += 1
    with target.transaction():
        for table in _tables():
            if table.name in numbers:
                (column,) = _key_columns(table)
                # Numbers are never given out twice, also those whose rows are gone.
                target.execute(
                    f"ALTER TABLE {table.name} ALTER COLUMN {column} RESTART WITH {int(numbers[table.name]) + 1}"
                )
        target.execute("UPDATE leases SET counter = counter + 1, holder = NULL")
        target.execute(
            "INSERT INTO events (at_ms, kind, node, detail) VALUES (%s, %s, NULL, %s)",
            (now_ms, "catalog-moved", f"from a file to a database; term {meta['term']}"),
        )
        target.execute(
            f"INSERT INTO meta ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})",  # noqa: S608
            tuple(meta[column] for column in columns),
        )
        target.execute(f"DROP TABLE {_POSITIONS}")
