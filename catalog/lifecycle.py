"""Which keys the rules of a bucket's lifecycle concern, and when to look at them.

A key has at most one row in the queue. Every write of a key in a bucket with rules sees to it that the row is due
early enough; to be looked at too early costs a key little and changes nothing (`lifecycle_work`). Rows for what was
there before its rules come from a walk over the bucket (`lifecycle_walk`).
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from msgspec import Struct

from catalog import schema
from catalog.attributes import unpack_attributes
from catalog.bucket_model import BucketActions
from catalog.errors import RowDamaged
from catalog.lifecycle_rules import KeyRules, Outlook, Seen
from catalog.statement import Reader, Row, Statement, constant, page, parameter
from catalog.transaction import Transaction

_queue = schema.lifecycle_queue
_objects = schema.objects
_versions = schema.versions
_uploads = schema.uploads

_OF_KEY = ("p_bucket", "p_key")
_here = sa.and_(_queue.c.bucket_id == parameter("p_bucket"), _queue.c.key == parameter("p_key"))
_DUE_OF = Statement(sa.select(_queue.c.due_ms).where(_here), *_OF_KEY)
_INSERT = Statement(sa.insert(_queue), "bucket_id", "key", "due_ms")
_SET = Statement(sa.update(_queue).values(due_ms=parameter("n_due")).where(_here), "n_due", *_OF_KEY)
_DROP = Statement(sa.delete(_queue).where(_here), *_OF_KEY)
_DUE = Statement(
    page(
        sa.select(_queue.c.bucket_id, _queue.c.key)
        .where(_queue.c.due_ms <= parameter("p_now"))
        .order_by(_queue.c.due_ms)
    ),
    "p_now",
    "limit",
)
_FACTS = ("sequence", "blob_id", "size", "modified_ms", "version_id", "storage_class", "attributes")
_CURRENT = Statement(
    sa.select(*(_objects.c[name] for name in _FACTS), constant("NULL")).where(
        _objects.c.bucket_id == parameter("p_bucket"), _objects.c.key == parameter("p_key")
    ),
    *_OF_KEY,
)
_older = sa.select(*(_versions.c[name] for name in _FACTS), _versions.c.noncurrent_ms).where(
    _versions.c.bucket_id == parameter("p_bucket"), _versions.c.key == parameter("p_key")
)
_NEWEST_FIRST = Statement(page(_older.order_by(_versions.c.sequence.desc())), *_OF_KEY, "limit")
_OLDEST_FIRST = Statement(
    page(_older.where(_versions.c.sequence > parameter("p_after")).order_by(_versions.c.sequence)),
    *_OF_KEY,
    "p_after",
    "limit",
)
_ONE_OLDER = Statement(_older.where(_versions.c.sequence == parameter("p_sequence")), *_OF_KEY, "p_sequence")
_OLDEST_UPLOADS = Statement(
    page(
        sa.select(_uploads.c.number, _uploads.c.upload_id, _uploads.c.created_ms)
        .where(
            _uploads.c.bucket_id == parameter("p_bucket"),
            _uploads.c.key == parameter("p_key"),
            _uploads.c.upload_id > parameter("p_after"),
        )
        .order_by(_uploads.c.upload_id)
    ),
    *_OF_KEY,
    "p_after",
    "limit",
)

IN_SLICES_MS = 1
"""In place of a time: the key is due, and some of its versions have been looked at since it was last noted."""
ANY_NUMBER = 1 << 62
"""Of newer noncurrent versions: more than any rule spares."""


class Facts(Struct, frozen=True, array_like=True, gc=False):
    """A version, or delete marker (no blob), as its row has it."""

    sequence: int
    blob_id: bytes | None
    size: int
    modified_ms: int
    version_id: str | None
    storage_class: str | None
    attributes: bytes | None
    noncurrent_ms: int | None

    def seen(self, *, newer_noncurrent: int = 0, alone: bool = False) -> Seen:
        """What rules look at. Attributes that can't be read have no tags; the lock then lets nothing be removed."""
        return Seen(
            modified_ms=self.modified_ms,
            size=self.size,
            storage_class=self.storage_class or "STANDARD",
            tags=_tags(self.attributes),
            noncurrent_ms=self.noncurrent_ms,
            newer_noncurrent=newer_noncurrent,
            is_marker=self.blob_id is None,
            alone=alone,
        )


def _tags(attributes: bytes | None) -> dict[str, str]:
    if attributes is None:
        return {}
    try:
        return unpack_attributes(attributes).tags
    except RowDamaged:
        return {}


# -- what writes note ----------------------------------------------------------------------------------------


def noted(
    tx: Transaction, bucket_id: int, key: bytes, actions: BucketActions, changed: int | None = None
) -> None:
    """See to it that the key is looked at when the first of the rules may concern one of its versions, as they are now.
    To be called at the end of each write of the key: it looks at the newest version, at those whose place among the
    noncurrent ones has made them a rule's concern, and at the one of sequence `changed`."""
    if not actions.lifecycle:
        return
    rules = KeyRules.of(actions, key, tx.day_ms)
    if rules is not None:
        _note_first(tx, bucket_id, key, _first_due(tx, bucket_id, key, rules, changed))


def noted_upload(tx: Transaction, bucket_id: int, key: bytes, actions: BucketActions) -> None:
    """Likewise for an upload that this transaction opens."""
    if not actions.lifecycle:
        return
    rules = KeyRules.of(actions, key, tx.day_ms)
    if rules is not None:
        _note_first(tx, bucket_id, key, rules.upload_ends(tx.now_ms))


def noted_all(tx: Transaction, bucket_id: int, key: bytes, actions: BucketActions) -> None:
    """Likewise for all that a key has, whenever it was written."""
    rules = KeyRules.of(actions, key, tx.day_ms)
    if rules is None:
        return
    due = [_first_due(tx, bucket_id, key, rules, None)]
    for oldest in oldest_older(tx, bucket_id, key, after=-1, limit=1):
        if oldest.noncurrent_ms is not None:
            due.append(rules.noncurrent_from(oldest.noncurrent_ms))
    due += [rules.upload_ends(upload[2]) for upload in oldest_uploads(tx, bucket_id, key, after="", limit=1)]
    _note_first(tx, bucket_id, key, earliest(due))


def _first_due(
    tx: Transaction, bucket_id: int, key: bytes, rules: KeyRules, changed: int | None
) -> int | None:
    """When a write of the key may have made a rule concern it."""
    spared = rules.spared()
    current = newest(tx, bucket_id, key)
    older = newest_older(tx, bucket_id, key, max(spared, default=0) + 2)
    # A delete marker on top is no noncurrent version.
    first = 0 if current is not None or not older else 1
    seen = []
    if current is not None:
        seen.append(current.seen())
    elif older:
        seen.append(older[0].seen(alone=len(older) == 1))
    places = [number for number in spared if first + number < len(older)]
    seen += [older[first + number].seen(newer_noncurrent=number) for number in places]
    if changed is not None:
        row = tx.row(_ONE_OLDER, (bucket_id, key, changed))
        seen += [] if row is None else [Facts(*row).seen(newer_noncurrent=ANY_NUMBER)]
    return earliest(_due(rules.outlook(each, tx.now_ms), tx.now_ms) for each in seen)


def _due(outlook: Outlook, now_ms: int) -> int | None:
    return now_ms if outlook.expired or outlook.storage_class is not None else outlook.next_ms


def _note_first(tx: Transaction, bucket_id: int, key: bytes, due_ms: int | None) -> None:
    if due_ms is not None:
        note(tx, bucket_id, key, due_ms)


def earliest(times_ms: Iterable[int | None]) -> int | None:
    """The first of those that will come at all."""
    return min((each for each in times_ms if each is not None), default=None)


# -- the queue -----------------------------------------------------------------------------------------------


def note(tx: Transaction, bucket_id: int, key: bytes, due_ms: int) -> None:
    """Look at the key at `due_ms`, or before if that is noted already."""
    noted_ms = due_of(tx, bucket_id, key)
    if noted_ms is None:
        tx.execute(_INSERT, (bucket_id, key, due_ms))
    elif noted_ms == IN_SLICES_MS:  # as due as before, and the slices to come see that there is something new
        tx.execute(_SET, (min(due_ms, tx.now_ms), bucket_id, key))
    elif due_ms < noted_ms:
        tx.execute(_SET, (due_ms, bucket_id, key))


def due_of(tx: Transaction, bucket_id: int, key: bytes) -> int | None:
    """When the key is to be looked at; None: never."""
    row = tx.row(_DUE_OF, (bucket_id, key))
    return None if row is None else row[0]


def emptied(tx: Transaction, bucket_id: int, key: bytes) -> None:
    """No version of the key is left: there is nothing to look at, unless an upload is open. Else the queue would grow
    by each key that is written and deleted, for as long as the rules give it."""
    if not oldest_uploads(tx, bucket_id, key, after="", limit=1):
        tx.execute(_DROP, (bucket_id, key))


def looked_at(tx: Transaction, bucket_id: int, key: bytes, next_ms: int | None) -> None:
    """The key has been looked at, in this transaction: it comes round again at `next_ms`, or never (None)."""
    if next_ms is None:
        tx.execute(_DROP, (bucket_id, key))
    elif tx.execute(_SET, (next_ms, bucket_id, key)) != 1:
        tx.execute(_INSERT, (bucket_id, key, next_ms))


def due(reader: Reader, now_ms: int, limit: int) -> list[tuple[int, bytes]]:
    """Buckets and keys to look at, the longest due first. An empty key stands for a bucket to walk over."""
    return [(row[0], row[1]) for row in reader.rows(_DUE, (now_ms, limit))]


# -- reading a key -------------------------------------------------------------------------------------------


def newest(reader: Reader, bucket_id: int, key: bytes) -> Facts | None:
    """The current version."""
    row = reader.row(_CURRENT, (bucket_id, key))
    return None if row is None else Facts(*row)


def newest_older(reader: Reader, bucket_id: int, key: bytes, limit: int) -> list[Facts]:
    """All versions but the current one, and delete markers, newest first."""
    return _facts(reader.rows(_NEWEST_FIRST, (bucket_id, key, limit)))


def oldest_older(reader: Reader, bucket_id: int, key: bytes, *, after: int, limit: int) -> list[Facts]:
    """Likewise from the oldest on, with sequences above `after`."""
    return _facts(reader.rows(_OLDEST_FIRST, (bucket_id, key, after, limit)))


def _facts(rows: list[Row]) -> list[Facts]:
    return [Facts(*row) for row in rows]


def oldest_uploads(
    reader: Reader, bucket_id: int, key: bytes, *, after: str, limit: int
) -> list[tuple[int, str, int]]:
    """Number, id and creation time of the key's open uploads with ids above `after`, oldest first."""
    return [(row[0], row[1], row[2]) for row in reader.rows(_OLDEST_UPLOADS, (bucket_id, key, after, limit))]
