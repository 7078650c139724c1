"""What lies in all buckets together."""

from __future__ import annotations

import sqlalchemy as sa
from msgspec import Struct

from catalog import schema
from catalog.statement import Reader, Statement, constant

_usage = schema.bucket_usage


def _sum(column: sa.Column[int]) -> sa.Function[int]:
    return sa.func.coalesce(sa.func.sum(column), constant("0"))


_TOTALS = Statement(
    sa.select(
        sa.select(sa.func.count()).select_from(schema.buckets).scalar_subquery(),
        _sum(_usage.c.objects),
        _sum(_usage.c.versions),
        _sum(_usage.c.bytes),
    )
)


class Totals(Struct, frozen=True):
    """`objects`: keys with a current version; `versions`: all versions, delete markers too; `size`: bytes of all
    versions, as their owners count them."""

    buckets: int
    objects: int
    versions: int
    size: int


def totals(reader: Reader) -> Totals:
    """As of now."""
    row = reader.row(_TOTALS)
    assert row is not None
    return Totals(*row)
