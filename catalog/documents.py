"""Configurations of buckets that are kept and handed back, and that nothing here acts on.

Each is a document of some kind, in its owner's own format; of some kinds a bucket has several, by name. They are read
where they are asked for and nowhere else, so they are not part of the cached bucket.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from catalog import schema
from catalog.errors import CatalogError, NoSuchBucket
from catalog.statement import Reader, Statement, constant, page, parameter
from catalog.transaction import Transaction

OWNERSHIP: Final = "ownershipControls"
"""The kind that CreateBucket makes, too."""

_documents = schema.bucket_documents
_OF_BUCKET = _documents.c.bucket_id == parameter("p_bucket")
_OF_KIND = sa.and_(_OF_BUCKET, _documents.c.kind == parameter("p_kind"))
_ONE = sa.and_(_OF_KIND, _documents.c.name == parameter("p_name"))

_GET = Statement(sa.select(_documents.c.document).where(_ONE), "p_bucket", "p_kind", "p_name")
_LIST = Statement(
    page(
        sa.select(_documents.c.name, _documents.c.document)
        .where(_OF_KIND, _documents.c.name > parameter("p_after"))
        .order_by(_documents.c.name)
    ),
    "p_bucket",
    "p_kind",
    "p_after",
    "limit",
)
_COUNT = Statement(
    sa.select(sa.func.count()).select_from(_documents).where(_OF_KIND),
    "p_bucket",
    "p_kind",
)
_UPDATE = Statement(
    sa.update(_documents).values(document=parameter("n_document")).where(_ONE),
    "n_document",
    "p_bucket",
    "p_kind",
    "p_name",
)
_INSERT = Statement(sa.insert(_documents), "bucket_id", "kind", "name", "document")
_DELETE = Statement(sa.delete(_documents).where(_ONE), "p_bucket", "p_kind", "p_name")
_FORGET = Statement(sa.delete(_documents).where(_OF_BUCKET), "p_bucket")
_BUCKET = Statement(
    sa.select(constant("1")).select_from(schema.buckets).where(schema.buckets.c.id == parameter("p_bucket")),
    "p_bucket",
)


class TooManyDocuments(CatalogError):
    """The bucket has as many documents of the kind as it may."""


def get(reader: Reader, bucket_id: int, kind: str, name: str = "") -> bytes | None:
    """The document as it was last put; None when there is none."""
    row = reader.row(_GET, (bucket_id, kind, name))
    return None if row is None else row[0]


def list_documents(
    reader: Reader, bucket_id: int, kind: str, *, after: str = "", limit: int
) -> list[tuple[str, bytes]]:
    """At most `limit` names and documents of the kind, by name from `after` on (exclusive)."""
    return [(name, document) for name, document in reader.rows(_LIST, (bucket_id, kind, after, limit))]


def put(
    tx: Transaction, bucket_id: int, kind: str, document: bytes, *, name: str = "", most: int | None = None
) -> None:
    """Make or replace a document; `most`: as many of its kind may there be. Raises NoSuchBucket, TooManyDocuments."""
    if tx.execute(_UPDATE, (document, bucket_id, kind, name)) == 1:
        return
    if tx.row(_BUCKET, (bucket_id,)) is None:
        raise NoSuchBucket("the bucket was deleted")
    if most is not None:
        counted = tx.row(_COUNT, (bucket_id, kind))
        assert counted is not None
        if counted[0] >= most:
            raise TooManyDocuments(kind)
    tx.execute(_INSERT, (bucket_id, kind, name, document))


def delete(tx: Transaction, bucket_id: int, kind: str, name: str = "") -> bool:
    """Whether there was such a document; there is none any more."""
    return tx.execute(_DELETE, (bucket_id, kind, name)) == 1


def forget(tx: Transaction, bucket_id: int) -> None:
    """Remove all documents of a bucket that is being deleted."""
    tx.execute(_FORGET, (bucket_id,))
