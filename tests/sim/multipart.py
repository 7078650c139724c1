"""Multipart uploads: parts through any front, then a composite object of them."""

from __future__ import annotations

from collections.abc import Sequence

from catalog import lookup, uploads
from catalog.errors import Changed
from catalog.model import Attributes, BlobRow, ObjectRow, RequestedPart, UploadRow
from cluster.errors import BlobUnreadable
from s3front.blob_store import new_blob
from tests.sim.catalogs import BUCKET
from tests.sim.processes import SimFront
from tests.sim.writing import written


async def create(front: SimFront, key: bytes) -> UploadRow:
    """CreateMultipartUpload."""
    bucket, _ = await lookup.find(front.catalog, BUCKET, key)
    assert bucket is not None
    return await front.catalog.write(
        lambda tx: uploads.create(
            tx, bucket_id=bucket.id, key=key, owner="owner", content_type="", attributes=Attributes()
        )
    )


async def put_part(front: SimFront, upload: UploadRow, number: int, body: bytes, pause_s: float) -> None:
    """UploadPart."""
    blob = new_blob(await written(front, body, pause_s))
    await front.catalog.write(
        lambda tx: uploads.put_part(tx, upload=upload, number=number, blob=blob, etag=f"part {number}"),
        blob=blob,
    )


async def complete(front: SimFront, upload: UploadRow, parts: int, etag: str) -> None:
    """CompleteMultipartUpload."""
    requested = [RequestedPart(number, f"part {number}") for number in range(1, parts + 1)]
    while True:
        plan = await front.catalog.read(
            lambda reader: uploads.plan_completion(reader, upload, requested, part_bytes_min=1)
        )
        try:
            await front.catalog.write(
                lambda tx, plan=plan: uploads.complete(tx, plan, etag=etag, attributes=Attributes())  # type: ignore[misc]
            )
        except Changed:
            continue
        return


def blob_ids(row: ObjectRow) -> list[bytes]:
    """The blobs with the bytes of an object."""
    manifest = row.blob.manifest
    return [row.blob.id] if manifest is None else [part.blob_id for part in manifest]


async def blobs_of(front: SimFront, row: ObjectRow) -> Sequence[BlobRow]:
    """The same as rows, looked up when they are wanted. Raises BlobUnreadable."""
    if row.blob.manifest is None:
        return [row.blob]
    ids = blob_ids(row)
    rows = await lookup.blobs_by_id(front.catalog, ids)
    for blob_id in ids:
        if blob_id not in rows:
            raise BlobUnreadable(blob_id, 0, "a part's blob is not in the catalog")
    return [rows[blob_id] for blob_id in ids]
