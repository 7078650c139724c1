"""Looking at a key for the rules of its bucket: in one transaction, with the versions as they are in it.

What is expired goes the way that a client's DELETE goes, so locks hold here as there (S26); a version that is locked is
looked at again when its retention ends. Versions are read from the oldest on and only as far as a rule may concern
them, so that a look costs O(what expires), and what rules with tags or sizes, spared and locked versions leave behind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from msgspec import Struct, structs

from catalog import blobs, buckets, lifecycle, objects, uploads, version_rows, versions
from catalog.attributes import pack_attributes, unpack_attributes
from catalog.errors import ObjectLocked, RowDamaged
from catalog.lifecycle import Facts
from catalog.lifecycle_rules import KeyRules
from catalog.model import NewBlob, PartRef, Retention
from catalog.statement import Reader
from catalog.transaction import Transaction, read_meta
from catalog.versions import NULL_VERSION

CLOCK_AHEAD_MS_MAX = 60_000
"""The wall clock is believed so far ahead of the lock clock, which is set every few seconds."""

_UNREADABLE_WAIT_MS = 3_600_000
_LOCKED_WAIT_MS_MIN = 1000
_NOTED_WAIT_MS = 60_000


class Move(Struct, frozen=True):
    """A version that the rules want in another storage class."""

    sequence: int
    version_id: str | None
    blob_id: bytes
    storage_class: str


class Looked(Struct, frozen=True):
    """What one look at a key did: versions expired, delete markers removed, uploads aborted; and what is to be moved.
    `after`, unless None: the key has more versions to look at, from that sequence on. While there are moves or more
    versions, the key stays due."""

    expired: int = 0
    markers: int = 0
    uploads: int = 0
    moves: tuple[Move, ...] = ()
    after: int | None = None
    next_ms: int | None = None


def clock_ms(reader: Reader, wall_ms: int) -> int:
    """What time it is for the rules: that of the wall clock, unless it has run away from the lock clock. A wall clock
    that was set forward expires nothing."""
    return min(wall_ms, read_meta(reader).clock_ms + CLOCK_AHEAD_MS_MAX)


def look(
    tx: Transaction, bucket_id: int, key: bytes, wall_ms: int, *, limit: int, earlier: Looked | None = None
) -> Looked:
    """Do what the rules want of the key at `wall_ms`, of up to `limit` of its versions and uploads, and note when to
    look again. `earlier`: what the look before this one said, if it has not seen all. Raises RowDamaged when the
    bucket's row can't be read."""
    bucket = buckets.of_id(tx, bucket_id)
    rules = None if bucket is None else KeyRules.of(bucket.actions, key, tx.day_ms)
    if rules is None:
        lifecycle.looked_at(tx, bucket_id, key, None)
        return Looked()
    now_ms = clock_ms(tx, wall_ms)
    visit = _Visit(tx, (bucket_id, key), rules, now_ms)
    noted = False
    if earlier is not None:
        visit.due.append(earlier.next_ms)
        noted = lifecycle.due_of(tx, bucket_id, key) != lifecycle.IN_SLICES_MS
    after = visit.noncurrent(-1 if earlier is None or earlier.after is None else earlier.after, limit)
    if after is None:
        visit.newest()
        visit.uploads(limit)
    if noted:  # perhaps for the sake of a version that an earlier look has passed
        visit.due.append(now_ms + _NOTED_WAIT_MS)
    found = visit.looked(after)
    if found.after is not None:
        if not noted:
            lifecycle.looked_at(tx, bucket_id, key, lifecycle.IN_SLICES_MS)
    elif not found.moves:
        # Not earlier: the removals above have noted the key as any client's would have.
        lifecycle.looked_at(tx, bucket_id, key, found.next_ms)
        if visit.expired_current:
            # There may be a delete marker now, and every noncurrent version has a newer one more.
            assert bucket is not None
            lifecycle.noted(tx, bucket_id, key, bucket.actions)
    return found


class _Visit:
    """One key in one transaction."""

    def __init__(self, tx: Transaction, where: tuple[int, bytes], rules: KeyRules, now_ms: int) -> None:
        self.due: list[int | None] = []
        self._tx = tx
        self._where = where
        self._rules = rules
        self._now_ms = now_ms
        self.expired_current = False
        self._expired = 0
        self._markers = 0
        self._uploads = 0
        self._moves: list[Move] = []

    def looked(self, after: int | None) -> Looked:
        return Looked(
            self._expired,
            self._markers,
            self._uploads,
            tuple(self._moves),
            after,
            lifecycle.earliest(self.due),
        )

    def noncurrent(self, after: int, limit: int) -> int | None:
        """Noncurrent versions, oldest first; the last sequence seen when there may be more to do."""
        newer = _Newer(self._tx, *self._where, max(self._rules.spared(), default=0))
        rows = lifecycle.oldest_older(self._tx, *self._where, after=after, limit=limit)
        for row in rows:
            if row.noncurrent_ms is None:
                return None  # the delete marker on top
            from_ms = self._rules.noncurrent_from(row.noncurrent_ms)
            if from_ms is None or from_ms > self._now_ms:
                self.due.append(from_ms)
                return None
            self._judge(row, newer_noncurrent=newer.than(row.sequence))
        return rows[-1].sequence if len(rows) == limit else None

    def newest(self) -> None:
        """The current version, or the delete marker on top."""
        row = lifecycle.newest(self._tx, *self._where)
        if row is not None:
            self._judge(row, is_current=True)
            return
        older = lifecycle.newest_older(self._tx, *self._where, 2)
        if older and older[0].noncurrent_ms is None:
            self._judge(older[0], alone=len(older) == 1)

    def _judge(
        self, row: Facts, *, newer_noncurrent: int = 0, alone: bool = False, is_current: bool = False
    ) -> None:
        found = self._rules.outlook(row.seen(newer_noncurrent=newer_noncurrent, alone=alone), self._now_ms)
        self.due.append(found.next_ms)
        if found.expired:
            self._remove(row, is_current=is_current)
        elif found.storage_class is not None:
            assert row.blob_id is not None
            self._moves.append(Move(row.sequence, row.version_id, row.blob_id, found.storage_class))

    def _remove(self, row: Facts, *, is_current: bool) -> None:
        bucket_id, key = self._where
        try:
            if is_current:
                objects.delete(self._tx, bucket_id=bucket_id, key=key)
                self.expired_current = True
            else:
                version_id = row.version_id or NULL_VERSION
                objects.delete_version(self._tx, bucket_id=bucket_id, key=key, version_id=version_id)
        except ObjectLocked:
            self.due.append(self._unlocked_ms(row))
        except RowDamaged:  # nobody can say whether it is locked: it stays
            self.due.append(self._now_ms + _UNREADABLE_WAIT_MS)
        else:
            if row.blob_id is None:
                self._markers += 1
            else:
                self._expired += 1

    def _unlocked_ms(self, row: Facts) -> int | None:
        """When to look at a locked version again, by the wall clock. The end of a legal hold is noted when it comes."""
        attributes = unpack_attributes(row.attributes)
        retention: Retention | None = attributes.retention
        if attributes.legal_hold or retention is None:
            return None
        left_ms = retention.until_ms - self._tx.meta.clock_ms
        return self._now_ms + max(left_ms, _LOCKED_WAIT_MS_MIN)

    def uploads(self, limit: int) -> None:
        """Open uploads, which all become due in the order of their ages."""
        bucket_id, key = self._where
        found = lifecycle.oldest_uploads(self._tx, bucket_id, key, after="", limit=limit)
        for number, _, created_ms in found:
            ends_ms = self._rules.upload_ends(created_ms)
            if ends_ms is None or ends_ms > self._now_ms:
                self.due.append(ends_ms)
                return
            uploads.abort_number(self._tx, number)
            self._uploads += 1
        if len(found) == limit:
            self.due.append(self._now_ms)


class _Newer:
    """How many noncurrent versions are newer than one; counted as far as any rule wants to know."""

    def __init__(self, tx: Transaction, bucket_id: int, key: bytes, most: int) -> None:
        rows = lifecycle.newest_older(tx, bucket_id, key, most + 1)
        self._sequences = [row.sequence for row in rows if row.noncurrent_ms is not None][:most]

    def than(self, sequence: int) -> int:
        """At most as many as are counted."""
        return sum(newer > sequence for newer in self._sequences)


def reclassify(tx: Transaction, bucket_id: int, key: bytes, move: Move) -> bool:
    """Let a version have another storage class, in the same blob. False when the version is not what it was."""
    return _change(tx, bucket_id, key, move, lambda: move.blob_id)


def replace_parts(
    tx: Transaction,
    bucket_id: int,
    key: bytes,
    move: Move,
    *,
    parts: Sequence[PartRef],
    new: Collection[NewBlob],
) -> bool:
    """Let a version whose blob is composite have these parts, and the other storage class: `new` are those of the
    parts' blobs that no row names yet, the rest are parts of it now. False, and none of `new` is taken, when the
    version is not what it was. Raises HorizonPassed, HolderRemoved, BlobAbandoned."""

    def composite() -> bytes:
        unnamed = {blob.id for blob in new}
        for blob in new:
            blobs.add(tx, blob)
        for part in parts:
            if part.blob_id in unnamed:
                unnamed.discard(part.blob_id)  # its row came with a reference
            else:
                blobs.add_reference(tx, part.blob_id)
        size = sum(part.size for part in parts)
        return blobs.add_composite(tx, size, len(parts), blobs.pack_manifest(tuple(parts)))

    changed = _change(tx, bucket_id, key, move, composite)
    if changed:
        blobs.release(tx, move.blob_id)
    return changed


def _change(tx: Transaction, bucket_id: int, key: bytes, move: Move, new_blob: Callable[[], bytes]) -> bool:
    one = (bucket_id, key, move.sequence)
    row = tx.row(versions.BY_SEQUENCE, (*one, *one))
    if row is None or row[2] != move.blob_id:
        return False
    attributes = structs.replace(unpack_attributes(row[7]), storage_class=move.storage_class)
    version_rows.change(
        tx,
        *one,
        storage_class=move.storage_class,
        blob_id=new_blob(),
        attributes=pack_attributes(attributes),
    )
    return True


def postpone(tx: Transaction, bucket_id: int, key: bytes, until_ms: int) -> None:
    """Look at the key later: something is wrong with it."""
    lifecycle.looked_at(tx, bucket_id, key, until_ms)


def due(reader: Reader, wall_ms: int, limit: int) -> list[tuple[int, bytes]]:
    """Buckets and keys to look at now (`lifecycle.due`)."""
    return lifecycle.due(reader, clock_ms(reader, wall_ms), limit)
