"""CopyObject and encryption: a copy shares its source's bytes wherever both are encrypted, or neither is (P9).

The data key is the same then and is wrapped anew, for another customer's key or under another key of the service.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from catalog.model import Bucket, Encryption, ObjectRow
from s3front.encryption.data_keys import Sealing
from s3front.encryption.requests import for_source, new_sealing, sealing_with, shows_md5
from s3front.encryption.wanted import wanted_encryption
from s3front.request import Request
from s3front.services import FrontServices


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """How to copy. `by_reference`: the bytes stay what they are, the copy's ETag is `etag`. Else they are read with
    `source_key` and written with `sealing`; the ETag comes of that."""

    by_reference: bool
    etag: str
    source_key: bytes | None = field(repr=False)
    sealing: Sealing | None

    @property
    def encryption(self) -> Encryption | None:
        """To be kept with the copy."""
        return None if self.sealing is None else self.sealing.encryption


async def plan_copy(services: FrontServices, request: Request, row: ObjectRow, bucket: Bucket) -> CopyPlan:
    """The plan for copying `row` into `bucket`, by the request's headers and the bucket's default; the encryption of
    the source is not inherited. Raises what `for_source` and `for_new_object` raise."""
    wanted = wanted_encryption(request, bucket)
    source_key = await for_source(services, request, row.attributes)
    if wanted is None:
        return CopyPlan(source_key is None, row.etag, source_key, None)
    if source_key is None:
        return CopyPlan(False, row.etag, None, await new_sealing(services, wanted))
    sealing = await sealing_with(services, wanted, source_key)
    return CopyPlan(True, _shared_etag(row, sealing), source_key, sealing)


def _shared_etag(row: ObjectRow, sealing: Sealing) -> str:
    """The ETag of a copy that shares its source's bytes, from the source's."""
    source, target = shows_md5(row.attributes.encryption), shows_md5(sealing.encryption)
    if source and not target:
        return sealing.etag(row.etag)
    if target and not source and "-" not in row.etag:
        # Clients take an ETag of SSE-S3 for the MD5 of the bytes, unless it looks like that of a multipart object.
        return f"{row.etag}-1"
    return row.etag
