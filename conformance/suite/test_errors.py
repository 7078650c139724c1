"""What is refused, and how an error looks.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import boto3
import pytest
import urllib3
from botocore import UNSIGNED
from botocore.config import Config

from conformance.suite.expect import header, refused


def test_an_error_is_a_document(signer: Any, web: urllib3.PoolManager, bucket: str) -> None:
    url = signer.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "none & nothing"})
    answer = web.request("GET", url)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/xml"
    error = ET.fromstring(answer.data)
    assert error.tag == "Error"
    assert error.findtext("Code") == "NoSuchKey"
    assert error.findtext("Key") == "none & nothing"
    assert error.findtext("Message")
    assert error.findtext("RequestId") == answer.headers["x-amz-request-id"]


def test_an_answer_to_head_has_no_body(signer: Any, web: urllib3.PoolManager, bucket: str) -> None:
    url = signer.generate_presigned_url("head_object", Params={"Bucket": bucket, "Key": "none"})
    answer = web.request("HEAD", url)
    assert (answer.status, answer.data) == (404, b"")


def test_every_answer_has_an_id(s3: Any, bucket: str) -> None:
    answers = [s3.head_bucket(Bucket=bucket), s3.put_object(Bucket=bucket, Key="k", Body=b"x")]
    ids = {header(answer, "x-amz-request-id") for answer in answers}
    assert len(ids) == 2
    assert None not in ids


def other_client(pytestconfig: pytest.Config, **credentials: Any) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=pytestconfig.getoption("--endpoint"),
        region_name=pytestconfig.getoption("--region"),
        **credentials,
    )


def test_a_key_that_is_none(pytestconfig: pytest.Config) -> None:
    client = other_client(pytestconfig, aws_access_key_id="NOSUCHKEY", aws_secret_access_key="x" * 40)
    with refused(403, "InvalidAccessKeyId"):
        client.list_buckets()
    client.close()


def test_a_wrong_secret(pytestconfig: pytest.Config) -> None:
    access_key = pytestconfig.getoption("--access-key")
    client = other_client(pytestconfig, aws_access_key_id=access_key, aws_secret_access_key="x" * 40)
    with refused(403, "SignatureDoesNotMatch"):
        client.list_buckets()
    client.close()


def test_nobody_in_particular(pytestconfig: pytest.Config, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    client = other_client(pytestconfig, config=Config(signature_version=UNSIGNED))
    with refused(403, "AccessDenied"):
        client.get_object(Bucket=bucket, Key="k")
    with refused(403, "AccessDenied"):
        client.put_object(Bucket=bucket, Key="k", Body=b"y")
    with refused(403, "AccessDenied"):
        client.list_objects_v2(Bucket=bucket)
    client.close()
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


MALFORMED = (
    *("", "no XML", "<", "<Delete>", "<Other/>", "<Delete/>"),
    "<Delete><Object></Object></Delete>",
    '<!DOCTYPE x [<!ENTITY e "v">]><Delete><Object><Key>&e;</Key></Object></Delete>',
)


@pytest.mark.parametrize("text", MALFORMED)
def test_documents_that_are_none(new_client: Callable[..., Any], bucket: str, text: str) -> None:
    client = new_client()

    def replace(request: Any, **_: Any) -> None:
        request.data = text.encode()
        for name in list(request.headers):
            if name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum-", "content-md5")):
                del request.headers[name]
        request.headers["Content-MD5"] = base64.b64encode(hashlib.md5(request.data).digest()).decode()

    client.meta.events.register("before-sign.s3.DeleteObjects", replace)
    with refused(400, "MalformedXML", "MissingRequestBodyError"):
        client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})


def test_methods_that_a_resource_does_not_have(signer: Any, web: urllib3.PoolManager, bucket: str) -> None:
    url = signer.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "k"}, HttpMethod="PATCH"
    )
    answer = web.request("PATCH", url)
    assert answer.status in (405, 501)
    assert ET.fromstring(answer.data).findtext("Code") in ("MethodNotAllowed", "NotImplemented")


def test_a_body_without_a_length_is_stored_whole_or_not_at_all(
    signer: Any, web: urllib3.PoolManager, bucket: str
) -> None:
    url = signer.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k"})
    answer = web.request("PUT", url, body=iter([b"one", b"two"]), headers={"transfer-encoding": "chunked"})
    if answer.status == 200:
        assert signer.get_object(Bucket=bucket, Key="k")["Body"].read() == b"onetwo"
    else:
        assert answer.status in (411, 501)
        assert "Contents" not in signer.list_objects_v2(Bucket=bucket)
