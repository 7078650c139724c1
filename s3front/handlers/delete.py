"""DeleteObject and DeleteObjects."""

from __future__ import annotations

from functools import partial

from catalog import objects
from catalog.errors import CatalogError
from catalog.model import Condition, DeleteResult
from catalog.transaction import Transaction
from s3front import errors
from s3front.body import read_body
from s3front.errors import S3Error
from s3front.handlers.buckets import require_bucket
from s3front.handlers.versions import check_version_id
from s3front.limits import DELETE_KEYS_MAX, XML_BODY_BYTES_MAX
from s3front.request import Request, check_key
from s3front.response import Response, xml_response
from s3front.services import FrontServices
from s3front.translate import to_s3_error
from s3front.wire import xml
from s3front.wire.conditions import unquote_etag
from s3front.wire.xml_writer import document, element, text

DELETES_PER_TRANSACTION = 50
"""Few enough that no other request waits long behind them for the writer."""

Outcome = S3Error | CatalogError | DeleteResult


async def delete_object(services: FrontServices, request: Request) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html

    Deleting a key that is not there succeeds, as on AWS.
    """
    bucket = await require_bucket(services, request)
    check_version_id(request)
    key = request.key
    assert key is not None
    condition = delete_condition(request.headers.get("if-match"))
    await services.catalog.write(
        lambda tx: objects.delete(tx, bucket_id=bucket.id, key=key, condition=condition), frees=True
    )
    return Response(204)


def delete_condition(etag: str | None) -> Condition | None:
    """The condition of one delete, from its If-Match or its ETag element."""
    return None if etag is None else Condition(if_match=unquote_etag(etag))


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
    deletes = [_wanted_delete(item) for item in wanted]
    outcomes: list[Outcome] = []
    for at in range(0, len(deletes), DELETES_PER_TRANSACTION):
        group = deletes[at : at + DELETES_PER_TRANSACTION]
        outcomes += await services.catalog.write(
            partial(_delete_each, bucket_id=bucket.id, deletes=group), frees=True
        )
    results = [
        _result_xml(
            key, to_s3_error(outcome, request) if isinstance(outcome, CatalogError) else outcome, quiet
        )
        for (key, _, _), outcome in zip(deletes, outcomes, strict=True)
    ]
    return xml_response(document("DeleteResult", *results))


def _wanted_delete(item: xml.Element) -> tuple[str, S3Error | None, Condition | None]:
    """Key, why it can't be deleted (found before anything is), and the condition of one ``Object`` element."""
    key = item.required_text("Key")
    version = item.text("VersionId")
    refusal: S3Error | None = None
    try:
        check_key(key.encode())
    except S3Error as error:
        refusal = error
    if version not in (None, "", "null"):
        refusal = errors.NoSuchVersion(Key=key, VersionId=version)
    return key, refusal, delete_condition(item.text("ETag"))


def _delete_each(
    tx: Transaction, bucket_id: int, deletes: list[tuple[str, S3Error | None, Condition | None]]
) -> list[Outcome]:
    """Some keys in one transaction. `objects.delete` refuses before it writes, so one refusal leaves the rest whole."""
    outcomes: list[Outcome] = []
    for key, refusal, condition in deletes:
        try:
            outcomes.append(
                refusal or objects.delete(tx, bucket_id=bucket_id, key=key.encode(), condition=condition)
            )
        except CatalogError as fault:
            outcomes.append(fault)
    return outcomes


def _result_xml(key: str, outcome: S3Error | DeleteResult, quiet: bool) -> str:
    if isinstance(outcome, S3Error):
        return element(
            "Error", text("Key", key), text("Code", outcome.code), text("Message", outcome.message)
        )
    return "" if quiet else element("Deleted", text("Key", key))
