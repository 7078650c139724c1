"""What lies in all buckets together."""

from __future__ import annotations

import sqlalchemy as sa
from msgspec import Struct

from catalog import schema
from catalog.statement import Reader, Statement
from catalog.usage import total

_TOTALS = Statement(
    sa.select(
        sa.select(sa.func.count()).select_from(schema.buckets).scalar_subquery(),
        total("objects"),
        total("versions"),
        total("bytes"),
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
