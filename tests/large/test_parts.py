"""10,000 parts, 5 TiB: what S3 allows at most ("Amazon S3 multipart upload limits"), and nothing above it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from catalog import lookup, uploads
from catalog.model import ObjectRow, UploadRow
from catalog.transaction import Transaction
from s3front.handlers.object_stream import part_spans
from s3front.limits import OBJECT_BYTES_MAX, PART_BYTES_MAX
from s3front.wire.checksums import ALGORITHMS, full_object
from tests.catalog.making import new_blob
from tests.large.conftest import Front

BUCKET = "parts"
PARTS_MAX = 10_000
AT_ONCE = 2500


@pytest.fixture(scope="module")
def bucket_id(front: Front) -> int:
    return front.bucket(BUCKET)


class Upload:
    """One whose parts are rows in the catalog."""

    def __init__(self, front: Front, bucket_id: int, key: str) -> None:
        self.front = front
        self.name: dict[str, Any] = {"Bucket": BUCKET, "Key": key}
        self.name["UploadId"] = front.s3.create_multipart_upload(**self.name)["UploadId"]
        self.row: UploadRow = front.run(
            uploads.get(front.catalog, bucket_id, key.encode(), self.name["UploadId"])
        )
        self.parts: list[dict[str, Any]] = []
        self.sizes: list[int] = []

    def send(self, sizes: list[int]) -> None:
        first = len(self.sizes) + 1
        self.sizes += sizes
        numbers = range(first, first + len(sizes))
        for at in range(0, len(sizes), AT_ONCE):
            self.front.run(self.front.catalog.write(self._sending(numbers[at : at + AT_ONCE])))

    def _sending(self, numbers: Iterable[int]) -> Callable[[Transaction], None]:
        def function(tx: Transaction) -> None:
            for number in numbers:
                blob = new_blob(size=self.sizes[number - 1])
                etag = hashlib.md5(b"%d" % number).hexdigest()
                uploads.put_part(
                    tx, upload=self.row, number=number, blob=blob, etag=etag, checksum=checksum(number)
                )
                self.parts.append({"PartNumber": number, "ETag": etag})

        return function

    def complete(self) -> Any:
        return self.front.s3.complete_multipart_upload(**self.name, MultipartUpload={"Parts": self.parts})


def checksum(number: int) -> str:
    return base64.b64encode((number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big")).decode()


def refusal(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


def test_ten_thousand_parts_of_five_tebibytes(front: Front, bucket_id: int) -> None:
    """Listed, completed in a transaction that does not touch each part, read by range and number, in exact figures."""
    upload = Upload(front, bucket_id, "whole")
    usual = OBJECT_BYTES_MAX // PARTS_MAX
    upload.send([usual] * (PARTS_MAX - 1))
    upload.send([OBJECT_BYTES_MAX - usual * (PARTS_MAX - 1)])

    pages = list(front.s3.get_paginator("list_parts").paginate(**upload.name))
    listed = [(part["PartNumber"], part["Size"]) for page in pages for part in page["Parts"]]
    assert listed == list(enumerate(upload.sizes, 1))
    assert len(pages) == 10

    answer, statements = front.traced(upload.complete)
    assert len(statements) < 100
    digests = b"".join(bytes.fromhex(part["ETag"]) for part in upload.parts)
    assert answer["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-10000"'
    values = [(checksum(number), size) for number, size in enumerate(upload.sizes, 1)]
    assert answer["ChecksumCRC64NVME"] == full_object(ALGORITHMS["CRC64NVME"], values)
    assert upload.complete()["ETag"] == answer["ETag"]

    head = front.s3.head_object(Bucket=BUCKET, Key="whole")
    assert (head["ContentLength"], head["ETag"]) == (OBJECT_BYTES_MAX, answer["ETag"])
    (entry,) = front.s3.list_objects_v2(Bucket=BUCKET, Prefix="whole")["Contents"]
    assert entry["Size"] == OBJECT_BYTES_MAX
    last = front.s3.head_object(Bucket=BUCKET, Key="whole", PartNumber=PARTS_MAX)
    assert (last["ContentLength"], last["PartsCount"]) == (upload.sizes[-1], PARTS_MAX)
    start = OBJECT_BYTES_MAX - upload.sizes[-1]
    assert last["ContentRange"] == f"bytes {start}-{OBJECT_BYTES_MAX - 1}/{OBJECT_BYTES_MAX}"
    for asked, length in (
        ("bytes=5497558138879-", 1),
        ("bytes=-7", 7),
        ("bytes=1-5497558138879", 2**40 * 5 - 1),
    ):
        assert front.s3.head_object(Bucket=BUCKET, Key="whole", Range=asked)["ContentLength"] == length

    told = front.s3.get_object_attributes(
        Bucket=BUCKET, Key="whole", ObjectAttributes=["ObjectParts", "ObjectSize"], PartNumberMarker=9_998
    )
    assert (told["ObjectSize"], told["ObjectParts"]["TotalPartsCount"]) == (OBJECT_BYTES_MAX, PARTS_MAX)
    assert [part["Size"] for part in told["ObjectParts"]["Parts"]] == upload.sizes[-2:]

    row = front.run(lookup.lookup(front.catalog, bucket_id, b"whole"))
    assert isinstance(row, ObjectRow)
    assert row.blob.manifest is not None
    edge = usual * 7_000
    spans = [(part.number, a, b) for part, a, b in part_spans(row.blob.manifest, edge - 1, edge + 1)]
    assert spans == [(7_000, usual - 1, usual), (7_001, 0, 1)]

    with pytest.raises(ClientError) as caught:
        front.s3.put_object(Bucket=BUCKET, Key="whole", Body=b"x", WriteOffsetBytes=OBJECT_BYTES_MAX)
    assert refusal(caught) == "TooManyParts"
    with pytest.raises(ClientError) as caught:
        front.s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "whole"})
    assert refusal(caught) == "InvalidRequest"


def test_not_a_byte_more(front: Front, bucket_id: int) -> None:
    """Neither by a part nor by appending. Red when the sum of the parts is not looked at."""
    upload = Upload(front, bucket_id, "largest")
    count = OBJECT_BYTES_MAX // PART_BYTES_MAX
    upload.send([PART_BYTES_MAX] * count)
    upload.send([1])
    with pytest.raises(ClientError) as caught:
        upload.complete()
    assert refusal(caught) == "EntityTooLarge"
    upload.parts.pop()
    upload.complete()
    assert front.s3.head_object(Bucket=BUCKET, Key="largest")["ContentLength"] == OBJECT_BYTES_MAX
    with pytest.raises(ClientError) as caught:
        front.s3.put_object(Bucket=BUCKET, Key="largest", Body=b"x", WriteOffsetBytes=OBJECT_BYTES_MAX)
    assert refusal(caught) == "EntityTooLarge"


def test_a_list_of_too_many_parts(front: Front, bucket_id: int) -> None:
    upload = Upload(front, bucket_id, "too-many")
    upload.send([1])
    upload.parts *= PARTS_MAX + 1
    with pytest.raises(ClientError) as caught:
        upload.complete()
    assert refusal(caught) == "MalformedXML"
