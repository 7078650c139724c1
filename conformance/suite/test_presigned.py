"""Presigned URLs.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3

from conformance.suite.expect import until

WEEK_S = 7 * 24 * 3600


def code(answer: urllib3.BaseHTTPResponse) -> str:
    return answer.data.decode().partition("<Code>")[2].partition("</Code>")[0]


@pytest.mark.parametrize("key", ["k", "a b+c/ä?&=", "100%"])
def test_an_object_is_written_read_and_removed(
    signer: Any, web: urllib3.PoolManager, bucket: str, key: str
) -> None:
    named = {"Bucket": bucket, "Key": key}
    assert (
        web.request("PUT", signer.generate_presigned_url("put_object", Params=named), body=b"text").status
        == 200
    )
    answer = web.request("GET", signer.generate_presigned_url("get_object", Params=named))
    assert (answer.status, answer.data) == (200, b"text")
    assert web.request("HEAD", signer.generate_presigned_url("head_object", Params=named)).status == 200
    assert web.request("DELETE", signer.generate_presigned_url("delete_object", Params=named)).status == 204
    assert web.request("GET", signer.generate_presigned_url("get_object", Params=named)).status == 404


def test_parameters_are_signed_with_the_rest(signer: Any, web: urllib3.PoolManager, bucket: str) -> None:
    signer.put_object(Bucket=bucket, Key="k", Body=b"text")
    params = {"Bucket": bucket, "Key": "k", "ResponseContentType": "text/x-chosen"}
    url = signer.generate_presigned_url("get_object", Params=params)
    assert web.request("GET", url).headers["content-type"] == "text/x-chosen"
    answer = web.request("GET", url.replace("x-chosen", "x-other"))
    assert (answer.status, code(answer)) == (403, "SignatureDoesNotMatch")


def test_it_is_good_for_one_method_and_one_key(signer: Any, web: urllib3.PoolManager, bucket: str) -> None:
    signer.put_object(Bucket=bucket, Key="k", Body=b"text")
    signer.put_object(Bucket=bucket, Key="j", Body=b"other")
    url = signer.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    assert web.request("PUT", url, body=b"x").status == 403
    path = urlsplit(url).path
    assert web.request("GET", url.replace(path, f"{path[:-1]}j")).status == 403
    assert signer.get_object(Bucket=bucket, Key="k")["Body"].read() == b"text"


def test_a_signed_header_must_be_sent(signer: Any, web: urllib3.PoolManager, bucket: str) -> None:
    params = {"Bucket": bucket, "Key": "k", "ContentType": "text/plain"}
    url = signer.generate_presigned_url("put_object", Params=params)
    assert web.request("PUT", url, body=b"x", headers={"content-type": "text/html"}).status == 403
    assert web.request("PUT", url, body=b"x", headers={"content-type": "text/plain"}).status == 200
    assert signer.head_object(Bucket=bucket, Key="k")["ContentType"] == "text/plain"


def test_it_ends(signer: Any, web: urllib3.PoolManager, bucket: str) -> None:
    signer.put_object(Bucket=bucket, Key="k", Body=b"text")
    url = signer.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=1)
    until(lambda: web.request("GET", url).status == 403, "the URL ends", wait_s=10)
    answer = web.request("GET", url)
    assert (answer.status, code(answer)) == (403, "AccessDenied")


def test_a_url_for_longer_than_a_week(signer: Any, web: urllib3.PoolManager, bucket: str) -> None:
    url = signer.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=WEEK_S + 1
    )
    answer = web.request("GET", url)
    assert answer.status in (400, 403)
    assert code(answer) in ("AuthorizationQueryParametersError", "AccessDenied")
