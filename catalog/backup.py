"""Backup and restore of the embedded catalog (S18): a copy of one moment, made while others write.

A restored catalog knows nothing of what happened after its backup. So that it deletes nothing of that, orphan
collection is off until an operator accepts (`leases.allow_orphans`); so that nodes obey it, and no longer the
catalog that it replaces should that turn up again, its term is higher than any that one can have had.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from catalog import access_keys, migrating, outbox, schema, sqlite, work
from catalog.engine import wall_clock_ms
from catalog.errors import CatalogFailed, CatalogRefused
from catalog.lock import FileLock, lock_path
from catalog.new_file import made_whole, refuse_occupied
from catalog.recording import RecordingTransaction
from catalog.statement import Statement, constant, parameter
from catalog.transaction import PlacementNumbers, Transaction

_TERMS = 1 << 32
_TERMS_PER_SECOND = 1 << 28
_EPOCHS = 1024
_CACHE_BYTES = 8 << 20

_meta = schema.meta
_TERM = Statement(sa.select(_meta.c.term))
_RAISE = Statement(
    sa.update(_meta).values(
        term=parameter("n_term"),
        upload_epoch=_meta.c.upload_epoch + constant(str(_EPOCHS)),
        config_generation=_meta.c.config_generation + constant("1"),
        orphans_allowed=constant("0"),
    ),
    "n_term",
)
_FREE_LEASES = Statement(
    sa.update(schema.leases).values(counter=schema.leases.c.counter + constant("1"), holder=sa.null())
)


def backup(path: Path, target: Path) -> None:
    """Copy the catalog at `path`, as of one moment, to a new file; others may read and write meanwhile. The copy
    is checked page by page, durable, and for the owner only. Raises CatalogRefused when there is no catalog or
    `target` exists, CatalogFailed when it can't be written or does not pass its check."""
    sqlite.check_version(sqlite.runtime_version())
    if not path.exists():
        raise CatalogRefused(f"there is no catalog at {path}")
    with failures_told(f"no backup of {path} was made"), made_whole(target) as growing:
        with _reading(path) as connection:
            sqlite.copy(connection, growing)
        check(growing, f"the copy of {path}")


def restore(source: Path, path: Path, *, clock: Callable[[], int] = wall_clock_ms) -> None:
    """Make the catalog at `path` out of a backup, whole or not at all. Raises CatalogRefused when there is one at
    `path` or `source` is no backup, CatalogFailed when it can't be written or does not pass its check."""
    sqlite.check_version(sqlite.runtime_version())
    if not source.exists():
        raise CatalogRefused(f"there is no backup at {source}")
    log = Path(f"{source}-wal")
    if log.exists() and log.stat().st_size > 0:
        raise CatalogRefused(f"{source} is a catalog in use (it has a log, {log.name}): take a backup of it")
    refuse_occupied(path)
    check(source, str(source))
    with failures_told(f"{source} was not restored"), made_whole(path) as growing:
        with sqlite.finished_file(source) as connection:
            sqlite.copy(connection, growing)
        renew(growing, clock(), log_leads_here=False)


@contextmanager
def failures_told(what: str) -> Iterator[None]:
    try:
        yield
    except (sqlite.DriverError, OSError) as error:
        raise CatalogFailed(f"{what}: {error}") from error


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    connection = sqlite.Sqlite(path, mmap_bytes=0, cache_bytes=_CACHE_BYTES).connect()
    try:
        yield connection
    finally:
        # The last one out folds the log into the file, which is a checkpoint: under the lock (S16).
        lock = FileLock(lock_path(path))
        lock.acquire()
        try:
            connection.close()
        finally:
            lock.close()


def check(path: Path, name: str) -> None:
    """Read all of a database that nobody has open. Raises CatalogRefused for one that is no catalog, CatalogFailed for
    a damaged one."""
    try:
        with sqlite.finished_file(path) as connection:
            if sqlite.revision_of(connection) is None:
                raise CatalogRefused(f"{name} is not a catalog")
            faults = sqlite.integrity_faults(connection)
    except sqlite.DriverError as error:
        raise CatalogFailed(f"{name} is damaged or no catalog: {error}") from error
    if faults:
        raise CatalogFailed(f"{name} is damaged: {faults[0]}")


def renew(path: Path, now_ms: int, *, log_leads_here: bool) -> None:
    """Bring the schema up to date and make the catalog another than the one that was lost. `log_leads_here`: whether
    the nodes have what it was made from; else they need a snapshot before anything is answered (S17)."""
    database = sqlite.Sqlite(path, mmap_bytes=0, cache_bytes=_CACHE_BYTES)
    migrating.migrate(database.engine(database.initialise()))
    # The engine has closed the connection; the last one out folds the log into the file.
    connection = database.connect(query_only=False)
    try:
        cursor = connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        tx = RecordingTransaction(
            cursor,
            database.dialect,
            now_ms=now_ms,
            grace_ms=0,
            day_ms=1,
            random=os.urandom,
            placements=PlacementNumbers(),
        )
        waiting = outbox.Outbox(cursor, database.dialect)
        before = waiting.position()
        succeed(tx)
        if before.batch > 0:
            needed = outbox.want_snapshot if log_leads_here else outbox.note_gap
            needed(tx, before.batch + outbox.STEP_OVER)
            waiting.write(tx, before, before.term, outbox.STEP_OVER)
        cursor.execute("COMMIT")
    finally:
        connection.close()


def succeed(tx: Transaction) -> int:
    """Make the catalog another than the one that was lost, in its own rows: a term of its own, no lease held, blob ids
    that were not given out, orphan collection off. The term."""
    row = tx.row(_TERM)
    assert row is not None
    # By the time too: of two restores of one backup the second must be obeyed after the first.
    term: int = max(row[0] + _TERMS, tx.now_ms // 1000 * _TERMS_PER_SECOND)
    tx.execute(_RAISE, (term,))
    tx.meta_changed()
    tx.execute(_FREE_LEASES)
    work.record_event(
        tx, "catalog-restored", detail=f"term {term}; orphan collection is off{_keys_again(tx)}"
    )
    return term


def _keys_again(tx: Transaction) -> str:
    """A key that leaked and was deleted after the backup is good again: who restores must hear of it."""
    keys = access_keys.list_keys(tx)
    if not keys:
        return ""
    return f"; access keys ({len(keys)}) are as they were then, also those deleted or disabled since: trivet key list"
