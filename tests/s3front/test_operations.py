"""The table of operations has the shape the pipeline relies on."""

from __future__ import annotations

import pytest

from s3front import errors
from s3front.handlers import objects_get
from s3front.operation import Operation
from s3front.operations import OPERATIONS, find_operation
from tests.s3front.test_request import make


def test_every_shape_means_one_operation() -> None:
    shapes = [(o.target, o.method, o.subresource, o.header, o.parameter) for o in OPERATIONS]
    assert len(set(shapes)) == len(shapes)
    assert len({o.name for o in OPERATIONS}) == len(OPERATIONS)


def test_a_row_without_an_action_cannot_be_built() -> None:
    with pytest.raises(AssertionError, match="needs an action"):
        Operation("PutAnything", "PUT", "object", "", objects_get.get_object)


def test_a_row_that_is_not_done_says_why() -> None:
    """The reason stands in docs/s3-compatibility.md."""
    with pytest.raises(AssertionError, match="needs a note"):
        Operation("PutAnything", "PUT", "object", "s3:Put", objects_get.get_object, support="refused")


@pytest.mark.parametrize(
    ("method", "path", "query", "name"),
    [
        ("GET", b"/", b"", "ListBuckets"),
        ("GET", b"/", b"x-id=ListBuckets", "ListBuckets"),
        ("PUT", b"/b", b"", "CreateBucket"),
        ("GET", b"/b/", b"location", "GetBucketLocation"),
        ("GET", b"/b", b"prefix=a", "ListObjects"),
        ("GET", b"/b", b"list-type=2&prefix=a", "ListObjectsV2"),
        ("GET", b"/b", b"uploads", "ListMultipartUploads"),
        ("POST", b"/b", b"delete", "DeleteObjects"),
        ("GET", b"/b/k", b"partNumber=1", "GetObject"),
        ("GET", b"/b/k", b"uploadId=x", "ListParts"),
        ("PUT", b"/b/k", b"partNumber=1&uploadId=x", "UploadPart"),
        ("POST", b"/b/k", b"uploads=", "CreateMultipartUpload"),
        ("POST", b"/b/k", b"uploadId=x", "CompleteMultipartUpload"),
        ("DELETE", b"/b/k", b"uploadId=x", "AbortMultipartUpload"),
        ("HEAD", b"/b/k", b"", "HeadObject"),
        ("GET", b"/b", b"analytics", "ListBucketAnalyticsConfigurations"),
        ("GET", b"/b", b"analytics=&id=", "GetBucketAnalyticsConfiguration"),
        ("PUT", b"/b", b"id=x&analytics", "PutBucketAnalyticsConfiguration"),
        ("GET", b"/b/k", b"annotation&annotationName=n", "GetObjectAnnotation"),
        ("POST", b"/b/k", b"select&select-type=2", "SelectObjectContent"),
        ("GET", b"/b/k", b"acl&versionId=null", "GetObjectAcl"),
        ("GET", b"/b/k", b"id=x", "GetObject"),
    ],
)
def test_requests_find_their_operation(method: str, path: bytes, query: bytes, name: str) -> None:
    assert find_operation(make(path, query, method=method)).name == name


def test_a_copy_is_told_by_its_header() -> None:
    for query, name in ((b"", "CopyObject"), (b"uploadId=x&partNumber=1", "UploadPartCopy")):
        request = make(b"/b/k", query, method="PUT")
        request.headers["x-amz-copy-source"] = "/b/other"
        assert find_operation(request).name == name


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "POST"])
def test_unknown_methods_are_refused(method: str) -> None:
    with pytest.raises(errors.MethodNotAllowed):
        find_operation(make(b"/b/k", method=method))


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("DELETE", b"/b/k", b"acl"),
        ("DELETE", b"/b/k", b"retention="),
        ("DELETE", b"/b", b"versioning"),
        ("DELETE", b"/b/k", b"policy"),
        ("PUT", b"/b/k", b"versions"),
        ("PUT", b"/b/k", b"website"),
        ("GET", b"/b/k", b"location"),
        ("POST", b"/b/k", b"delete"),
        ("HEAD", b"/b/k", b"torrent"),
        ("GET", b"/", b"acl"),
    ],
)
def test_a_subresource_is_never_ignored(method: str, path: bytes, query: bytes) -> None:
    """Red when a DELETE with a subresource that has none deletes the object."""
    with pytest.raises(errors.MethodNotAllowed):
        find_operation(make(path, query, method=method))


@pytest.mark.parametrize("query", [b"tagging&acl", b"acl&versionId=1&legal-hold", b"uploadId=x&uploads"])
def test_a_request_means_one_thing(query: bytes) -> None:
    """Red when the last of several subresources counts."""
    for method in ("GET", "PUT", "DELETE"):
        with pytest.raises(errors.InvalidArgument, match="Conflicting"):
            find_operation(make(b"/b/k", query, method=method))


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [({}, errors.BadRequest), ({"origin": "https://example.net"}, errors.AccessForbidden)],
)
def test_a_preflight_is_refused(headers: dict[str, str], refusal: type[errors.S3Error]) -> None:
    """As by a bucket without CORS rules, whatever the path and query name."""
    request = make(b"/bucket/key", b"uploads", method="OPTIONS")
    request.headers.update(headers)
    with pytest.raises(refusal):
        find_operation(request)
