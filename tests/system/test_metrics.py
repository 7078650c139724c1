"""/-/metrics and the history of a real store with two fronts, against a load that is known to the last byte."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from catalog import history
from catalog.statement import Reader
from codec.histogram import RELATIVE_ERROR
from s3front.metrics.summary import OperationSummary, summarise
from tests.system.conftest import CLEAN_CONFIG, ROOT, TRIVET, Store, own_environment, until
from tests.system.redundancy import with_catalog

TOKEN = "a-token-of-tests"
FRONTS = ("front-1", "front-2")
Samples = dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Two fronts, and a token for who wants to see their figures."""
    made = Store(tmp_path_factory.mktemp("watched"), ("--fronts", "2"), {"TRIVET_METRICS_TOKEN": TOKEN})
    made.start()
    made.client().create_bucket(Bucket="watched")
    yield made
    made.stop()


def scraped(store: Store, *, token: str = TOKEN, accept: str = "") -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(store.endpoint + "/-/metrics", headers={**headers, "Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()  # type: ignore[no-any-return]


def samples(store: Store) -> Samples:
    """Value by name and label values, in the order of the labels' names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in parse_text(scraped(store))
        for sample in family.samples
    }


def samples_of_each_front(store: Store) -> dict[str, Samples]:
    """What each front answers. The one that does has a request in flight: ours."""
    found: dict[str, Samples] = {}
    give_up_at = time.monotonic() + 30
    while set(found) != set(FRONTS):
        assert time.monotonic() < give_up_at, f"only {list(found)} answer"
        told = samples(store)
        busy = [name for name in FRONTS if told.get(("trivet_requests_in_flight", name)) == 1]
        if len(busy) == 1:
            found[busy[0]] = told
    return found


def counted(told: Samples) -> Samples:
    """What the S3 operations come to; the scrapes themselves and what the supervisor asks are left out."""
    names = ("trivet_requests_total", "trivet_request_bytes_total", "trivet_response_bytes_total")
    return {
        key: value
        for key, value in told.items()
        if (key[0] in names or key[0] == "trivet_request_seconds_count") and key[1] not in ("Admin", "Health")
    }


def risen(before: Samples, after: Samples) -> Samples:
    rises = {key: value - before.get(key, 0) for key, value in after.items()}
    return {key: rise for key, rise in rises.items() if rise}


def refused(call: Callable[[], Any]) -> int:
    """The status of an S3 call that fails."""
    with pytest.raises(ClientError) as failure:
        call()
    return int(failure.value.response["ResponseMetadata"]["HTTPStatusCode"])


def read_whole(client: Any, at: dict[str, str]) -> bytes:
    return client.get_object(**at)["Body"].read()  # type: ignore[no-any-return]


class Load:
    """Requests over connections of their own, so that both fronts get some; how long each operation took, as the
    client saw it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.seconds: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def timed(self, operation: str, call: Callable[[], Any]) -> Any:
        began_s = time.perf_counter()
        try:
            return call()
        finally:
            with self._lock:
                self.seconds.setdefault(operation, []).append(time.perf_counter() - began_s)

    def run(self, workers: int, work: Callable[[Any, int], None] | None = None) -> None:
        """`work` gets a client of its own and the number of its worker. Raises what they raise."""
        with ThreadPoolExecutor(workers) as threads:
            list(threads.map(partial(self._worker, work or self._all_kinds), range(workers)))

    def _worker(self, work: Callable[[Any, int], None], number: int) -> None:
        client = self._store.unmanaged_client(CLEAN_CONFIG)
        try:
            work(client, number)
        finally:
            client.close()

    def _all_kinds(self, client: Any, number: int) -> None:
        at = {"Bucket": "watched", "Key": f"load-{number}"}
        for _ in range(5):
            self.timed("PutObject", lambda: client.put_object(**at, Body=b"x" * 3000))
            self.timed("GetObject", lambda: read_whole(client, at))
        client.get_object(**at, Range="bytes=10-19")["Body"].read()
        client.head_object(**at)
        assert refused(lambda: client.head_object(Bucket="watched", Key="none")) == 404
        assert refused(lambda: client.put_object(**at, Body=b"late", IfNoneMatch="*")) == 412
        client.delete_object(**at)


WORKERS = 8
EXACTLY: Samples = {
    ("trivet_requests_total", "PutObject", "200"): 5 * WORKERS,
    ("trivet_requests_total", "PutObject", "412"): WORKERS,
    ("trivet_requests_total", "GetObject", "200"): 5 * WORKERS,
    ("trivet_requests_total", "GetObject", "206"): WORKERS,
    ("trivet_requests_total", "HeadObject", "200"): WORKERS,
    ("trivet_requests_total", "HeadObject", "404"): WORKERS,
    ("trivet_requests_total", "DeleteObject", "204"): WORKERS,
    ("trivet_request_seconds_count", "PutObject"): 6 * WORKERS,
    ("trivet_request_seconds_count", "GetObject"): 6 * WORKERS,
    ("trivet_request_seconds_count", "HeadObject"): 2 * WORKERS,
    ("trivet_request_seconds_count", "DeleteObject"): WORKERS,
    ("trivet_response_bytes_total", "GetObject"): (5 * 3000 + 10) * WORKERS,
}


def test_counts_and_bytes_are_exact_whichever_front_answers(watched: Store) -> None:
    """Red when a front tells its own figures only, when a HEAD's length counts as sent, and when the framing of
    signed chunks or a refused body counts as received.
    """
    before = counted(samples(watched))
    Load(watched).run(WORKERS)
    for front, told in samples_of_each_front(watched).items():
        rise = risen(before, counted(told))
        received = rise.pop(("trivet_request_bytes_total", "PutObject"))
        # Whether a body is read before If-None-Match refuses it is the handler's matter.
        assert received in (5 * 3000 * WORKERS, (5 * 3000 + 4) * WORKERS), front
        refusals = rise.pop(("trivet_response_bytes_total", "PutObject"))
        assert 100 * WORKERS < refusals < 1000 * WORKERS, "the XML of the 412s"
        assert rise == EXACTLY, front


def test_multipart_and_chunked_bodies_count_their_payload(watched: Store) -> None:
    """Red when aws-chunked bodies count with their framing, and when an answer in several pieces counts the first."""
    client, at = watched.client(), {"Bucket": "watched", "Key": "large"}
    part = b"p" * (5 << 20)
    before = counted(samples(watched))
    upload = client.create_multipart_upload(**at)["UploadId"]
    parts = []
    for number in (1, 2):
        made = client.upload_part(**at, UploadId=upload, PartNumber=number, Body=part)
        parts.append({"PartNumber": number, "ETag": made["ETag"]})
    client.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": parts})
    assert client.get_object(**at)["Body"].read() == part * 2
    rise = risen(before, counted(samples(watched)))
    assert rise["trivet_request_bytes_total", "UploadPart"] == 2 * len(part)
    assert rise["trivet_response_bytes_total", "GetObject"] == 2 * len(part)
    assert rise["trivet_requests_total", "CompleteMultipartUpload", "200"] == 1


def test_refusals_count_where_they_belong(watched: Store) -> None:
    """Red when an anonymous request counts for no operation, and when what is none of S3's is not counted at all."""
    before = counted(samples(watched))
    for path, status in (("/watched/key", 403), ("/watched/key?delete", 405), ("/watched/../../key", 400)):
        with pytest.raises(urllib.error.HTTPError) as failure:
            urllib.request.urlopen(watched.endpoint + path, timeout=10)
        failure.value.close()
        assert failure.value.code == status
    rise = {
        key: n
        for key, n in risen(before, counted(samples(watched))).items()
        if "total" in key[0] and len(key) == 3
    }
    assert rise == {
        ("trivet_requests_total", "GetObject", "403"): 1,
        ("trivet_requests_total", "Refused", "405"): 1,
        ("trivet_requests_total", "Refused", "400"): 1,
    }


def test_a_client_that_leaves_counts_as_one_that_left(watched: Store) -> None:
    """Red when the answer counts with the status that its head carried: a success that nobody saw the end of."""
    client = watched.client(config=Config(signature_version="s3v4"))
    client.put_object(Bucket="watched", Key="long", Body=b"l" * (24 << 20))
    before = samples(watched)
    url = urlsplit(client.generate_presigned_url("get_object", {"Bucket": "watched", "Key": "long"}))
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
        connection.sendall(f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
        assert connection.recv(12) == b"HTTP/1.1 200"
    left = ("trivet_requests_total", "GetObject", "499")
    until(lambda: samples(watched).get(left, 0) == before.get(left, 0) + 1, "it counts as 499")
    assert "GetObject" not in {key[1] for key in risen(before, samples(watched)) if key[-1] == "200"}


def test_counters_do_not_fall_when_a_front_is_killed(watched: Store) -> None:
    """Red when a front begins with an empty file: the rate of every operation would be a spike."""
    Load(watched).run(2)
    before = counted(samples(watched))
    killed = watched.pids()["front-1"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: watched.pids().get("front-1", killed) != killed, "the front runs again")
    for front, told in samples_of_each_front(watched).items():
        now = counted(told)
        assert {
            key: (value, now.get(key)) for key, value in before.items() if now.get(key, 0) < value
        } == {}, front
    bucket = watched.client()
    bucket.put_object(Bucket="watched", Key="after", Body=b"a")
    puts = ("trivet_requests_total", "PutObject", "200")
    assert samples(watched)[puts] == before[puts] + 1


def test_a_frozen_node_does_not_hold_up_a_scrape(watched: Store) -> None:
    """Red when a scrape asks the nodes one after the other without a deadline, or fails with one that is silent."""
    pid = watched.pids()["node-2"]
    os.kill(pid, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        told = samples(watched)
        took_s = time.monotonic() - began_s
    finally:
        os.kill(pid, signal.SIGCONT)
    up = {key[1]: value for key, value in told.items() if key[0] == "trivet_node_up"}
    assert up == {"node-1": 1, "node-2": 0, "node-3": 1}
    assert ("trivet_node_blocks", "node-2") not in told
    assert told["trivet_node_blocks", "node-1"] > 0
    assert took_s < 3.0
    until(lambda: samples(watched)["trivet_node_up", "node-2", *_place(told)] == 1, "it is up again")


def _place(told: Samples) -> tuple[str, str]:
    (place,) = [key[2:] for key in told if key[:2] == ("trivet_node_up", "node-2")]
    return place[0], place[1]


def test_scrapes_need_the_token(watched: Store) -> None:
    """Red when a token that begins alike, or none, is let in."""
    for token in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper()):
        with pytest.raises(urllib.error.HTTPError) as failure:
            scraped(watched, token=token)
        failure.value.close()
        assert failure.value.code == 401
        assert failure.value.headers["www-authenticate"].startswith("Bearer")
    assert "trivet_build_info" in scraped(watched)


def test_a_token_that_no_header_carries_is_refused_before_anything_is_created(tmp_path: Path) -> None:
    """Red when only the fronts look at it: the store would start without them."""
    finished = subprocess.run(
        [*TRIVET, "up", "--port", "0", "--data", str(tmp_path / "data")],
        cwd=ROOT,
        env=own_environment({"TRIVET_METRICS_TOKEN": "two words"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 78
    assert "TRIVET_METRICS_TOKEN" in finished.stderr
    assert "two words" not in finished.stderr
    assert not (tmp_path / "data").exists()


def test_the_text_is_what_prometheus_reads(watched: Store) -> None:
    """Red when a family is told twice or a name has two kinds; no secret is in it, and what an alert is made of is."""
    text = scraped(watched)
    # What OpenMetrics calls an info is a gauge here.
    families = {family.name.removesuffix("_info"): family for family in parse_text(text)}
    openmetrics = scraped(watched, accept="application/openmetrics-text; version=1.0.0")
    assert openmetrics.endswith("# EOF\n")
    told = {family.name for family in parse_openmetrics(openmetrics)}  # type: ignore[no-untyped-call]
    assert told == set(families)
    assert watched.secret_key not in text
    assert TOKEN not in text
    assert (watched.data / "cluster.secret").read_text().strip() not in text
    for name in (
        "trivet_objects_below_full_redundancy",
        "trivet_node_sync_seconds",
        "trivet_catalog_commit_seconds",
        "trivet_catalog_writes_waiting",
        "trivet_garbage_objects",
        "trivet_catalog_free_bytes",
        "trivet_steward_present",
        "trivet_process_cpu_seconds",
    ):
        assert families[name].samples, name
    processes = {sample.labels["process"] for sample in families["trivet_process_cpu_seconds"].samples}
    assert processes == set(watched.pids())


# -- the history -----------------------------------------------------------------------------------------------


def kept(store: Store) -> dict[str, OperationSummary]:
    """The summary of all that the catalog's history has, by operation."""

    def read(reader: Reader) -> list[OperationSummary]:
        return summarise(history.read(reader, 0, 1 << 60))

    told = with_catalog(store, lambda catalog: catalog.read(read))
    return {summary.operation: summary for summary in told}


def test_the_history_follows_within_seconds_and_is_whole_after_a_stop(watched: Store) -> None:
    """Red when fronts flush only as they stop (what a crash loses must be bounded) or not as they stop, when two
    fronts overwrite each other's rows, and when times are longer than what the client saw.
    """

    def copy(client: Any, number: int) -> None:
        target = {"Bucket": "watched", "Key": f"copy-{number}"}
        for _ in range(5):
            load.timed("CopyObject", lambda: client.copy_object(**target, CopySource="watched/source"))

    def list_all(client: Any, _number: int) -> None:
        client.list_objects_v2(Bucket="watched")
        assert refused(lambda: client.list_objects_v2(Bucket="watched", ContinuationToken="none")) == 400

    watched.client().put_object(Bucket="watched", Key="source", Body=b"s" * 100)
    load = Load(watched)
    load.run(WORKERS, copy)
    until(lambda: "CopyObject" in kept(watched), "the history has something", 12.0)
    until(lambda: kept(watched)["CopyObject"].count == 5 * WORKERS, "it has what each front did", 12.0)
    load.run(WORKERS, list_all)
    assert watched.stop() == 0
    assert not (watched.data / "run" / "metrics").exists()
    summaries = kept(watched)
    listed, copied = summaries["ListObjectsV2"], summaries["CopyObject"]
    assert (listed.count, listed.by_status) == (2 * WORKERS, {200: WORKERS, 400: WORKERS})
    assert (listed.errors, listed.success_rate) == (0, 1.0)
    assert (copied.count, copied.by_status) == (5 * WORKERS, {200: 5 * WORKERS})
    # Each request took the front less than its client: so the one's figures are below the other's, rank by rank.
    seen_ms = sorted(1000 * seconds for seconds in load.seconds["CopyObject"])
    assert 0 < copied.mean_ms < sum(seen_ms) / len(seen_ms)
    for told_ms, share in ((copied.p50_ms, 0.50), (copied.p95_ms, 0.95), (copied.max_ms, 1.0)):
        assert 0 < told_ms <= seen_ms[math.ceil(len(seen_ms) * share) - 1] * (1 + RELATIVE_ERROR)
