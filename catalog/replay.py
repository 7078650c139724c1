"""The embedded catalog, made again from what the storage nodes hold of it (S17): a snapshot, and the group commits
after it, each run again and compared with what it did the first time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from catalog import embedded, migrating, outbox, schema, snapshots, sqlite
from catalog.backup import check, failures_told, renew
from catalog.batch_records import Changes, RecordDamaged, Step, changes_of
from catalog.engine import new_meta, wall_clock_ms
from catalog.errors import CatalogFailed, CatalogRefused
from catalog.log_chain import Chain, Log, State
from catalog.log_records import LogSource
from catalog.new_file import made_whole, refuse_occupied
from catalog.nodes import JOINING, REMOVED
from catalog.outbox import Outbox
from catalog.snapshots import SnapshotDamaged
from catalog.statement import Reader, Statement, constant, parameter

log = logging.getLogger(__name__)

_CACHE_BYTES = 64 << 20
_BATCHES_A_COMMIT = 1000
_HOLDERS = Statement(
    sa.select(sa.func.count())
    .select_from(schema.nodes)
    .where(schema.nodes.c.state != constant(f"'{REMOVED}'"), schema.nodes.c.state != constant(f"'{JOINING}'"))
)
_NUMBER = Statement(sa.update(schema.meta).values(batch=parameter("n_batch")), "n_batch")


class ReplayReport(Struct, frozen=True):
    """What a catalog was restored from."""

    snapshot_batch: int
    """0: the log begins with the catalog's creation."""
    batches: int
    term: int
    batch: int
    last_ms: int | None
    """When the last group commit was made; None if the snapshot is all there was."""
    unreadable: list[str]
    needs_snapshot: bool
    """Before anything is acknowledged: some of it was found on too few of the nodes."""


def restore_from_log(
    sources: Sequence[LogSource[Any]],
    path: Path,
    *,
    copies: int = 2,
    past_gaps: bool = False,
    clock: Callable[[], int] = wall_clock_ms,
) -> ReplayReport:
    """Make the catalog at `path` as the newest one that the sources lead to, whole or not at all, then a new one (S18)
    as `backup.restore` does. `copies`: on how many nodes each entry lies.

    Raises CatalogRefused when there is one at `path`, when the sources do not lead to the newest batch that they hold
    (with `past_gaps`: to any), or when they are so few of the catalog's nodes that newer batches may lie on the others
    alone (not with `past_gaps`); CatalogFailed when a batch does not do again what it did, or the file can't be
    written."""
    sqlite.check_version(sqlite.runtime_version())
    refuse_occupied(path)
    held = Log(sources)
    chain = held.chain(past_gaps=past_gaps)
    with failures_told("the catalog was not restored"), made_whole(path) as growing:
        try:
            _lay_base(held, chain, growing)
            last_ms = _replay(held, chain.batches, growing)
        except (RecordDamaged, SnapshotDamaged) as error:
            raise CatalogFailed(f"the catalog was not restored: {error}") from error
        check(growing, "what was restored")
        if not past_gaps:
            _refuse_too_few(held.nodes, growing, copies)
        # What lies on fewer of them was never acknowledged, or the other copy is on a node that was not asked, and may
        # be lost: nothing must be acknowledged that rests on it.
        safe = held.copies_of(chain) >= copies
        renew(growing, clock(), log_leads_here=safe)
    tip = chain.batches[-1] if chain.batches else chain.base
    return ReplayReport(
        chain.base.batch, len(chain.batches), tip.term, tip.batch, last_ms, held.unreadable, not safe
    )


def _lay_base(held: Log, chain: Chain, growing: Path) -> None:
    if chain.base.batch > 0:
        snapshots.write_file(held.chunks(chain.base), growing)
        check(growing, "the snapshot")
        return
    first = changes_of(held.record(chain.batches[0]))
    meta = new_meta(held.catalog_id, first.cluster_id, first.created_ms)
    embedded.fill(_database(growing), meta, first.revision)


def _refuse_too_few(asked: int, restored: Path, copies: int) -> None:
    with sqlite.finished_file(restored) as connection:
        ((count,),) = Reader(connection.cursor(), sqlite.DIALECT).rows(_HOLDERS)
    needed = count - copies + 1
    if asked < needed:
        raise CatalogRefused(
            f"the catalog has {count} nodes, and each part of its log lies on {copies} of them: it takes {needed} to "
            f"be certain that they have the newest part, and these are {asked}. Name the directories of more nodes, if "
            "there are any"
        )


def _database(path: Path) -> sqlite.Sqlite:
    return sqlite.Sqlite(path, mmap_bytes=0, cache_bytes=_CACHE_BYTES)


def _replay(held: Log, batches: list[State], growing: Path) -> int | None:
    """When the last of the batches was made."""
    database = _database(growing)
    replay = _Replay(database)
    last_ms = None
    try:
        for state in batches:
            changes = changes_of(held.record(state))
            replay.run(state, changes)
            last_ms = changes.clock_ms
        replay.finish()
    finally:
        replay.close()
    return last_ms


class _Replay:
    """A catalog file on its way from one batch to the next."""

    def __init__(self, database: sqlite.Sqlite) -> None:
        self._database = database
        self._revision: str | None
        self._open()

    def _open(self) -> None:
        self._connection = self._database.connect(query_only=False)
        self._connection.execute("PRAGMA synchronous = OFF").fetchall()  # synced when it is whole
        self._revision = sqlite.revision_of(self._connection)
        self._cursor = self._connection.cursor()
        self._cursor.execute("BEGIN IMMEDIATE")
        self._since = 0

    def run(self, state: State, changes: Changes) -> None:
        """Raises CatalogFailed when the outcome is another one than it was."""
        if changes.revision != self._revision:
            self._migrate(changes.revision)
        for number, step in enumerate(changes.steps):
            self._repeat(changes.texts[step.text], step, f"statement {number} of batch {state.batch}")
        self._cursor.execute(_NUMBER.text(self._database.dialect), (state.batch,))
        now = outbox.position(Reader(self._cursor, self._database.dialect))
        if now.term != state.term:
            raise CatalogFailed(f"batch {state.batch} leads to term {now.term}, and it was {state.term}")
        self._since += 1
        if self._since >= _BATCHES_A_COMMIT:
            self._commit()
            self._cursor.execute("BEGIN IMMEDIATE")
            self._since = 0

    def _repeat(self, text: str, step: Step, what: str) -> None:
        cursor = self._cursor
        cursor.execute(text, step.parameters)
        again: Any = cursor.fetchall() if isinstance(step.outcome, list) else cursor.rowcount
        if again != step.outcome:
            raise CatalogFailed(
                f"{what} does not do again what it did: {again!r} instead of {step.outcome!r}"
            )

    def _migrate(self, revision: str) -> None:
        self._commit()
        log.info("the catalog goes from schema %s to %s", self._revision, revision)
        migrating.migrate(self._database.engine(self._connection), revision)
        self._open()

    def _commit(self) -> None:
        self._cursor.execute("COMMIT")
        sqlite.checkpoint(self._cursor)

    def finish(self) -> None:
        """What waited in the outbox is in the catalog now, and on the nodes."""
        Outbox(self._cursor, self._database.dialect).drop((1 << 63) - 1)
        self._commit()

    def close(self) -> None:
        """The file is whole when the last connection is closed."""
        self._connection.close()
