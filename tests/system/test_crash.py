"""P1: SIGKILL of every process in the middle of 16 writers loses nothing that was acknowledged."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tests.system.conftest import Store, until

WRITERS = 16
ROUNDS = 2
ACKNOWLEDGED_BEFORE_KILL = 150
BUCKET = "crash"
MIB = 1 << 20


def body_of(seed: int) -> bytes:
    """The body that `seed` stands for: mostly small, some of several stripes, some ending with zero bytes."""
    random = Random(seed)
    size = random.choice((0, 1, 300, 4096, 70_000, 70_000, 300_000, 2 * MIB + 11))
    block = hashlib.shake_128(seed.to_bytes(8, "big")).digest(min(size, 65_521))
    return (block * (size // 65_521 + 1))[: max(0, size - 5)] + bytes(min(5, size))


@dataclass
class Writer:
    """Writes new keys and overwrites one of its own, one request at a time, until the store is gone."""

    number: int
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Key to the seed of the last acknowledged body."""
    under_way: dict[str, int] = field(default_factory=dict)
    """Key to the seed of a body whose answer did not come: it may or may not be there."""
    written: int = 0

    def write_until_gone(self, endpoint: str, access_key: str, secret_key: str) -> None:
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )
        try:
            while True:
                self.written += 1
                seed = self.number * 1_000_000 + self.written
                key = f"w{self.number}/again" if self.written % 3 == 0 else f"w{self.number}/{self.written}"
                self.under_way[key] = seed
                client.put_object(Bucket=BUCKET, Key=key, Body=body_of(seed))
                self.acknowledged[key] = seed
                del self.under_way[key]
        except (BotoCoreError, ClientError, HTTPClientError):
            return
        finally:
            client.close()


def check(store: Store, writer: Writer) -> int:
    """Every key holds what was acknowledged last, or what was under way after that; the number of keys
    checked.
    """
    client = store.client()
    for key, seed in writer.acknowledged.items():
        body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        allowed = [body_of(seed)]
        if key in writer.under_way:
            allowed.append(body_of(writer.under_way[key]))
        assert body in allowed, f"{key} holds {len(body)} bytes that were never acknowledged"
    for key in writer.under_way.keys() - writer.acknowledged.keys():
        try:
            body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except client.exceptions.NoSuchKey:
            continue
        assert body == body_of(writer.under_way[key])
    return len(writer.acknowledged)


def settle(store: Store, writer: Writer) -> None:
    """What the outcome of the writes under way was decides what the next round expects."""
    client = store.client()
    for key, seed in list(writer.under_way.items()):
        try:
            body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except client.exceptions.NoSuchKey:
            continue
        if body == body_of(seed):
            writer.acknowledged[key] = seed
    writer.under_way.clear()


def wait_for_writes(writers: list[Writer], goal: int) -> None:
    until(
        lambda: sum(len(writer.acknowledged) for writer in writers) >= goal, "writers are in full swing", 60.0
    )


def test_p1_sigkill_of_all_processes_loses_nothing_acknowledged(new_store: Callable[..., Store]) -> None:
    """Two fronts, so that two processes share the catalog. Went red (NoSuchKey for an acknowledged key) with the
    catalog's writer answering a batch before its COMMIT."""
    store = new_store(("--fronts", "2"))
    store.start()
    store.client().create_bucket(Bucket=BUCKET)
    writers = [Writer(number) for number in range(WRITERS)]
    for round_number in range(1, ROUNDS + 1):
        threads = [
            threading.Thread(
                target=writer.write_until_gone, args=(store.endpoint, store.access_key, store.secret_key)
            )
            for writer in writers
        ]
        for thread in threads:
            thread.start()
        goal = ACKNOWLEDGED_BEFORE_KILL * round_number
        wait_for_writes(writers, goal)
        store.kill_all()
        for thread in threads:
            thread.join()
        store.start()
        assert sum(check(store, writer) for writer in writers) >= goal
        for writer in writers:
            settle(store, writer)
    listed = {
        entry["Key"]
        for page in store.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        for entry in page.get("Contents", [])
    }
    assert listed == {key for writer in writers for key in writer.acknowledged}
