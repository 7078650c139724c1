"""S17: the embedded catalog, destroyed under load, comes back from any two of its three nodes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tests.system.conftest import Store, until
from tests.system.test_membership import trivet

WRITERS = 16
READERS = 8
ACKNOWLEDGED_BEFORE_KILL = 300
PLAIN, VERSIONED = "plain", "versioned"
PART_BYTES = 5 << 20
NODES = ("node-1", "node-2", "node-3")
PAIRS = list(combinations(NODES, 2))


class Content(NamedTuple):
    """What a key holds; a key without any holds nothing."""

    seed: int
    nbytes: int
    tag: str = ""

    @property
    def body(self) -> bytes:
        block = hashlib.shake_128(self.seed.to_bytes(8, "big")).digest(min(self.nbytes, 65_521))
        return (block * (self.nbytes // 65_521 + 1))[: self.nbytes]

    @property
    def tag_set(self) -> list[dict[str, str]]:
        return [{"Key": "of", "Value": self.tag}] if self.tag else []


@dataclass
class Writer:
    """Writes, overwrites, tags and deletes its own keys, one request at a time, until the store is gone."""

    number: int
    acknowledged: dict[str, Content | None] = field(default_factory=dict)
    """Each key that was ever written to: what it holds, None once its deletion was answered."""
    under_way: dict[str, Content | None] = field(default_factory=dict)
    """Keys of which an answer did not come, one at each end of the store: they may hold this or what was acknowledged
    before."""
    cut: int = 0
    """How many answers did not come."""
    versions: set[tuple[str, str]] = field(default_factory=set)
    """Key and id of each version and delete marker that was answered."""
    answers: int = 0

    @property
    def bucket(self) -> str:
        return VERSIONED if self.number % 2 else PLAIN

    def write_until_gone(self, endpoint: str, access_key: str, secret_key: str) -> None:
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )
        random = Random(self.number)
        try:
            while True:
                self._write_one(client, random)
        except (BotoCoreError, ClientError, HTTPClientError):
            self.cut += 1
        finally:
            client.close()

    def _write_one(self, client: Any, random: Random) -> None:
        seed = self.number * 1_000_000 + self.answers
        new = f"w{self.number}/{self.answers}"
        there = [
            k for k, content in self.acknowledged.items() if content is not None and k not in self.under_way
        ]
        old = random.choice(there) if there else new
        held = self.acknowledged.get(old)
        kind = random.choices(("put", "overwrite", "delete", "tag", "upload"), (6, 3, 3, 2, 1))[0]
        where = {"Bucket": self.bucket, "Key": old}
        if kind == "delete" and held is not None:
            self._call(old, None, client.delete_object, **where)
        elif kind == "tag" and held is not None:
            after = held._replace(tag=f"{seed}")
            self._call(old, after, client.put_object_tagging, **where, Tagging={"TagSet": after.tag_set})
        elif kind == "upload":
            self._upload(client, new, Content(seed, random.choice((1, 70_000, 70_000, PART_BYTES + 11))))
        else:
            key = old if kind == "overwrite" else new
            after = Content(seed, random.choice((0, 1, 300, 4096, 70_000)), random.choice(("", f"{seed}")))
            tagging = f"of={after.tag}" if after.tag else ""
            self._call(
                key, after, client.put_object, Bucket=self.bucket, Key=key, Body=after.body, Tagging=tagging
            )

    def _upload(self, client: Any, key: str, after: Content) -> None:
        where = {"Bucket": self.bucket, "Key": key}
        upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
        parts: list[dict[str, Any]] = []
        for start in range(0, after.nbytes, PART_BYTES):
            number = len(parts) + 1
            body = after.body[start : start + PART_BYTES]
            answer = client.upload_part(**upload, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        self._call(key, after, client.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts})

    def _call(
        self, key: str, after: Content | None, call: Callable[..., dict[str, Any]], **request: Any
    ) -> None:
        self.under_way[key] = after
        answer = call(**request)
        self.acknowledged[key] = after
        if "VersionId" in answer:
            self.versions.add((key, answer["VersionId"]))
        del self.under_way[key]
        self.answers += 1


def load(store: Store, goal: int, kill: Sequence[str] = ()) -> list[Writer]:
    """The writers, after the store was killed under their hands; before that these processes, one after the other."""
    store.client().create_bucket(Bucket=PLAIN)
    store.client().create_bucket(Bucket=VERSIONED)
    store.client().put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
    return go_on([Writer(number) for number in range(WRITERS)], store, goal, kill)


def go_on(writers: list[Writer], store: Store, goal: int, kill: Sequence[str] = ()) -> list[Writer]:
    """The same writers, until `goal` writes more are answered."""
    before = sum(writer.answers for writer in writers)
    threads = [
        threading.Thread(
            target=writer.write_until_gone, args=(store.endpoint, store.access_key, store.secret_key)
        )
        for writer in writers
    ]
    for thread in threads:
        thread.start()
    for step, name in enumerate(kill, start=1):
        await_answers(writers, before + goal * step // (len(kill) + 1))
        os.kill(store.pids()[name], signal.SIGKILL)
    await_answers(writers, before + goal)
    store.kill_all()
    for thread in threads:
        thread.join()
    return writers


def await_answers(writers: list[Writer], goal: int) -> None:
    until(lambda: sum(writer.answers for writer in writers) >= goal, f"{goal} writes are answered", 60.0)


def remove_catalog(store: Store) -> None:
    for path in store.data.glob("catalog.*"):
        path.unlink()


def found(client: Any, bucket: str, key: str, sizes: dict[str, int]) -> tuple[bytes, list[Any]] | None:
    """The body and the tags of what a key holds, which the listing agrees with."""
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
    except client.exceptions.NoSuchKey:
        assert key not in sizes, f"{key} is listed and not there"
        return None
    body: bytes = answer["Body"].read()
    assert sizes.get(key) == len(body), f"{key} is there and listed with {sizes.get(key)} bytes"
    return body, client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]


def check(store: Store, writers: list[Writer]) -> None:
    """Every key holds what was acknowledged last, or what was under way after that, and nothing else is there."""
    client = store.client(config=Config(max_pool_connections=READERS))
    sizes = {bucket: dict(listed(client, bucket)) for bucket in (PLAIN, VERSIONED)}
    wrong: list[str] = []

    def look(writer: Writer, key: str) -> None:
        before = writer.acknowledged.get(key)
        allowed = [before, writer.under_way[key]] if key in writer.under_way else [before]
        holds = found(client, writer.bucket, key, sizes[writer.bucket])
        if holds not in [content and (content.body, content.tag_set) for content in allowed]:
            seen = "nothing" if holds is None else f"{len(holds[0])} bytes, {holds[1]}"
            wrong.append(f"{writer.bucket}/{key} holds {seen}, and not one of {allowed}")

    with ThreadPoolExecutor(READERS) as pool:
        looks = [
            pool.submit(look, writer, key)
            for writer in writers
            for key in writer.acknowledged.keys() | writer.under_way.keys()
        ]
        for each in looks:
            each.result()
    assert not wrong, f"{len(wrong)} keys are not as acknowledged:\n" + "\n".join(wrong[:20])
    keys = {(writer.bucket, key) for writer in writers for key in {*writer.acknowledged, *writer.under_way}}
    assert {(bucket, key) for bucket in sizes for key in sizes[bucket]} <= keys
    versions = set(listed_versions(client))
    missing = set().union(*(writer.versions for writer in writers)) - versions
    assert not missing, f"{len(missing)} versions are missing: {sorted(missing)[:5]}"
    unanswered = sum(writer.cut for writer in writers)
    assert len(versions) <= sum(len(writer.versions) for writer in writers) + unanswered


def listed(client: Any, bucket: str) -> Iterator[tuple[str, int]]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            yield entry["Key"], entry["Size"]


def listed_versions(client: Any) -> Iterator[tuple[str, str]]:
    for page in client.get_paginator("list_object_versions").paginate(Bucket=VERSIONED):
        for entry in page.get("Versions", []) + page.get("DeleteMarkers", []):
            yield entry["Key"], entry["VersionId"]


def restore(store: Store, pair: tuple[str, ...]) -> dict[str, Any]:
    named = [word for name in pair for word in ("--node-dir", str(store.data / name))]
    report: dict[str, Any] = trivet(store, "catalog", "restore", "--from-nodes", *named)
    return report


def test_s17_a_catalog_destroyed_under_load_comes_back_from_two_nodes(
    new_store: Callable[..., Store],
) -> None:
    """Two fronts, so that two processes' group commits make one log. Red (tags lost, deleted keys back) when a batch is
    answered before the nodes have its record."""
    store = new_store(("--fronts", "2"))
    store.start()
    writers = load(store, ACKNOWLEDGED_BEFORE_KILL)
    remove_catalog(store)
    assert restore(store, PAIRS[-1])["unreadable"] == []
    store.start()
    check(store, writers)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_s17_a_restored_catalog_is_lost_again_under_load(new_store: Callable[..., Store]) -> None:
    """Its steward is killed in mid-load, so that the term rises in the middle of the log; each restore raises it too,
    and the first snapshot of each term is shipped under the load."""
    store = new_store(("--fronts", "2"))
    store.start()
    writers = load(store, 2 * ACKNOWLEDGED_BEFORE_KILL, ("steward",))
    terms = []
    for pair in PAIRS:
        remove_catalog(store)
        terms.append(restore(store, pair)["term"])
        store.start()
        check(store, writers)
        go_on(writers, store, 2 * ACKNOWLEDGED_BEFORE_KILL, ("steward",))
    assert sorted(set(terms)) == terms


@pytest.mark.long
@pytest.mark.timeout(180)
def test_s17_a_catalog_comes_back_from_each_pair_of_nodes(
    new_store: Callable[..., Store], tmp_path: Path
) -> None:
    """Under load one node after the other is killed and comes back, so that the log moves from pair to pair."""
    store = new_store(("--fronts", "2"))
    store.start()
    writers = load(store, 3 * ACKNOWLEDGED_BEFORE_KILL, ("node-1", "node-2", "node-3"))
    remove_catalog(store)
    left = tmp_path / "left"
    store.data.rename(left)
    for pair in PAIRS:
        shutil.copytree(left, store.data, ignore=shutil.ignore_patterns("*.sock"))
        restore(store, pair)
        store.start()
        check(store, writers)
        store.stop()
        shutil.rmtree(store.data)
