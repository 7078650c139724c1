"""Addressing, keys and query parsing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3front import errors
from s3front.request import Request, address, climbs_out, host_bucket, parse_query

DOMAINS = ("localhost", "s3.example.com")


async def no_body() -> dict[str, object]:
    raise AssertionError("not read")


def make(path: bytes, query: bytes = b"", host: bytes = b"127.0.0.1:9000", method: str = "GET") -> Request:
    scope = {"method": method, "raw_path": path, "query_string": query, "headers": [(b"host", host)]}
    return Request(scope, no_body, "ID", DOMAINS)


@pytest.mark.parametrize(
    ("path", "host", "expected"),
    [
        (b"/", "h", (None, None)),
        (b"/bucket", "h", ("bucket", None)),
        (b"/bucket/", "h", ("bucket", None)),
        (b"/bucket/a/b", "h", ("bucket", b"a/b")),
        (b"/bucket//a", "h", ("bucket", b"/a")),
        (b"/bucket/a%2Fb", "h", ("bucket", b"a/b")),
        (b"/bucket/a+b%20c", "h", ("bucket", b"a+b c")),
        (b"/", "bucket.localhost:9000", ("bucket", None)),
        (b"/a/b", "bucket.localhost", ("bucket", b"a/b")),
        (b"/-/health", "bucket.localhost", ("bucket", b"-/health")),
        (b"/k", "my.bucket.s3.example.com:80", ("my.bucket", b"k")),
        (b"/bucket/k", "localhost:9000", ("bucket", b"k")),
        (b"/bucket/k", "notlocalhost", ("bucket", b"k")),
        (b"/bucket/k", "[::1]:9000", ("bucket", b"k")),
    ],
)
def test_address(path: bytes, host: str, expected: tuple[str | None, bytes | None]) -> None:
    assert address(path, host, DOMAINS) == expected


def test_host_that_names_no_bucket() -> None:
    assert host_bucket("localhost", DOMAINS) is None
    assert host_bucket(".localhost", DOMAINS) is None
    assert host_bucket("[::1]", DOMAINS) is None


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (b"/bucket/%ff", errors.InvalidURI),
        (b"/%ff/key", errors.InvalidBucketName),
        (b"//key", errors.InvalidURI),
        (b"/bucket/../x", errors.InvalidURI),
        (b"/bucket/" + b"k" * 1025, errors.KeyTooLongError),
        (b"/bucket/" + "ä".encode() * 513, errors.KeyTooLongError),
    ],
)
def test_refused_paths(path: bytes, error: type[errors.S3Error]) -> None:
    with pytest.raises(error):
        make(path)


@given(st.lists(st.sampled_from([b"..", b".", b"", b"a", b"bc"]), max_size=8))
def test_climbs_out_agrees_with_counting_every_prefix(segments: list[bytes]) -> None:
    depths = [
        sum(-1 if s == b".." else s not in (b"", b".") for s in segments[:end])
        for end in range(len(segments) + 1)
    ]
    assert climbs_out(b"/".join(segments)) == (min(depths) < 0)


def test_query() -> None:
    assert parse_query(b"list-type=2&prefix=a%2Fb+c&delimiter=&uploads&&prefix=second") == {
        "list-type": "2",
        "prefix": "a/b c",
        "delimiter": "",
        "uploads": "",
    }
    with pytest.raises(errors.InvalidURI):
        parse_query(b"prefix=%ff")


@given(st.binary(max_size=60).filter(lambda raw: b"#" not in raw and b" " not in raw), st.binary(max_size=60))
def test_arbitrary_bytes_raise_s3_errors_only(path: bytes, query: bytes) -> None:
    try:
        request = make(b"/" + path, query)
    except errors.S3Error:
        return
    if request.key is not None:
        assert 1 <= len(request.key) <= 1024
        request.key.decode()


@pytest.mark.parametrize("value", ["-1", "1e3", "", "x", "9" * 30, "\u0663"])
def test_bad_content_length(value: str) -> None:
    request = make(b"/b/k")
    request.headers["content-length"] = value
    with pytest.raises(errors.InvalidArgument):
        _ = request.content_length


def test_signed_query_parameters_count_as_headers_but_never_over_one_that_was_sent() -> None:
    query = b"X-Amz-Algorithm=A&X-Amz-Signature=s&x-amz-meta-a=1&x-amz-storage-class=STANDARD_IA&other=2"
    request = make(b"/b/k", query)
    request.headers["x-amz-storage-class"] = "STANDARD"
    request.adopt_signed_query()
    assert request.headers["x-amz-meta-a"] == "1"
    assert (b"x-amz-meta-a", b"1") in request.header_list
    assert request.headers["x-amz-storage-class"] == "STANDARD"
    assert not {"x-amz-signature", "X-Amz-Signature", "x-amz-algorithm", "other"} & set(request.headers)
