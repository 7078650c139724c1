"""What a catalog counts must be what lies in it."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa

from catalog import lookup, schema, usage
from catalog.engine import Catalog
from catalog.statement import Reader, Statement, constant
from catalog.usage_changes import Usage

_REFS = Statement(sa.select(schema.blobs.c.id, schema.blobs.c.refs))
_COMPOSITES = Statement(sa.select(schema.blobs.c.id).where(schema.blobs.c.parts > constant("0")))
_NAMED = Statement(
    sa.union_all(
        sa.select(schema.objects.c.blob_id),
        sa.select(schema.versions.c.blob_id).where(schema.versions.c.blob_id.is_not(None)),
        sa.select(schema.parts.c.blob_id),
    )
)
_GARBAGE = Statement(sa.select(schema.garbage.c.blob_id))


async def check_books(catalog: Catalog, bucket_id: int, expected: Usage) -> None:
    """Usage is what the model says and what a count of the rows says; references are as many as names."""
    recount = await catalog.read(lambda reader: usage.recount(reader, bucket_id))
    assert recount.agrees
    number, together = await catalog.read(usage.totals)
    assert (number, together) == (1, expected)
    held, names, queued = await catalog.read(_rows)
    for (blob_id,) in await catalog.read(lambda reader: reader.rows(_COMPOSITES)):
        row = await lookup.blob(catalog, blob_id)
        assert row is not None
        assert row.manifest is not None
        names.update(part.blob_id for part in row.manifest)
    counted = {blob_id: count for blob_id, count in held.items() if count}
    assert counted == names, f"{counted} references, {names} names"
    unnamed = {blob_id for blob_id, count in held.items() if not count}
    assert unnamed == queued & set(held), "exactly what nothing names is garbage"


def _rows(reader: Reader) -> tuple[dict[bytes, int], Counter[bytes], set[bytes]]:
    held = {row[0]: row[1] for row in reader.rows(_REFS)}
    return held, Counter(row[0] for row in reader.rows(_NAMED)), {row[0] for row in reader.rows(_GARBAGE)}
