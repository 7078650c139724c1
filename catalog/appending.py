"""Appending to an object: its bytes stay where they are and become the first parts of a composite blob (P9)."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from msgspec import Struct, structs

from catalog import blobs, objects, schema, versions, work
from catalog.attributes import unpack_attributes
from catalog.errors import Changed
from catalog.model import Attributes, Condition, NewBlob, ObjectRow, PartRef, PutResult
from catalog.statement import Statement, constant, parameter
from catalog.transaction import Transaction

PARTS_MAX = 10_000
"""An object that has so many takes no more."""

_PART_NUMBER_MAX = 10_000

_garbage = schema.garbage
_NO_PART_TO_RELEASE = Statement(
    sa.update(_garbage)
    .values(released=_garbage.c.parts)
    .where(_garbage.c.blob_id == parameter("p_blob"), _garbage.c.released == constant("0")),
    "p_blob",
)


class AppendPlan(Struct, frozen=True):
    """A version and what is appended to it, as prepared outside the transaction. `manifest` is `parts` packed."""

    row: ObjectRow
    parts: tuple[PartRef, ...]
    size: int
    manifest: bytes


def parts_of(row: ObjectRow) -> tuple[PartRef, ...]:
    """What an object consists of: itself, unless it was uploaded in parts or appended to."""
    if row.blob.manifest is not None:
        return row.blob.manifest
    checksum = row.attributes.checksum
    etag = row.etag.partition("-")[0]
    return (PartRef(1, row.blob.id, row.size, etag, None if checksum is None else checksum.value),)


def plan(row: ObjectRow, blob: NewBlob, *, size: int, etag: str, checksum: str | None) -> AppendPlan:
    """Prepare appending `size` plain bytes. Parts keep their numbers, unless the highest is taken."""
    old = parts_of(row)
    assert len(old) < PARTS_MAX, "the caller refuses more parts"
    if old[-1].number >= _PART_NUMBER_MAX:
        old = tuple(structs.replace(part, number=number) for number, part in enumerate(old, 1))
    parts = (*old, PartRef(old[-1].number + 1, blob.id, size, etag, checksum))
    return AppendPlan(row, parts, row.size + size, blobs.pack_manifest(parts))


def append(
    tx: Transaction,
    prepared: AppendPlan,
    *,
    bucket_id: int,
    blob: NewBlob,
    etag: str,
    change: Callable[[Attributes], Attributes],
    condition: Condition | None = None,
) -> PutResult:
    """Make the planned parts the key's new version; hand the blob to `Catalog.write` too. In a bucket without versions
    the cost does not depend on what is there already, but for the manifest, which is written anew: the old one's
    references pass to the new one. Elsewhere both versions hold them. `change` makes the new version's attributes of
    the old one's as they are now: tags may have been put since the plan was made.

    Raises Changed when the version is not the current one any more (S14), and as `objects.put` does."""
    row = prepared.row
    current = versions.target(tx, bucket_id, row.key, condition)
    if (current.sequence, current.blob_id) != (row.sequence, row.blob.id):
        raise Changed("the object was written or deleted meanwhile")
    old = versions.required(tx, bucket_id, row.key, None)
    blobs.add(tx, blob)
    if row.blob.manifest is None:
        # Before the replaced version is released: it is the only one that holds the blob.
        blobs.add_reference(tx, row.blob.id)
    result = objects.replace(
        tx,
        current,
        bucket_id=bucket_id,
        key=row.key,
        blob_id=blobs.add_composite(tx, prepared.size, len(prepared.parts), prepared.manifest),
        size=prepared.size,
        etag=etag,
        content_type=row.content_type,
        attributes=change(unpack_attributes(old.attributes)),
    )
    if row.blob.manifest is not None and not _dissolved(tx, row.blob.id):
        for part in row.blob.manifest:
            blobs.add_reference(tx, part.blob_id)
    return result


def create(
    tx: Transaction,
    *,
    bucket_id: int,
    key: bytes,
    blob: NewBlob,
    size: int,
    etag: str,
    content_type: str,
    attributes: Attributes,
    condition: Condition | None = None,
) -> PutResult:
    """The first piece of an object that is appended to: as `objects.put`, but raises Changed if there is an object."""
    if versions.target(tx, bucket_id, key, condition).sequence is not None:
        raise Changed("the object was created meanwhile")
    return objects.put(
        tx,
        bucket_id=bucket_id,
        key=key,
        blob=blob,
        size=size,
        etag=etag,
        content_type=content_type,
        attributes=attributes,
    )


def _dissolved(tx: Transaction, composite_id: bytes) -> bool:
    """Whether nothing names the old composite blob any more. It is forgotten at once then, and its parts' references
    are free for another: nothing of it is on nodes, and whoever reads by its manifest reads parts that live on."""
    if work.condemn(tx, composite_id) is None:
        return False
    tx.execute(_NO_PART_TO_RELEASE, (composite_id,))
    assert work.collected(tx, composite_id), "there was nothing to release"
    return True
