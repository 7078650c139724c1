"""ListParts and ListMultipartUploads pages."""

from __future__ import annotations

import sqlalchemy as sa

from catalog import schema
from catalog.listing import Walk
from catalog.model import PartPage, PartRow, UploadEntry, UploadPage
from catalog.statement import Reader, Statement, page, parameter

_uploads = schema.uploads
_parts = schema.parts

_LIST_PARTS = Statement(
    page(
        sa.select(
            _parts.c.number,
            _parts.c.blob_id,
            _parts.c.size,
            _parts.c.etag,
            _parts.c.checksum,
            _parts.c.modified_ms,
        )
        .where(_parts.c.upload_number == parameter("p_upload"), _parts.c.number > parameter("p_after"))
        .order_by(_parts.c.number)
    ),
    "p_upload",
    "p_after",
    "limit",
)
_ENTRY_COLUMNS = (
    _uploads.c.key,
    _uploads.c.upload_id,
    _uploads.c.created_ms,
    _uploads.c.owner,
    _uploads.c.storage_class,
    _uploads.c.checksum_algorithm,
    _uploads.c.checksum_type,
)
_LIST_UPLOADS = Statement(
    page(
        sa.select(*_ENTRY_COLUMNS)
        .where(
            _uploads.c.bucket_id == parameter("p_bucket"),
            sa.tuple_(_uploads.c.key, _uploads.c.upload_id)
            > sa.tuple_(parameter("p_key"), parameter("p_id")),
            _uploads.c.key < parameter("p_to"),
        )
        .order_by(_uploads.c.key, _uploads.c.upload_id)
    ),
    "p_bucket",
    "p_key",
    "p_id",
    "p_to",
    "limit",
)


def list_parts(reader: Reader, upload_number: int, *, after: int = 0, limit: int = 1000) -> PartPage:
    """Parts with numbers above `after`."""
    rows = reader.rows(_LIST_PARTS, (upload_number, after, limit + 1))
    return PartPage([PartRow(*row) for row in rows[:limit]], truncated=0 < limit < len(rows))


def list_uploads(
    reader: Reader,
    *,
    bucket_id: int,
    prefix: bytes = b"",
    delimiter: bytes = b"",
    key_marker: bytes = b"",
    upload_id_marker: str = "",
    limit: int = 1000,
) -> UploadPage:
    """Open uploads by key, then age, after the markers; `upload_id_marker` counts only with a key marker."""
    walk = Walk(prefix=prefix, delimiter=delimiter, after=key_marker, limit=limit)
    entries = walk.run(
        lambda position, beyond, count: reader.rows(_LIST_UPLOADS, (bucket_id, *position, beyond, count)),
        step=lambda row: (row[0], row[1]),
        tie=upload_id_marker if key_marker else "",
    )
    last = entries[-1] if entries else None
    ends_with_upload = last is not None and (not walk.prefixes or last[0] > walk.prefixes[-1])
    return UploadPage(
        [UploadEntry(*(*row[:4], row[4] or "STANDARD", *row[5:])) for row in entries],
        walk.prefixes,
        walk.truncated,
        walk.last,
        last[1] if last is not None and ends_with_upload else "",
    )
