"""Multipart uploads over boto3 against the real store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.system.conftest import Store

BUCKET = "multipart"
PART = 5 << 20


@pytest.fixture(scope="module")
def s3(store: Store) -> Iterator[Any]:
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    yield client
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    client.delete_bucket(Bucket=BUCKET)


class Upload:
    """One multipart upload under way."""

    def __init__(self, s3: Any, key: str, bucket: str = BUCKET, **extra: Any) -> None:
        self.s3 = s3
        self.name = {"Bucket": bucket, "Key": key}
        self.name["UploadId"] = s3.create_multipart_upload(**self.name, **extra)["UploadId"]
        self.parts: list[dict[str, Any]] = []

    def put(self, number: int, data: bytes, **extra: Any) -> Any:
        answer = self.s3.upload_part(**self.name, PartNumber=number, Body=data, **extra)
        self.parts = [part for part in self.parts if part["PartNumber"] != number]
        self.parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        self.parts.sort(key=lambda part: int(part["PartNumber"]))
        return answer

    def complete(self, parts: list[dict[str, Any]] | None = None, **extra: Any) -> Any:
        listed = {"Parts": self.parts if parts is None else parts}
        return self.s3.complete_multipart_upload(**self.name, MultipartUpload=listed, **extra)


def refusal(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


def test_parts_become_one_object(s3: Any) -> None:
    upload = Upload(s3, "three", ContentType="a/b", Metadata={"m": "1"})
    pieces = [os.urandom(PART), os.urandom(PART + 17), b"tail\0\0"]
    for number, piece in zip((2, 5, 10_000), pieces, strict=True):
        upload.put(number, piece)
    etag = upload.complete()["ETag"]
    digest = hashlib.md5(b"".join(hashlib.md5(piece).digest() for piece in pieces)).hexdigest()
    assert etag == f'"{digest}-3"'
    answer = s3.get_object(Bucket=BUCKET, Key="three")
    assert answer["Body"].read() == b"".join(pieces)
    assert (answer["ETag"], answer["ContentType"], answer["Metadata"]) == (etag, "a/b", {"m": "1"})
    whole = b"".join(pieces)
    for first, last in ((0, 0), (PART - 1, PART), (PART + 3, 2 * PART + 18), (2 * PART + 17, len(whole) - 1)):
        ranged = s3.get_object(Bucket=BUCKET, Key="three", Range=f"bytes={first}-{last}")
        assert ranged["Body"].read() == whole[first : last + 1]


def test_get_by_part_number(s3: Any) -> None:
    upload = Upload(s3, "numbered")
    pieces = {1: os.urandom(PART), 3: b"second"}
    for number, piece in pieces.items():
        upload.put(number, piece)
    upload.complete()
    for number, piece in pieces.items():
        answer = s3.get_object(Bucket=BUCKET, Key="numbered", PartNumber=number)
        assert (answer["Body"].read(), answer["PartsCount"]) == (piece, 2)
        assert s3.head_object(Bucket=BUCKET, Key="numbered", PartNumber=number)["ContentLength"] == len(piece)
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=BUCKET, Key="numbered", PartNumber=2)
    assert refusal(caught) == "InvalidPart"


def test_a_part_sent_again_replaces_the_first(s3: Any) -> None:
    upload = Upload(s3, "again")
    upload.put(1, b"first")
    stale = list(upload.parts)
    upload.put(1, b"second")
    with pytest.raises(ClientError) as caught:
        upload.complete(stale)
    assert refusal(caught) == "InvalidPart"
    upload.complete()
    assert s3.get_object(Bucket=BUCKET, Key="again")["Body"].read() == b"second"


def test_completion_is_idempotent(s3: Any) -> None:
    upload = Upload(s3, "twice")
    upload.put(1, b"once")
    first = upload.complete()
    assert upload.complete()["ETag"] == first["ETag"]
    assert s3.get_object(Bucket=BUCKET, Key="twice")["Body"].read() == b"once"


def test_completing_again_after_the_object_has_changed(s3: Any) -> None:
    """The same answer, also when the key was overwritten, deleted, or is protected by a condition; and nothing is
    undone by it. Red when nobody asks whether the upload was completed before."""
    upload = Upload(s3, "again-later", ChecksumAlgorithm="SHA256")
    upload.parts = [{"PartNumber": 1, **_told(upload.put(1, b"once", ChecksumAlgorithm="SHA256"))}]
    first = upload.complete(IfNoneMatch="*")
    again = upload.complete(IfNoneMatch="*")
    shown = ("ETag", "ChecksumSHA256", "ChecksumType", "Location")
    assert [again[name] for name in shown] == [first[name] for name in shown]
    assert upload.complete(upload.parts * 2)["ETag"] == first["ETag"]
    s3.put_object(Bucket=BUCKET, Key="again-later", Body=b"other")
    assert upload.complete()["ETag"] == first["ETag"]
    assert s3.get_object(Bucket=BUCKET, Key="again-later")["Body"].read() == b"other"
    s3.delete_object(Bucket=BUCKET, Key="again-later")
    assert upload.complete()["ETag"] == first["ETag"]
    with pytest.raises(ClientError) as caught:
        upload.complete([{"PartNumber": 1, "ETag": "0" * 32}])
    assert refusal(caught) == "NoSuchUpload"


def _told(answer: Any) -> dict[str, str]:
    return {name: answer[name] for name in ("ETag", "ChecksumSHA256")}


def test_completing_at_once_makes_one_version(s3: Any) -> None:
    """Whichever of the answers a client hears, it names that version."""
    s3.create_bucket(Bucket="multipart-versions")
    s3.put_bucket_versioning(Bucket="multipart-versions", VersioningConfiguration={"Status": "Enabled"})
    upload = Upload(s3, "key", bucket="multipart-versions")
    upload.put(1, b"data")
    with ThreadPoolExecutor(6) as pool:
        told = [done.result()["VersionId"] for done in [pool.submit(upload.complete) for _ in range(6)]]
    s3.put_object(Bucket="multipart-versions", Key="key", Body=b"newer")
    told.append(upload.complete()["VersionId"])
    versions = s3.list_object_versions(Bucket="multipart-versions")["Versions"]
    assert [one["Size"] for one in versions] == [5, 4]
    assert set(told) == {versions[1]["VersionId"]}


def test_conditions_are_those_of_the_moment_of_completion(s3: Any) -> None:
    """A refused one leaves the upload as it is."""
    upload = Upload(s3, "conditional")
    upload.put(1, b"parts")
    with pytest.raises(ClientError) as caught:
        upload.complete(IfMatch="*")
    assert refusal(caught) == "NoSuchKey"
    etag = s3.put_object(Bucket=BUCKET, Key="conditional", Body=b"there")["ETag"]
    wrong: list[dict[str, Any]] = [{"IfNoneMatch": "*"}, {"IfMatch": "0" * 32}]
    for extra in wrong:
        with pytest.raises(ClientError) as caught:
            upload.complete(**extra)
        assert refusal(caught) == "PreconditionFailed"
    upload.complete(IfMatch=etag)
    assert s3.get_object(Bucket=BUCKET, Key="conditional")["Body"].read() == b"parts"


def test_what_is_told_when_an_upload_begins_holds_at_its_end(s3: Any) -> None:
    given: dict[str, Any] = {
        "ContentType": "a/b",
        "CacheControl": "no-store",
        "Metadata": {"m": "1"},
        "StorageClass": "STANDARD_IA",
        "WebsiteRedirectLocation": "/other",
    }
    upload = Upload(s3, "described", Tagging="a=b&c=d", **given)
    upload.put(1, b"data")
    assert s3.list_parts(**upload.name)["StorageClass"] == "STANDARD_IA"
    upload.complete()
    head = s3.head_object(Bucket=BUCKET, Key="described")
    assert {name: head[name] for name in given} == given
    tags = s3.get_object_tagging(Bucket=BUCKET, Key="described")["TagSet"]
    assert tags == [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d"}]


def test_refused_completions(s3: Any) -> None:
    upload = Upload(s3, "refused")
    upload.put(1, b"small")
    upload.put(2, b"last")
    one, two = upload.parts
    cases = [
        ([], "MalformedXML"),
        ([two, one], "InvalidPartOrder"),
        ([one, two, one], "InvalidPartOrder"),
        ([{"PartNumber": 3, "ETag": one["ETag"]}], "InvalidPart"),
        ([{"PartNumber": 1, "ETag": two["ETag"]}], "InvalidPart"),
        ([one, two], "EntityTooSmall"),
    ]
    for parts, code in cases:
        with pytest.raises(ClientError) as caught:
            upload.complete(parts)
        assert refusal(caught) == code, parts
    upload.complete([two])
    assert s3.get_object(Bucket=BUCKET, Key="refused")["Body"].read() == b"last"
    with pytest.raises(ClientError) as caught:
        upload.put(3, b"late")
    assert refusal(caught) == "NoSuchUpload"


@pytest.mark.parametrize("number", [0, 10_001, -1])
def test_impossible_part_numbers(s3: Any, number: int) -> None:
    upload = Upload(s3, "numbers")
    with pytest.raises(ClientError) as caught:
        upload.put(number, b"x")
    assert refusal(caught) == "InvalidArgument"


def test_copied_parts(s3: Any) -> None:
    source = os.urandom(PART + 1000)
    s3.put_object(Bucket=BUCKET, Key="source", Body=source)
    upload = Upload(s3, "copied")
    origin = {"Bucket": BUCKET, "Key": "source"}
    for number, span in ((1, None), (2, "bytes=0-5242879"), (3, "bytes=10-99")):
        extra = {"CopySourceRange": span} if span else {}
        answer = s3.upload_part_copy(**upload.name, PartNumber=number, CopySource=origin, **extra)
        upload.parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    upload.complete()
    s3.delete_object(Bucket=BUCKET, Key="source")
    got = s3.get_object(Bucket=BUCKET, Key="copied")["Body"].read()
    assert got == source + source[:5242880] + source[10:100]
    s3.copy_object(Bucket=BUCKET, Key="copy-of-copied", CopySource={"Bucket": BUCKET, "Key": "copied"})
    s3.delete_object(Bucket=BUCKET, Key="copied")
    assert s3.get_object(Bucket=BUCKET, Key="copy-of-copied")["Body"].read() == got


@pytest.mark.parametrize("span", ["bytes=0-6000000", "bytes=5-", "0-5", "bytes=9-3"])
def test_copied_part_with_impossible_range(s3: Any, span: str) -> None:
    s3.put_object(Bucket=BUCKET, Key="small-source", Body=b"0123456789")
    upload = Upload(s3, "copied")
    with pytest.raises(ClientError) as caught:
        s3.upload_part_copy(
            **upload.name,
            PartNumber=1,
            CopySource={"Bucket": BUCKET, "Key": "small-source"},
            CopySourceRange=span,
        )
    assert refusal(caught) in ("InvalidArgument", "InvalidRange")


def test_lists_of_parts_and_uploads(s3: Any) -> None:
    uploads = [Upload(s3, key) for key in ("list/a", "list/a", "list/b/c")]
    for number in (1, 2, 7):
        uploads[0].put(number, b"p" * number)
    first = s3.list_parts(**uploads[0].name, MaxParts=2)
    assert [(p["PartNumber"], p["Size"]) for p in first["Parts"]] == [(1, 1), (2, 2)]
    assert first["IsTruncated"]
    rest = s3.list_parts(**uploads[0].name, PartNumberMarker=first["NextPartNumberMarker"])
    assert [p["PartNumber"] for p in rest["Parts"]] == [7]
    assert not rest["IsTruncated"]
    seen = []
    page: dict[str, Any] = {"IsTruncated": True}
    markers: dict[str, str] = {}
    while page["IsTruncated"]:
        page = s3.list_multipart_uploads(Bucket=BUCKET, Prefix="list/", MaxUploads=1, **markers)
        seen += [(u["Key"], u["UploadId"]) for u in page.get("Uploads", [])]
        markers = {
            "KeyMarker": page.get("NextKeyMarker", ""),
            "UploadIdMarker": page.get("NextUploadIdMarker", ""),
        }
    assert sorted(seen) == sorted((u.name["Key"], u.name["UploadId"]) for u in uploads)
    grouped = s3.list_multipart_uploads(Bucket=BUCKET, Prefix="list/", Delimiter="/")
    assert [p["Prefix"] for p in grouped["CommonPrefixes"]] == ["list/b/"]
    for upload in uploads:
        s3.abort_multipart_upload(**upload.name)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET, Prefix="list/")


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT"), ("CRC32C", "COMPOSITE"), ("CRC32C", "FULL_OBJECT"),
        ("CRC64NVME", "FULL_OBJECT"), ("SHA1", "COMPOSITE"), ("SHA256", "COMPOSITE"),
    ],
)  # fmt: skip
def test_checksums_of_parts_and_whole(s3: Any, algorithm: str, kind: str) -> None:
    pieces = [os.urandom(PART), os.urandom(1234)]
    upload = Upload(s3, "summed", ChecksumAlgorithm=algorithm, ChecksumType=kind)
    field = f"Checksum{algorithm}"
    for number, piece in enumerate(pieces, 1):
        answer = upload.put(number, piece, ChecksumAlgorithm=algorithm)
        upload.parts[-1][field] = answer[field]
    answer = upload.complete()
    assert answer["ChecksumType"] == kind
    head = s3.head_object(Bucket=BUCKET, Key="summed", ChecksumMode="ENABLED")
    assert (head[field], head["ChecksumType"]) == (answer[field], kind)
    assert answer[field].endswith("-2") == (kind == "COMPOSITE")
    if kind == "FULL_OBJECT":
        s3.put_object(Bucket=BUCKET, Key="plain", Body=b"".join(pieces), ChecksumAlgorithm=algorithm)
        assert s3.head_object(Bucket=BUCKET, Key="plain", ChecksumMode="ENABLED")[field] == head[field]


def test_each_part_keeps_its_checksum(s3: Any) -> None:
    """ListParts, GET of the part and GetObjectAttributes show it; a copied part has one too."""
    s3.put_object(Bucket=BUCKET, Key="source", Body=b"x" * PART)
    upload = Upload(s3, "part-sums", ChecksumAlgorithm="CRC32C", ChecksumType="COMPOSITE")
    copied = s3.upload_part_copy(**upload.name, PartNumber=1, CopySource={"Bucket": BUCKET, "Key": "source"})[
        "CopyPartResult"
    ]
    sent = upload.put(4, b"end", ChecksumAlgorithm="CRC32C")
    sums = [copied["ChecksumCRC32C"], sent["ChecksumCRC32C"]]
    listed = s3.list_parts(**upload.name)
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == ("CRC32C", "COMPOSITE")
    assert [part["ChecksumCRC32C"] for part in listed["Parts"]] == sums
    (entry,) = s3.list_multipart_uploads(Bucket=BUCKET, Prefix="part-sums")["Uploads"]
    assert (entry["ChecksumAlgorithm"], entry["ChecksumType"]) == ("CRC32C", "COMPOSITE")
    upload.parts = [
        {"PartNumber": part["PartNumber"], "ETag": part["ETag"], "ChecksumCRC32C": part["ChecksumCRC32C"]}
        for part in listed["Parts"]
    ]
    upload.complete()
    one = s3.get_object(Bucket=BUCKET, Key="part-sums", PartNumber=4, ChecksumMode="ENABLED")
    assert (one["Body"].read(), one["ChecksumCRC32C"]) == (b"end", sums[1])
    told = s3.get_object_attributes(Bucket=BUCKET, Key="part-sums", ObjectAttributes=["ObjectParts"])
    assert [part["ChecksumCRC32C"] for part in told["ObjectParts"]["Parts"]] == sums


def test_what_a_completion_says_of_the_whole_must_be_so(s3: Any) -> None:
    """Size, checksum and its type; and a part has the upload's algorithm. Red when any of them is not looked at."""
    upload = Upload(s3, "said", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    whole = upload.put(1, b"data", ChecksumAlgorithm="CRC32")["ChecksumCRC32"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"MpuObjectSize": 5}, "InvalidRequest"),
        ({"ChecksumCRC32": "AAAAAA=="}, "BadDigest"),
        ({"ChecksumCRC32": whole, "ChecksumType": "COMPOSITE"}, "BadDigest"),
    ]
    for extra, code in cases:
        with pytest.raises(ClientError) as caught:
            upload.complete(**extra)
        assert refusal(caught) == code, extra
    upload.complete(MpuObjectSize=4, ChecksumCRC32=whole, ChecksumType="FULL_OBJECT")
    composite = Upload(s3, "said", ChecksumAlgorithm="CRC32", ChecksumType="COMPOSITE")
    with pytest.raises(ClientError) as caught:
        composite.put(2, b"more", ChecksumAlgorithm="SHA1")
    assert refusal(caught) == "InvalidRequest"


def test_wrong_part_checksum_is_refused(s3: Any) -> None:
    upload = Upload(s3, "wrong-sum", ChecksumAlgorithm="SHA256")
    with pytest.raises(ClientError) as caught:
        upload.put(1, b"data", ChecksumSHA256="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    assert refusal(caught) == "BadDigest"
    upload.put(1, b"data", ChecksumAlgorithm="SHA256")
    upload.parts[0]["ChecksumSHA256"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    with pytest.raises(ClientError) as caught:
        upload.complete()
    assert refusal(caught) == "InvalidPart"
