"""P2 and P3 seen by an S3 client: nodes die and freeze, requests go on, nothing is lost, the store heals."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from catalog import work
from conformance.bench.load import LoadPlan, LoadResult, run_in_process
from tests.system.conftest import Store, is_running, until
from tests.system.redundancy import below_full_redundancy, with_catalog

BUCKET = "failures"
MIB = 1 << 20
NODES = ("node-1", "node-2", "node-3")
PATIENT = {"TRIVET_SILENCE_S_MAX": "600"}
"""So that the supervisor leaves frozen processes alone: how long a node is away is for the test to say."""


def body_of(name: str, size: int) -> bytes:
    block = hashlib.shake_128(name.encode()).digest(65_521)
    return (block * (size // len(block) + 1))[:size]


SIZES = {"empty": 0, "tiny": 17, "small": 4096, "medium": 300_001, "stripes": 3 * MIB + 5}


@contextmanager
def frozen(store: Store, *names: str) -> Iterator[None]:
    """These processes stand still within the block."""
    pids = [store.pids()[name] for name in names]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def dead(store: Store, *names: str) -> Iterator[None]:
    """These processes are killed, and the supervisor can't start them again before the end of the block."""
    with frozen(store, "supervisor"):
        for name in names:
            pid = store.pids()[name]
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: not is_running(pid), f"{name} is gone")  # type: ignore[misc]
        yield
    until(lambda: set(names) <= store.pids().keys(), f"{names} are back")


AWAY = {"dead": dead, "frozen": frozen}


def put_all(client: Any, prefix: str) -> None:
    for name, size in SIZES.items():
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=body_of(name, size))
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}/parts")["UploadId"]
    parts = []
    for number, size in ((1, 5 * MIB), (2, MIB + 3)):
        part = client.upload_part(
            Bucket=BUCKET,
            Key=f"{prefix}/parts",
            UploadId=upload,
            PartNumber=number,
            Body=body_of(f"part {number}", size),
        )
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    client.complete_multipart_upload(
        Bucket=BUCKET, Key=f"{prefix}/parts", UploadId=upload, MultipartUpload={"Parts": parts}
    )


def check_all(client: Any, prefix: str) -> None:
    for name, size in SIZES.items():
        body = client.get_object(Bucket=BUCKET, Key=f"{prefix}/{name}")["Body"].read()
        assert body == body_of(name, size), name
    body = client.get_object(Bucket=BUCKET, Key=f"{prefix}/parts")["Body"].read()
    assert body == body_of("part 1", 5 * MIB) + body_of("part 2", MIB + 3)


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store whose nodes come and go; each test leaves all of them running."""
    store = Store(tmp_path_factory.mktemp("failing"), (), PATIENT)
    store.start()
    store.client().create_bucket(Bucket=BUCKET)
    yield store
    store.stop()


def connected(store: Store) -> Callable[[], bool]:
    """Whether a write finds all three nodes again."""
    return lambda: not below_full_redundancy(store)


def mttr(store: Store, seen: int) -> str:
    """From the detection of the last failure to full redundancy, as the steward noted it after `seen` others."""
    until(lambda: len(restored(store)) > seen, "the steward noted that redundancy is restored", 10.0)
    return restored(store)[-1]


def restored(store: Store) -> list[str]:
    events = with_catalog(store, lambda catalog: catalog.read(work.list_events))
    return [event.detail for event in events if event.kind == "redundancy-restored"]


@pytest.mark.parametrize("how", AWAY)
@pytest.mark.parametrize("away", NODES)
def test_p2_what_is_written_without_a_node_survives_the_loss_of_either_other(
    failing: Store, away: str, how: str
) -> None:
    """Red when a degraded write stores each shard once (two of three nodes, one shard each)."""
    client = failing.client()
    prefix = f"{how}-{away}"
    seen = len(restored(failing))
    put_all(client, f"before-{prefix}")
    with AWAY[how](failing, away):
        put_all(client, prefix)
        check_all(client, prefix)
        check_all(client, f"before-{prefix}")
    until(connected(failing), "the store is whole again", 60.0)
    print(f"MTTR with {away} {how}: {mttr(failing, seen)}")
    for other in NODES:
        with frozen(failing, other):
            check_all(client, prefix)
            check_all(client, f"before-{prefix}")


def test_p2_a_second_node_may_go_before_the_first_has_come_back(failing: Store) -> None:
    """What was written without node-1 is read from either of the other two alone; a write then is refused and changes
    nothing, and everything goes on when a node is back."""
    client = failing.client()
    for other in ("node-2", "node-3"):
        with frozen(failing, "node-1"):
            put_all(client, f"degraded-{other}")
            with frozen(failing, other):
                check_all(client, f"degraded-{other}")
                with pytest.raises(ClientError) as refused:
                    client.put_object(Bucket=BUCKET, Key=f"degraded-{other}/tiny", Body=b"refused")
                assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
            check_all(client, f"degraded-{other}")
            until(lambda: can_write(client, f"degraded-{other}/again"), "writes pass again", 5.0)  # noqa: B023
    until(connected(failing), "the store is whole again", 60.0)


def can_write(client: Any, key: str) -> bool:
    try:
        client.put_object(Bucket=BUCKET, Key=key, Body=b"again")
    except ClientError:
        return False
    return True


def load(store: Store, method: str, seconds: float) -> LoadResult:
    """16 clients on 4 KiB objects; any answer but 200 fails the test."""
    url = urlsplit(store.endpoint)
    plan = LoadPlan(
        host=url.hostname or "",
        port=url.port or 0,
        method=method,
        bucket=BUCKET,
        key_count=64,
        object_bytes=4096,
        clients=16,
        seconds=seconds,
        access_key=store.access_key,
        secret_key=store.secret_key,
    )
    return run_in_process(plan)


@pytest.mark.parametrize("away", ["node-1", pytest.param("node-2", marks=pytest.mark.long)])
def test_a_node_that_freezes_under_load_delays_little_and_fails_nothing(failing: Store, away: str) -> None:
    """From the first second on: GET p99 below five times the healthy one, PUT p99 below 100 ms, no request fails.

    Figures are noisy on a busy machine, so the bounds leave room upwards, but not for a time-out (1 s and more).
    """
    load(failing, "PUT", 0.5)
    for method, bound_ms in (("GET", 50.0), ("PUT", 100.0)):
        healthy = load(failing, method, 1.5)
        pid = failing.pids()[away]
        freezer = threading.Timer(0.5, os.kill, (pid, signal.SIGSTOP))
        freezer.start()
        try:
            stricken = load(failing, method, 3.5)
        finally:
            freezer.join()
            os.kill(pid, signal.SIGCONT)
        print(
            f"{method}: p99 {healthy.percentile_ms(0.99):.1f} ms, {stricken.percentile_ms(0.99):.1f} ms with"
            f" {away} frozen, at most {stricken.percentile_ms(1.0):.0f} ms;"
            f" {healthy.per_second:.0f}/s, {stricken.per_second:.0f}/s"
        )
        assert stricken.percentile_ms(0.99) < max(5 * healthy.percentile_ms(0.99), bound_ms)
        assert stricken.percentile_ms(1.0) < 1000
        until(connected(failing), "the store is whole again", 60.0)
