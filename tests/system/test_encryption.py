"""Server-side encryption over boto3 against the real store: what lies on disks, whose key reads what, and rotation."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.system.conftest import Store

BUCKET = "encrypted"
MARKER = b"this very sentence must lie on no disk. "
TEXT = MARKER * 5_000  # 200 kB: four chunks, one stripe
LONG = MARKER * 62_500  # 2.5 MB: three stripes
PART = 5 << 20
CUSTOMER, OTHER = bytes(range(32)), bytes(range(1, 33))


def customer(key: bytes) -> dict[str, Any]:
    """As every operation takes it: of itself boto3 encodes keys for some only."""
    digest = hashlib.md5(key, usedforsecurity=False).digest()
    return {
        "SSECustomerAlgorithm": "AES256",
        "SSECustomerKey": base64.b64encode(key).decode(),
        "SSECustomerKeyMD5": base64.b64encode(digest).decode(),
    }


NONE: dict[str, Any] = {}
S3: dict[str, Any] = {"ServerSideEncryption": "AES256"}
KMS = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key-1", "BucketKeyEnabled": True}
DSSE = {"ServerSideEncryption": "aws:kms:dsse"}
SSE_C = customer(CUSTOMER)
KINDS: list[dict[str, Any]] = [S3, KMS, DSSE, SSE_C]
NAMES = ["sse-s3", "sse-kms", "dsse", "sse-c"]


@pytest.fixture(scope="module")
def s3(store: Store) -> Iterator[Any]:
    """With a key of the ring, and nothing left behind."""
    assert store.trivet("encryption-key", "create", "key-1").returncode == 0
    client = store.client()
    client.create_bucket(Bucket=BUCKET)
    yield client
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    for each in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        client.abort_multipart_upload(Bucket=BUCKET, Key=each["Key"], UploadId=each["UploadId"])
    client.delete_bucket(Bucket=BUCKET)


def read_with(kind: dict[str, Any]) -> dict[str, Any]:
    return kind if "SSECustomerKey" in kind else NONE


def as_source(kind: dict[str, Any]) -> dict[str, Any]:
    return {f"CopySource{word}": value for word, value in read_with(kind).items()}


def put(s3: Any, key: str, body: bytes, kind: dict[str, Any]) -> Any:
    return s3.put_object(Bucket=BUCKET, Key=key, Body=body, **kind)


def get(s3: Any, key: str, kind: dict[str, Any], **extra: Any) -> bytes:
    body: bytes = s3.get_object(Bucket=BUCKET, Key=key, **read_with(kind), **extra)["Body"].read()
    return body


def refused(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def upload(s3: Any, key: str, parts: list[bytes], kind: dict[str, Any]) -> Any:
    name = {"Bucket": BUCKET, "Key": key}
    name["UploadId"] = s3.create_multipart_upload(**name, **kind)["UploadId"]
    listed = []
    for number, body in enumerate(parts, 1):
        answer = s3.upload_part(**name, PartNumber=number, Body=body, **read_with(kind))
        listed.append({"PartNumber": number, "ETag": answer["ETag"]})
    return s3.complete_multipart_upload(**name, MultipartUpload={"Parts": listed}, **read_with(kind))


def files_holding(store: Store, *wanted: bytes) -> list[Path]:
    """Every file of the store that has any of these bytes, nodes' segments and catalog alike."""
    found = []
    for path in store.data.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [path for each in wanted if each in content]
    return found


def test_s24_no_plaintext_and_no_key_lies_on_any_disk(store: Store, s3: Any) -> None:
    """Small, large, in parts, copied, by the bucket's default. The object in the clear shows that it would be found.
    Red when `store_blob` writes the body itself, small or large."""
    for name, kind in zip(NAMES, KINDS, strict=True):
        put(s3, f"disk/{name}", TEXT, kind)
        put(s3, f"disk/{name}/long", LONG, kind)
        upload(s3, f"disk/{name}/parts", [MARKER * (PART // 40 + 1), TEXT], kind)
        for to in [S3, SSE_C]:
            copied = {"CopySource": f"{BUCKET}/disk/{name}", **as_source(kind), **to}
            s3.copy_object(Bucket=BUCKET, Key=f"disk/{name}/copied", **copied)
            assert get(s3, f"disk/{name}/copied", to) == TEXT
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
    put(s3, "disk/default", TEXT, NONE)
    s3.delete_bucket_encryption(Bucket=BUCKET)
    encoded = base64.b64encode(CUSTOMER)
    assert files_holding(store, MARKER, CUSTOMER, encoded) == []
    assert encoded.decode() not in store.log()
    put(s3, "disk/clear", TEXT, NONE)
    clear = files_holding(store, MARKER)
    assert clear
    assert all("node-" in str(path) for path in clear)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_ranges_of_objects_and_parts_are_exact(s3: Any, kind: dict[str, Any]) -> None:
    """Around the ends of chunks, stripes and parts."""
    content = random.Random(6).randbytes(PART + (1 << 20) + 7)
    key = f"range/{kind.get('ServerSideEncryption', 'sse-c')}"
    put(s3, key, content, kind)
    upload(s3, f"{key}/parts", [content[:PART], content[PART:]], kind)
    chunk, stripe = 64 << 10, 1 << 20
    edges = (0, chunk - 1, chunk, stripe - 1, stripe + 256, PART - 1, PART, PART + chunk, len(content) - 1)
    for name in (key, f"{key}/parts"):
        assert get(s3, name, kind) == content
        for at, first in enumerate(edges):
            for last in {first, edges[min(at + 1, len(edges) - 1)], len(content) - 1}:
                assert get(s3, name, kind, Range=f"bytes={first}-{last}") == content[first : last + 1]
    assert get(s3, f"{key}/parts", kind, PartNumber=2) == content[PART:]


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_answers_show_the_encryption_and_plain_sizes(s3: Any, kind: dict[str, Any]) -> None:
    """PUT, GET, HEAD, LIST. The ETag is the MD5 with SSE-S3 and nothing that tells the bytes with the others."""
    key = f"shown/{kind.get('ServerSideEncryption', 'sse-c')}"
    stored = put(s3, key, TEXT, kind)
    seen = s3.get_object(Bucket=BUCKET, Key=key, **read_with(kind))
    seen["Body"].read()
    head = s3.head_object(Bucket=BUCKET, Key=key, **read_with(kind))
    for answer in (stored, seen, head):
        assert answer.get("ServerSideEncryption") == kind.get("ServerSideEncryption")
        assert answer.get("SSEKMSKeyId") == {"aws:kms": "key-1", "aws:kms:dsse": "aws/s3"}.get(
            kind.get("ServerSideEncryption", "")
        )
        assert answer.get("BucketKeyEnabled", False) == kind.get("BucketKeyEnabled", False)
        assert answer.get("SSECustomerAlgorithm") == kind.get("SSECustomerAlgorithm")
        assert answer["ETag"] == stored["ETag"]
    assert seen["ContentLength"] == head["ContentLength"] == len(TEXT)
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=key)["Contents"]
    assert [entry["Size"] for entry in listed] == [len(TEXT)]
    md5 = hashlib.md5(TEXT, usedforsecurity=False).hexdigest()
    assert (stored["ETag"] == f'"{md5}"') == (kind is S3)


def test_a_customers_key_is_the_only_one_that_reads(s3: Any) -> None:
    """GET, HEAD, GetObjectAttributes and copies: without it, with another, and with one where there is none."""
    put(s3, "customer", TEXT, SSE_C)
    put(s3, "clear", TEXT, NONE)
    name = {"Bucket": BUCKET, "Key": "customer"}
    attributes = {"ObjectAttributes": ["ETag", "ObjectSize"]}
    for wrong in [NONE, customer(OTHER)]:
        assert refused(s3.get_object, **name, **wrong) == (400, "InvalidRequest")
        assert refused(s3.head_object, **name, **wrong)[0] == 400
        assert refused(s3.get_object_attributes, **name, **attributes, **wrong)[0] == 400
        copied = {"CopySource": f"{BUCKET}/customer", **as_source(wrong)}
        assert refused(s3.copy_object, Bucket=BUCKET, Key="copy", **copied)[0] == 400
    assert refused(s3.get_object, Bucket=BUCKET, Key="clear", **SSE_C) == (400, "InvalidRequest")
    assert s3.get_object_attributes(**name, **attributes, **SSE_C)["ObjectSize"] == len(TEXT)
    assert get(s3, "customer", SSE_C) == TEXT


def test_an_upload_takes_the_key_it_was_made_with(s3: Any) -> None:
    """Its parts and its end. Red when a part may bring any key: the object would be unreadable in the middle."""
    put(s3, "clear", TEXT, NONE)
    name: dict[str, Any] = {"Bucket": BUCKET, "Key": "upload"}
    name["UploadId"] = s3.create_multipart_upload(**name, **SSE_C)["UploadId"]
    for wrong in [NONE, customer(OTHER)]:
        assert refused(s3.upload_part, **name, PartNumber=1, Body=b"x", **wrong) == (400, "InvalidRequest")
        copied = {"CopySource": f"{BUCKET}/clear", "PartNumber": 1, **wrong}
        assert refused(s3.upload_part_copy, **name, **copied) == (400, "InvalidRequest")
    part = s3.upload_part(**name, PartNumber=1, Body=TEXT, **SSE_C)
    assert part["SSECustomerAlgorithm"] == "AES256"
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    assert refused(s3.complete_multipart_upload, **name, MultipartUpload=parts)[0] == 400
    s3.complete_multipart_upload(**name, MultipartUpload=parts, **SSE_C)
    assert get(s3, "upload", SSE_C) == TEXT


@pytest.mark.parametrize("source", [NONE, *KINDS], ids=["none", *NAMES])
def test_every_kind_copies_into_every_kind(s3: Any, source: dict[str, Any]) -> None:
    """Whole and as a part; the copy has the encryption that was asked for, not its source's. Red when bytes that are
    moved are written in the clear under an encryption that says otherwise."""
    put(s3, "source", TEXT, source)
    from_source = {"CopySource": f"{BUCKET}/source", **as_source(source)}
    for target in [NONE, *KINDS]:
        copied = s3.copy_object(Bucket=BUCKET, Key="target", **from_source, **target)
        head = s3.head_object(Bucket=BUCKET, Key="target", **read_with(target))
        for answer in (copied, head):
            assert answer.get("ServerSideEncryption") == target.get("ServerSideEncryption")
        assert head["ETag"] == copied["CopyObjectResult"]["ETag"]
        assert get(s3, "target", target) == TEXT
        name: dict[str, Any] = {"Bucket": BUCKET, "Key": "target"}
        name["UploadId"] = s3.create_multipart_upload(**name, **target)["UploadId"]
        extra = {"CopySourceRange": "bytes=70000-139999", **from_source, **read_with(target)}
        made = s3.upload_part_copy(**name, PartNumber=1, **extra)["CopyPartResult"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": made["ETag"]}]}
        s3.complete_multipart_upload(**name, MultipartUpload=parts, **read_with(target))
        assert get(s3, "target", target) == TEXT[70_000:140_000]


def test_a_rotated_key_reads_old_and_new_and_a_disabled_one_nothing(store: Store, s3: Any) -> None:
    """On both fronts from the next request on, by commands beside the running store."""
    key = ("encryption-key", "create", "turning")
    assert store.trivet(*key).returncode == 0
    kind = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/turning"}
    put(s3, "old", TEXT, kind)
    done = store.trivet("encryption-key", "rotate", "turning", "--json")
    assert json.loads(done.stdout)["version"] == 2
    put(s3, "new", TEXT, kind)
    for name in ("old", "new"):
        assert get(s3, name, NONE) == TEXT
    assert store.trivet("encryption-key", "disable", "turning").returncode == 0
    for _ in range(8):  # connections to either front
        assert refused(s3.get_object, Bucket=BUCKET, Key="old") == (400, "KMS.DisabledException")
    assert refused(s3.put_object, Bucket=BUCKET, Key="x", **kind) == (400, "KMS.DisabledException")
    assert s3.head_object(Bucket=BUCKET, Key="old")["SSEKMSKeyId"] == "alias/turning"
    assert store.trivet("encryption-key", "enable", "turning").returncode == 0
    assert get(s3, "old", NONE) == TEXT
    missing = {**kind, "SSEKMSKeyId": "missing"}
    assert refused(s3.put_object, Bucket=BUCKET, Key="x", **missing) == (400, "KMS.NotFoundException")


def test_the_commands_refuse_in_words(store: Store) -> None:
    """A name that is taken, unknown, or none."""
    for words, said in (
        (("create", "key-1"), "already"),
        (("create", "alias/x"), "alias/"),
        (("create", "a b"), "1 to 128"),
        (("rotate", "missing"), "encryption-key list"),
        (("disable", "missing"), "encryption-key list"),
    ):
        done = store.trivet("encryption-key", *words)
        assert (done.returncode, said in done.stderr) == (1, True), done
    listed = json.loads(store.trivet("encryption-key", "list", "--json").stdout)
    assert "key-1" in [key["name"] for key in listed]
    shown = store.trivet("encryption-key", "list").stdout
    assert "key-1" in shown


def test_the_buckets_default_is_put_read_back_applied_and_removed(s3: Any) -> None:
    """As Terraform does. Red when a field is not stored: it would plan the same change for ever."""
    name = {"Bucket": "encrypted-by-default"}
    s3.create_bucket(**name)
    absent = (404, "ServerSideEncryptionConfigurationNotFoundError")
    assert refused(s3.get_bucket_encryption, **name) == absent
    rule = {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "key-1"},
        "BucketKeyEnabled": True,
        "BlockedEncryptionTypes": {"EncryptionType": ["SSE-C"]},
    }
    s3.put_bucket_encryption(**name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert s3.get_bucket_encryption(**name)["ServerSideEncryptionConfiguration"]["Rules"] == [rule]
    stored = s3.put_object(**name, Key="key", Body=TEXT)
    assert (stored["ServerSideEncryption"], stored["SSEKMSKeyId"]) == ("aws:kms", "key-1")
    assert refused(s3.put_object, **name, Key="key", Body=TEXT, **SSE_C) == (403, "AccessDenied")
    s3.delete_bucket_encryption(**name)
    assert refused(s3.get_bucket_encryption, **name) == absent
    assert "ServerSideEncryption" not in s3.put_object(**name, Key="key", Body=TEXT)
    s3.delete_object(**name, Key="key")
    s3.delete_bucket(**name)


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [{"BucketKeyEnabled": True}, {"BucketKeyEnabled": True}],
        [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES128"}}],
        [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256", "KMSMasterKeyID": "key"}}],
        [{"BlockedEncryptionTypes": {"EncryptionType": ["SSE-X"]}}],
    ],
    ids=["none", "two", "algorithm", "key", "blocked"],
)
def test_a_default_that_cannot_be_is_refused(s3: Any, rules: list[dict[str, Any]]) -> None:
    configuration = {"ServerSideEncryptionConfiguration": {"Rules": rules}}
    status, code = refused(s3.put_bucket_encryption, Bucket=BUCKET, **configuration)
    assert (status, code) in ((400, "MalformedXML"), (400, "InvalidArgument"))
