"""DeleteObject and DeleteObjects."""

from __future__ import annotations

from functools import partial

from msgspec import Struct

from catalog import objects
from catalog.errors import CatalogError
from catalog.model import Condition, DeleteResult
from catalog.transaction import Transaction
from s3front import errors
from s3front.body import read_body
from s3front.errors import S3Error
from s3front.handlers.buckets import require_bucket
from s3front.handlers.one_version import named_version
from s3front.limits import DELETE_KEYS_MAX, XML_BODY_BYTES_MAX
from s3front.request import Request, check_key
from s3front.response import Header, Response, header, xml_response
from s3front.services import FrontServices
from s3front.translate import to_s3_error
from s3front.wire import xml
from s3front.wire.conditions import delete_condition
from s3front.wire.xml_writer import document, element, optional, text

DELETES_PER_TRANSACTION = 50
"""Few enough that no other request waits long behind them for the writer."""

Outcome = S3Error | CatalogError | DeleteResult


class _Delete(Struct, frozen=True):
    """One delete: of a key, or of one of its versions; `refusal` was found before anything was deleted."""

    key: str
    version_id: str | None
    condition: Condition | None
    refusal: S3Error | None = None

    def run(self, tx: Transaction, bucket_id: int, *, bypass: bool) -> DeleteResult:
        """In a transaction. Raises what `objects.delete` and `objects.delete_version` raise, before they write."""
        key = self.key.encode()
        if self.version_id is None:
            return objects.delete(tx, bucket_id=bucket_id, key=key, condition=self.condition)
        return objects.delete_version(
            tx,
            bucket_id=bucket_id,
            key=key,
            version_id=self.version_id,
            bypass_governance=bypass,
            condition=self.condition,
        )


async def delete_object(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html

    Deleting what is not there succeeds, as on AWS.
    """
    bucket = await require_bucket(services, request)
    assert request.key is not None
    headers = request.headers
    condition = delete_condition(
        headers.get("if-match"),
        headers.get("x-amz-if-match-last-modified-time"),
        headers.get("x-amz-if-match-size"),
    )
    delete = _Delete(request.key.decode(), named_version(request), condition)
    bypass = bypasses_governance(request)
    frees = delete.version_id is not None or not bucket.is_versioned  # a delete marker takes space
    result = await services.catalog.write(lambda tx: delete.run(tx, bucket.id, bypass=bypass), frees=frees)
    return Response(204, _headers(result) if bucket.is_versioned else [])


def _headers(result: DeleteResult) -> list[Header]:
    headers: list[Header] = []
    if result.delete_marker:
        headers.append((b"x-amz-delete-marker", b"true"))
    if result.version_id is not None:
        headers.append(header("x-amz-version-id", result.version_id))
    return headers


def bypasses_governance(request: Request) -> bool:
    """Whether the request asks for ``x-amz-bypass-governance-retention``."""
    return request.headers.get("x-amz-bypass-governance-retention", "").lower() == "true"


async def delete_objects(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html

    Each key is deleted by itself: one that fails is reported beside those that did not.
    """
    bucket = await require_bucket(services, request)
    body = await read_body(services, request, XML_BODY_BYTES_MAX)
    if not body:
        raise errors.MissingRequestBodyError
    root = xml.parse(body, root="Delete", max_bytes=XML_BODY_BYTES_MAX)
    wanted = root.children("Object")
    if not 1 <= len(wanted) <= DELETE_KEYS_MAX:
        raise errors.MalformedXML
    quiet = root.boolean("Quiet")
    bypass = bypasses_governance(request)
    deletes = [_wanted_delete(item) for item in wanted]
    outcomes: list[Outcome] = []
    for at in range(0, len(deletes), DELETES_PER_TRANSACTION):
        group = deletes[at : at + DELETES_PER_TRANSACTION]
        outcomes += await services.catalog.write(
            partial(_delete_each, bucket_id=bucket.id, deletes=group, bypass=bypass), frees=True
        )
    results: list[str] = []
    for delete, outcome in zip(deletes, outcomes, strict=True):
        told = to_s3_error(outcome, request) if isinstance(outcome, CatalogError) else outcome
        if isinstance(told, S3Error):
            results.append(_error_xml(delete, told))
        elif not quiet:
            results.append(_deleted_xml(delete, told))
    return xml_response(document("DeleteResult", *results))


def _wanted_delete(item: xml.Element) -> _Delete:
    """One ``Object`` element."""
    key = item.required_text("Key")
    condition = delete_condition(item.text("ETag"), item.text("LastModifiedTime"), item.text("Size"))
    refusal: S3Error | None = None
    try:
        check_key(key.encode())
    except S3Error as error:
        refusal = error
    return _Delete(key, item.text("VersionId") or None, condition, refusal)


def _delete_each(tx: Transaction, bucket_id: int, deletes: list[_Delete], bypass: bool) -> list[Outcome]:
    """Some keys in one transaction. Each refuses before it writes, so one refusal leaves the rest whole."""
    outcomes: list[Outcome] = []
    for delete in deletes:
        try:
            outcomes.append(delete.refusal or delete.run(tx, bucket_id, bypass=bypass))
        except CatalogError as fault:
            outcomes.append(fault)
    return outcomes


def _error_xml(delete: _Delete, error: S3Error) -> str:
    return element(
        "Error",
        text("Key", delete.key),
        optional("VersionId", delete.version_id),
        text("Code", error.code),
        text("Message", error.message),
    )


def _deleted_xml(delete: _Delete, result: DeleteResult) -> str:
    """A delete without a version id tells of the marker it made, one with an id of the version or marker it removed."""
    marker = result.version_id if result.delete_marker else None
    return element(
        "Deleted",
        text("Key", delete.key),
        optional("VersionId", delete.version_id),
        optional("DeleteMarker", result.delete_marker or None),
        optional("DeleteMarkerVersionId", marker),
    )
