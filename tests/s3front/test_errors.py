"""S3 errors: codes, statuses, rendering."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3front import errors
from s3front.errors import S3Error, render

CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, S3Error) and kind is not S3Error
]


NO_CLASS_NAMES = {
    errors.NotImplementedS3: "NotImplemented",
    errors.KMSDisabled: "KMS.DisabledException",
    errors.KMSNotFound: "KMS.NotFoundException",
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_is_complete(kind: type[S3Error]) -> None:
    assert kind.code == NO_CLASS_NAMES.get(kind, kind.__name__)
    assert 300 <= kind.status < 600
    assert kind.message
    assert kind().message == str(kind()) == kind.message


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.NoSuchKey, 404),
        (errors.NoSuchBucket, 404),
        (errors.NoSuchUpload, 404),
        (errors.BucketNotEmpty, 409),
        (errors.PreconditionFailed, 412),
        (errors.MissingContentLength, 411),
        (errors.InvalidRange, 416),
        (errors.MethodNotAllowed, 405),
        (errors.NotImplementedS3, 501),
        (errors.SlowDown, 503),
        (errors.InternalError, 500),
        (errors.KeyTooLongError, 400),
        (errors.AccessDenied, 403),
        (errors.NotModified, 304),
    ],
)
def test_statuses_are_those_of_aws(kind: type[S3Error], status: int) -> None:
    assert kind.status == status


def test_rendering() -> None:
    error = errors.NoSuchKey(Key='a<b>&"c"', VersionId=None, Size=5)
    body = render(error, resource="/bucket/a%3Cb", request_id="R1", host_id="H1")
    assert body == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message>"
        b"<Key>a&lt;b&gt;&amp;&quot;c&quot;</Key><Size>5</Size><Resource>/bucket/a%3Cb</Resource>"
        b"<RequestId>R1</RequestId><HostId>H1</HostId></Error>"
    )


def test_message_headers_and_hyphens() -> None:
    error = errors.MethodNotAllowed("No.", headers=[(b"allow", b"GET")], X_Amz_Thing=1)
    assert error.headers == ((b"allow", b"GET"),)
    assert error.message == str(error) == "No."
    assert errors.MethodNotAllowed.message != "No."
    assert b"<X-Amz-Thing>1</X-Amz-Thing>" in render(error, resource="", request_id="", host_id="")


XML_CHARS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")


@given(st.text(XML_CHARS), st.text(XML_CHARS))
def test_any_text_survives(key: str, resource: str) -> None:
    parsed = ET.fromstring(render(errors.NoSuchKey(Key=key), resource=resource, request_id="", host_id=""))
    assert (parsed.findtext("Key") or "") == key
    assert (parsed.findtext("Resource") or "") == resource


@given(st.text(st.characters()))
def test_even_characters_that_xml_has_not_are_rendered(key: str) -> None:
    body = render(errors.NoSuchKey(Key=key), resource="", request_id="", host_id="")
    assert not set(body) & set(range(0x20)) - {0x0A}
    assert body.decode()
