"""P4 over several front processes: what one has acknowledged, every other one shows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.system.conftest import Store

FRONTS = 3
ROUNDS = 40
INCREMENTS = 25


@pytest.fixture
def clients(new_store: Callable[..., Store]) -> Iterator[list[Any]]:
    """One client a front: each keeps a single connection, and the answers tell which process is behind it."""
    store = new_store(("--fronts", str(FRONTS)))
    store.start()
    by_front: dict[str, Any] = {}
    for _ in range(200):
        client = store.client(config=Config(max_pool_connections=1))
        host_id = client.list_buckets()["ResponseMetadata"]["HostId"]
        by_front.setdefault(host_id, client)
        if len(by_front) == FRONTS:
            break
    assert len(by_front) == FRONTS, "the connections never reached every front"
    yield list(by_front.values())
    store.stop()


def test_p4_every_front_shows_what_any_front_acknowledged(clients: list[Any]) -> None:
    """Went red with cached buckets kept across a change (a deleted one lived on in other fronts)."""
    order = random.Random(4)
    clients[0].create_bucket(Bucket="shared")
    for number in range(ROUNDS):
        writer = order.choice(clients)
        body = b"round %d" % number
        writer.put_object(Bucket="shared", Key="key", Body=body)
        for reader in clients:
            assert reader.get_object(Bucket="shared", Key="key")["Body"].read() == body
        order.choice(clients).delete_object(Bucket="shared", Key="key")
        for reader in clients:
            assert "Contents" not in reader.list_objects_v2(Bucket="shared")
        bucket = f"bucket-{number}"
        order.choice(clients).create_bucket(Bucket=bucket)
        for reader in clients:
            reader.head_bucket(Bucket=bucket)
        order.choice(clients).delete_bucket(Bucket=bucket)
        for reader in clients:
            with pytest.raises(ClientError) as caught:
                reader.list_objects_v2(Bucket=bucket)
            assert caught.value.response["Error"]["Code"] == "NoSuchBucket"


def test_p4_no_compare_and_swap_is_lost_between_fronts(clients: list[Any]) -> None:
    clients[0].create_bucket(Bucket="swap")
    clients[0].put_object(Bucket="swap", Key="counter", Body=b"0")

    def increment(client: Any) -> int:
        refused = 0
        done = 0
        while done < INCREMENTS:
            current = client.get_object(Bucket="swap", Key="counter")
            following = b"%d" % (int(current["Body"].read()) + 1)
            try:
                client.put_object(Bucket="swap", Key="counter", Body=following, IfMatch=current["ETag"])
                done += 1
            except ClientError as error:
                if error.response["Error"]["Code"] != "PreconditionFailed":
                    raise
                refused += 1
        return refused

    with ThreadPoolExecutor(FRONTS) as threads:
        refused = sum(threads.map(increment, clients))
    assert clients[0].get_object(Bucket="swap", Key="counter")["Body"].read() == b"%d" % (FRONTS * INCREMENTS)
    assert refused > 0, "the fronts never met: this run proves nothing"
