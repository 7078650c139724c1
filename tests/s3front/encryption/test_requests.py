"""Which data key a request may use, what answers show, and which copies share their source's bytes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from catalog.engine import Catalog
from catalog.model import Attributes, BlobRow, Bucket, ObjectRow
from s3front.encryption import requests
from s3front.encryption.copying import plan_copy
from s3front.encryption.data_keys import Sealing
from s3front.encryption.local_keys import LocalKeys
from s3front.encryption.ring_sealing import RingSealer
from s3front.errors import InternalError, InvalidArgument, InvalidRequest, KMSNotFound
from s3front.request import Request
from s3front.services import FrontServices
from tests.s3front.encryption.test_wanted import customer_headers

BUCKET = Bucket(1, "bucket", "owner", "us-east-1", 0)
SSE = "x-amz-server-side-encryption"
OTHER = bytes(range(1, 33))
MD5 = "9e107d9d372bb6826bd81d3542a419d6"
KINDS: dict[str, dict[str, str]] = {
    "sse-s3": {SSE: "AES256"},
    "sse-kms": {SSE: "aws:kms", f"{SSE}-context": "eyJhIjoiYiJ9"},
    "sse-c": customer_headers(),
}


@pytest.fixture
def services(catalog: Catalog) -> FrontServices:
    """As far as encryption uses them."""
    return cast(FrontServices, SimpleNamespace(encryption=LocalKeys(catalog, RingSealer(b"cluster secret"))))


def asking(headers: dict[str, str], method: str = "GET") -> Request:
    async def receive() -> dict[str, object]:
        raise AssertionError("headers only")

    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {
        "method": method,
        "raw_path": b"/bucket/key",
        "query_string": b"",
        "headers": listed,
    }
    return Request(scope, receive, "R1", ("localhost",))


def reading(kind: str) -> dict[str, str]:
    return KINDS[kind] if kind == "sse-c" else {}


def source(kind: str) -> dict[str, str]:
    return {name.replace("x-amz-", "x-amz-copy-source-", 1): text for name, text in reading(kind).items()}


async def made(services: FrontServices, kind: str) -> Sealing:
    sealing = await requests.for_new_object(services, asking(KINDS[kind], "PUT"), BUCKET)
    assert sealing is not None
    return sealing


def stored(sealing: Sealing | None, etag: str = MD5) -> ObjectRow:
    attributes = Attributes(encryption=None if sealing is None else sealing.encryption)
    blob = BlobRow(bytes(16), 5, 2, 1, 1 << 20, 1, 0, (1, 2, 3))
    return ObjectRow(b"key", None, 1, 5, etag, 0, "text/plain", attributes, blob)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_made_is_opened_again(services: FrontServices, kind: str) -> None:
    """And each object has a data key of its own. Red when a key is made once and kept."""
    first, second = await made(services, kind), await made(services, kind)
    assert first.data_key != second.data_key
    attributes = Attributes(encryption=first.encryption)
    assert await requests.for_reading(services, asking(reading(kind)), attributes) == first.data_key
    part = await requests.for_part(services, asking(reading(kind), "PUT"), attributes)
    assert part == first
    assert await requests.for_source(services, asking(source(kind)), attributes) == first.data_key


async def test_a_plain_object_needs_nothing_and_takes_nothing(services: FrontServices) -> None:
    plain = Attributes()
    assert await requests.for_reading(services, asking({}), plain) is None
    assert await requests.for_part(services, asking({}, "PUT"), plain) is None
    for call in (requests.for_reading, requests.for_describing, requests.for_part):
        with pytest.raises(InvalidRequest, match="not applicable"):
            await call(services, asking(customer_headers()), plain)


@pytest.mark.parametrize("headers", [{SSE: "AES256"}, {SSE: "aws:kms"}])
async def test_readers_say_nothing_of_the_servers_keys(
    services: FrontServices, headers: dict[str, str]
) -> None:
    """GET and HEAD refuse the header, whatever the object is."""
    for attributes in (Attributes(), Attributes(encryption=(await made(services, "sse-s3")).encryption)):
        for call in (requests.for_reading, requests.for_describing):
            with pytest.raises(InvalidArgument):
                await call(services, asking(headers), attributes)


async def test_another_customers_key_is_refused_everywhere(services: FrontServices) -> None:
    """Also where no bytes are asked for: HEAD tells metadata. Red when `for_describing` does not unwrap."""
    attributes = Attributes(encryption=(await made(services, "sse-c")).encryption)
    for headers in ({}, customer_headers(OTHER)):
        for call in (requests.for_reading, requests.for_describing, requests.for_part):
            with pytest.raises(InvalidRequest):
                await call(services, asking(headers), attributes)
    with pytest.raises(InvalidRequest):
        await requests.for_source(services, asking(customer_headers()), attributes)  # those are the target's


async def test_a_data_key_is_bound_to_its_algorithm_and_context(services: FrontServices) -> None:
    """Whoever changes the catalog's row can't pass one kind off as another. Red when `belongs_to` is constant."""
    encryption = (await made(services, "sse-kms")).encryption
    for change in ({"context": ""}, {"algorithm": "aws:kms:dsse"}):
        changed = Attributes(encryption=structs.replace(encryption, **change))
        with pytest.raises(InternalError):
            await requests.for_reading(services, asking({}), changed)


async def test_an_unknown_key_is_the_clients_fault(services: FrontServices) -> None:
    headers = {SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "missing"}
    with pytest.raises(KMSNotFound):
        await requests.for_new_object(services, asking(headers, "PUT"), BUCKET)


async def test_answers_show_what_was_asked(services: FrontServices) -> None:
    """The context only to whoever puts."""
    kms = (await made(services, "sse-kms")).encryption
    put = dict(requests.response_headers(kms, asking({}, "PUT")))
    got = dict(requests.response_headers(kms, asking({}, "GET")))
    assert put.pop(b"x-amz-server-side-encryption-context") == b"eyJhIjoiYiJ9"
    assert (
        put
        == got
        == {
            b"x-amz-server-side-encryption": b"aws:kms",
            b"x-amz-server-side-encryption-aws-kms-key-id": b"aws/s3",
        }
    )
    ours = (await made(services, "sse-c")).encryption
    shown = dict(requests.response_headers(ours, asking(customer_headers(), "PUT")))
    digest = customer_headers()["x-amz-server-side-encryption-customer-key-md5"].encode()
    assert shown == {
        b"x-amz-server-side-encryption-customer-algorithm": b"AES256",
        b"x-amz-server-side-encryption-customer-key-md5": digest,
    }
    assert requests.response_headers(None, asking({})) == []


@pytest.mark.parametrize("of", KINDS)
@pytest.mark.parametrize("to", KINDS)
async def test_p9_encrypted_to_encrypted_shares_the_bytes(services: FrontServices, of: str, to: str) -> None:
    """The same data key wrapped anew: the copy opens what the source's blob holds. Red when a copy gets a data key of
    its own and is still made by reference."""
    sealing = await made(services, of)
    row = stored(sealing, sealing.etag(MD5))
    plan = await plan_copy(services, asking({**KINDS[to], **source(of)}, "PUT"), row, BUCKET)
    assert plan.by_reference
    assert plan.encryption is not None
    copied = Attributes(encryption=plan.encryption)
    assert await requests.for_reading(services, asking(reading(to)), copied) == sealing.data_key
    if to == "sse-s3":
        assert plan.etag == (MD5 if of == "sse-s3" else f"{row.etag}-1")
    else:
        assert MD5 not in plan.etag


@pytest.mark.parametrize("kind", KINDS)
async def test_to_and_from_the_clear_bytes_are_written_anew(services: FrontServices, kind: str) -> None:
    """Red when a copy that is to be encrypted shares plain bytes."""
    plan = await plan_copy(services, asking(KINDS[kind], "PUT"), stored(None), BUCKET)
    assert (plan.by_reference, plan.source_key) == (False, None)
    assert plan.sealing is not None
    sealing = await made(services, kind)
    plan = await plan_copy(services, asking(source(kind), "PUT"), stored(sealing), BUCKET)
    assert (plan.by_reference, plan.source_key, plan.sealing) == (False, sealing.data_key, None)
    assert repr(sealing.data_key) not in repr(plan)
    plan = await plan_copy(services, asking({}, "PUT"), stored(None), BUCKET)
    assert (plan.by_reference, plan.etag, plan.encryption) == (True, MD5, None)
