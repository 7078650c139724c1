"""What the headers of PutObject, CreateMultipartUpload and CopyObject say of the version they make."""

from __future__ import annotations

from typing import NamedTuple

from catalog.locks import MODES
from catalog.model import Attributes, Bucket, Retention
from s3front import errors
from s3front.errors import InvalidArgument
from s3front.request import Request
from s3front.services import FrontServices
from s3front.wire import tagging
from s3front.wire.headers import object_headers, parse_iso_date
from s3front.wire.storage_class import storage_class

MODE_HEADER = "x-amz-object-lock-mode"
UNTIL_HEADER = "x-amz-object-lock-retain-until-date"
HOLD_HEADER = "x-amz-object-lock-legal-hold"

LOCK_IS_MISSING = "Bucket is missing Object Lock Configuration"
UNTIL_IS_PAST = "The retain until date must be in the future!"


class NewVersion(NamedTuple):
    """`attributes` are still without checksum and encryption, which come with the bytes."""

    content_type: str
    attributes: Attributes


class Lock(NamedTuple):
    """What the request asks for; where it asks for nothing, the bucket's default retention applies at the commit."""

    retention: Retention | None = None
    legal_hold: bool | None = None


_NO_LOCK = Lock()


def described(services: FrontServices, request: Request, bucket: Bucket) -> NewVersion:
    """All of it: kept headers, user metadata, storage class, tags, object lock.

    Raises MetadataTooLarge, InvalidRedirectLocation, InvalidStorageClass, InvalidTag, InvalidArgument, InvalidRequest.
    """
    kept = object_headers(request.header_list)
    lock = new_lock(services, request, bucket)
    attributes = Attributes(
        headers=kept.headers,
        metadata=kept.metadata,
        storage_class=storage_class(request.headers),
        tags=new_tags(request),
        retention=lock.retention,
        legal_hold=lock.legal_hold,
    )
    return NewVersion(kept.content_type, attributes)


def new_tags(request: Request) -> dict[str, str]:
    """The tags of the ``x-amz-tagging`` header. Raises InvalidArgument and InvalidTag."""
    value = request.headers.get(tagging.HEADER)
    return tagging.header_tags(value) if value else {}


def new_lock(services: FrontServices, request: Request, bucket: Bucket) -> Lock:
    """Retention and legal hold of the ``x-amz-object-lock-…`` headers; a copy takes none from its source.

    Raises InvalidRequest where object lock is not enabled, InvalidArgument for what it can't be.
    """
    headers = request.headers
    mode, until = headers.get(MODE_HEADER), headers.get(UNTIL_HEADER)
    hold = headers.get(HOLD_HEADER)
    if mode is None and until is None and hold is None:
        return _NO_LOCK
    if bucket.lock is None:
        raise errors.InvalidRequest(LOCK_IS_MISSING)
    if hold not in (None, "ON", "OFF"):
        raise InvalidArgument(
            "Legal Hold must be either of 'ON' or 'OFF'", ArgumentName=HOLD_HEADER, ArgumentValue=hold
        )
    retention = None
    if mode is not None or until is not None:
        retention = _retention(mode, until, now_ms=int(services.utc_now().timestamp() * 1000))
    return Lock(retention, None if hold is None else hold == "ON")


def _retention(mode: str | None, until: str | None, *, now_ms: int) -> Retention:
    if mode is None or until is None:
        raise InvalidArgument(
            f"{UNTIL_HEADER} and {MODE_HEADER} must both be supplied",
            ArgumentName=UNTIL_HEADER if until is None else MODE_HEADER,
        )
    if mode not in MODES:
        raise InvalidArgument("Unknown wormMode directive.", ArgumentName=MODE_HEADER, ArgumentValue=mode)
    until_ms = parse_iso_date(until)
    if until_ms is None:
        raise InvalidArgument(
            "The retain until date must be provided in ISO 8601 format",
            ArgumentName=UNTIL_HEADER,
            ArgumentValue=until,
        )
    if until_ms <= now_ms:
        raise InvalidArgument(UNTIL_IS_PAST, ArgumentName=UNTIL_HEADER, ArgumentValue=until)
    return Retention(mode, until_ms)
