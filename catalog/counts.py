"""A few counts over the whole catalog that only those who watch it want."""

from __future__ import annotations

import sqlalchemy as sa

from catalog import schema
from catalog.statement import Reader, Statement, constant

_events = schema.events

_UPLOADS = Statement(sa.select(sa.func.count()).select_from(schema.uploads))
_BY_KIND = Statement(
    sa.select(_events.c.kind, sa.func.count()).group_by(_events.c.kind).order_by(_events.c.kind)
)
_LAST_EVENT = Statement(sa.select(sa.func.coalesce(sa.func.max(_events.c.number), constant("0"))))


def open_uploads(reader: Reader) -> int:
    """Multipart uploads that are neither completed nor aborted."""
    row = reader.row(_UPLOADS)
    return 0 if row is None else int(row[0])


def events_kept(reader: Reader) -> dict[str, int]:
    """How many of the events that are kept are of each kind."""
    return dict(reader.rows(_BY_KIND))


def events_ever(reader: Reader) -> int:
    """How many events there ever were: numbers are never reused, and the last event is always kept."""
    row = reader.row(_LAST_EVENT)
    return 0 if row is None else int(row[0])
