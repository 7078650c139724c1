"""Random sequences of S3 operations against the real store, compared with a dictionary (P4, P5).

The store runs as real processes; boto3 is the client. What a run found is replayed by hypothesis from its printed blob.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.system.conftest import Store

STRIPE = 1 << 20
MINIMUM_PART = 5 << 20
segments = st.sampled_from(
    ["a", "b", "ab", "ä", "日本", "x y", "+", "%41", "..a", "~", "&amp;", "<k>", "'\""]
)
keys = st.lists(segments, min_size=1, max_size=4).map("/".join) | st.sampled_from(
    ["a//b", "a/", "a/b/", "-/x", "a/../b"]
)
sizes = (
    st.integers(0, 300)
    | st.sampled_from([65535, 65536, 65537, STRIPE - 1, STRIPE, STRIPE + 1, 2 * STRIPE, 3 * STRIPE + 17])
    | st.integers(1000, 200_000)
)
bucket_numbers = itertools.count()


def pattern(size: int, seed: int) -> bytes:
    """`size` bytes that differ for each seed and do not repeat within a stripe; some end with zero bytes."""
    block = hashlib.shake_128(seed.to_bytes(8, "big")).digest(min(size, 65_521))
    data = (block * (size // max(1, len(block)) + 1))[:size]
    return data[:-3] + bytes(3) if seed % 3 == 0 and size > 3 else data


def model_listing(model: dict[str, bytes], prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """S3's answer to a whole LIST: keys in UTF-8 order, and common prefixes."""
    found: list[str] = []
    prefixes: set[str] = set()
    for key in model:
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
        else:
            found.append(key)
    return sorted(found, key=str.encode), sorted(prefixes, key=str.encode)


class StoreMachine(RuleBasedStateMachine):
    """S3 operations as rules; ``self.model`` holds what a reader must see."""

    store: Store
    written = Bundle("written")

    @initialize()
    def create_bucket(self) -> None:
        self.s3: Any = self.store.client()
        self.bucket = f"machine-{next(bucket_numbers)}"
        self.s3.create_bucket(Bucket=self.bucket)
        self.model: dict[str, bytes] = {}
        self.metadata: dict[str, dict[str, str]] = {}

    @rule(target=written, key=keys, size=sizes, seed=st.integers(0, 1 << 32), tag=st.text("abc-", max_size=8))
    def put(self, key: str, size: int, seed: int, tag: str) -> str:
        data = pattern(size, seed)
        metadata = {"tag": tag} if tag else {}
        answer = self.s3.put_object(Bucket=self.bucket, Key=key, Body=data, Metadata=metadata)
        assert answer["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
        self.model[key], self.metadata[key] = data, metadata
        return key

    @rule(key=written)
    def get(self, key: str) -> None:
        if key not in self.model:
            with pytest.raises(ClientError) as caught:
                self.s3.get_object(Bucket=self.bucket, Key=key)
            assert caught.value.response["Error"]["Code"] == "NoSuchKey"
            return
        answer = self.s3.get_object(Bucket=self.bucket, Key=key)
        assert answer["Body"].read() == self.model[key]
        assert answer["Metadata"] == self.metadata[key]

    @rule(key=written, first=st.integers(0, 4 * STRIPE), length=st.integers(1, STRIPE + 2))
    def get_range(self, key: str, first: int, length: int) -> None:
        data = self.model.get(key)
        if data is None or first >= len(data):
            return
        answer = self.s3.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={first}-{first + length - 1}")
        assert answer["Body"].read() == data[first : first + length]
        stop = min(first + length, len(data))
        assert answer["ContentRange"] == f"bytes {first}-{stop - 1}/{len(data)}"

    @rule(key=written)
    def delete(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=key)
        self.model.pop(key, None)

    @rule(doomed=st.lists(written, min_size=1, max_size=5))
    def delete_several(self, doomed: list[str]) -> None:
        answer = self.s3.delete_objects(
            Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in set(doomed)]}
        )
        assert {d["Key"] for d in answer["Deleted"]} == set(doomed)
        for key in doomed:
            self.model.pop(key, None)

    @rule(target=written, source=written, key=keys, replace=st.booleans())
    def copy(self, source: str, key: str, replace: bool) -> str:
        extra: dict[str, Any] = (
            {"MetadataDirective": "REPLACE", "Metadata": {"new": "yes"}} if replace or source == key else {}
        )
        origin = {"Bucket": self.bucket, "Key": source}
        if source not in self.model:
            with pytest.raises(ClientError) as caught:
                self.s3.copy_object(Bucket=self.bucket, Key=key, CopySource=origin, **extra)
            assert caught.value.response["Error"]["Code"] == "NoSuchKey"
            return key
        self.s3.copy_object(Bucket=self.bucket, Key=key, CopySource=origin, **extra)
        self.model[key] = self.model[source]
        self.metadata[key] = extra.get("Metadata", self.metadata[source])
        return key

    @rule(
        target=written, key=keys, tail=st.integers(0, 100_000), seed=st.integers(0, 1 << 32), source=written
    )
    def multipart(self, key: str, tail: int, seed: int, source: str) -> str:
        upload = self.s3.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
        name = {"Bucket": self.bucket, "Key": key, "UploadId": upload}
        first, last = pattern(MINIMUM_PART, seed), pattern(tail, seed + 1)
        parts = []
        for number, data in ((1, first), (7, last)):
            etag = self.s3.upload_part(**name, PartNumber=number, Body=data)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
        whole = first + last
        if source in self.model:
            copied = self.s3.upload_part_copy(
                **name, PartNumber=7, CopySource={"Bucket": self.bucket, "Key": source}
            )
            parts[1]["ETag"] = copied["CopyPartResult"]["ETag"]
            whole = first + self.model[source]
        answer = self.s3.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})
        digests = b"".join(bytes.fromhex(part["ETag"].strip('"').split("-")[0]) for part in parts)
        if "-" not in parts[1]["ETag"]:
            assert answer["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-2"'
        self.model[key], self.metadata[key] = whole, {}
        return key

    @rule(key=keys)
    def abort_multipart(self, key: str) -> None:
        upload = self.s3.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
        name = {"Bucket": self.bucket, "Key": key, "UploadId": upload}
        self.s3.upload_part(**name, PartNumber=1, Body=b"never seen")
        self.s3.abort_multipart_upload(**name)
        with pytest.raises(ClientError) as caught:
            self.s3.list_parts(**name)
        assert caught.value.response["Error"]["Code"] == "NoSuchUpload"

    @rule(
        prefix=st.sampled_from(["", "a", "a/", "ä", "a/b", "zz"]),
        delimiter=st.sampled_from(["", "/", "b", "/b"]),
        page=st.integers(1, 5),
        version=st.sampled_from(["list_objects", "list_objects_v2"]),
    )
    def list_pages(self, prefix: str, delimiter: str, page: int, version: str) -> None:
        keys, prefixes = [], []
        for answer in self.s3.get_paginator(version).paginate(
            Bucket=self.bucket, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": page}
        ):
            found = [entry["Key"] for entry in answer.get("Contents", [])]
            common = [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])]
            assert len(found) + len(common) <= page
            keys += found
            prefixes += common
        assert (keys, prefixes) == model_listing(self.model, prefix, delimiter)

    @invariant()
    def listing_holds_the_model(self) -> None:
        answer = self.s3.list_objects_v2(Bucket=self.bucket)
        found = {entry["Key"]: entry["Size"] for entry in answer.get("Contents", [])}
        assert found == {key: len(data) for key, data in self.model.items()}

    def teardown(self) -> None:
        for key in self.model:
            self.s3.delete_object(Bucket=self.bucket, Key=key)
        self.s3.delete_bucket(Bucket=self.bucket)


def test_random_operations_match_a_dictionary(store: Store) -> None:
    StoreMachine.store = store
    run_state_machine_as_test(StoreMachine, settings=settings(max_examples=12, stateful_step_count=30))
