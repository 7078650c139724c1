"""Usage and quotas of a real store with two fronts: what boto3, the admin API and the command line see."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.compose.in_process import Done
from tests.system.conftest import Store
from tests.system.test_bad_input import signed_headers

FRONTS = 2


@pytest.fixture(scope="module")
def two_fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("quota"), ("--fronts", str(FRONTS)))
    store.start()
    yield store
    store.stop()


@pytest.fixture(scope="module")
def clients(two_fronts: Store) -> list[Any]:
    """One a front: each keeps a single connection, and the answers tell which process is behind it."""
    by_front: dict[str, Any] = {}
    for _ in range(200):
        client = two_fronts.client(config=Config(max_pool_connections=1))
        by_front.setdefault(client.list_buckets()["ResponseMetadata"]["HostId"], client)
        if len(by_front) == FRONTS:
            break
    assert len(by_front) == FRONTS, "the connections never reached every front"
    return list(by_front.values())


def _run(store: Store, *arguments: str) -> Done:
    return store.trivet(*arguments)


def _told(store: Store, *arguments: str) -> Any:
    done = _run(store, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _refusal(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call()
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def _exchange(store: Store, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    """One signed request to the admin API: status and JSON."""
    extra = {"content-type": "application/json"} if body else {}
    headers = signed_headers(store, method, path, body, extra) | {"Content-Length": str(len(body))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    parts = urlsplit(store.endpoint)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=20) as sock:
        sock.sendall(("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode() + body)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(rest)


def _set_quota(store: Store, bucket: str, quota_bytes: int | None) -> None:
    body = json.dumps({"quota_bytes": quota_bytes}).encode()
    status, told = _exchange(store, "PUT", f"/-/admin/v1/buckets/{bucket}/quota", body)
    assert (status, told["quota_bytes"]) == (200, quota_bytes)


def test_usage_is_the_same_for_all_who_ask(two_fronts: Store, clients: list[Any]) -> None:
    """After puts, an overwrite, a copy, a multipart upload and deletes over both fronts. Red when deletes
    did not count."""
    one, two = clients
    one.create_bucket(Bucket="usage")
    for number in range(10):
        clients[number % 2].put_object(Bucket="usage", Key=f"small/{number}", Body=b"x" * 100)
    two.put_object(Bucket="usage", Key="small/0", Body=b"x" * 1000)
    one.copy_object(Bucket="usage", Key="copy", CopySource="usage/small/0")
    upload = one.create_multipart_upload(Bucket="usage", Key="big")["UploadId"]
    part = two.upload_part(Bucket="usage", Key="big", UploadId=upload, PartNumber=1, Body=b"y" * 70_000)
    shown = _told(two_fronts, "bucket", "show", "usage")
    assert (shown["objects"], shown["bytes"], shown["open_uploads"]) == (11, 9 * 100 + 2 * 1000, 1)
    one.complete_multipart_upload(
        Bucket="usage",
        Key="big",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    keys = [{"Key": f"small/{number}"} for number in range(1, 9)]
    two.delete_objects(Bucket="usage", Delete={"Objects": [*keys, {"Key": "never was"}]})
    one.delete_object(Bucket="usage", Key="small/9")
    shown = _told(two_fronts, "bucket", "show", "usage")
    assert (shown["objects"], shown["versions"], shown["bytes"]) == (3, 3, 2 * 1000 + 70_000)
    assert _exchange(two_fronts, "GET", "/-/admin/v1/buckets/usage") == (200, shown)
    listed = {entry["name"]: entry for entry in _told(two_fronts, "bucket", "list")}
    assert listed["usage"]["bytes"] == shown["bytes"]
    found = _told(two_fronts, "bucket", "recount", "usage")
    assert (found["agrees"], found["corrected"], found["counted"]["bytes"]) == (True, False, 72_000)


def test_concurrent_writers_over_two_fronts_never_overshoot(two_fronts: Store, clients: list[Any]) -> None:
    """As many puts pass as there is room for, and every other one hears QuotaExceeded. Red when the check before the
    body was the only one."""
    clients[0].create_bucket(Bucket="race")
    _told(two_fronts, "bucket", "quota", "race", "20 KB")

    def put(number: int) -> str:
        try:
            clients[number % FRONTS].put_object(Bucket="race", Key=str(number), Body=b"z" * 1000)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "stored"

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(put, range(60)))
    assert (outcomes.count("stored"), outcomes.count("QuotaExceeded")) == (20, 40)
    shown = _told(two_fronts, "bucket", "show", "race")
    assert (shown["objects"], shown["bytes"], shown["quota_bytes"]) == (20, 20_000, 20_000)


def test_every_way_to_grow_is_refused_and_no_way_to_shrink(two_fronts: Store, clients: list[Any]) -> None:
    """Through the front that did not set the quota, at once."""
    one, two = clients
    one.create_bucket(Bucket="limited")
    one.put_object(Bucket="limited", Key="a", Body=b"a" * 6000)
    upload = one.create_multipart_upload(Bucket="limited", Key="big")["UploadId"]
    part = one.upload_part(Bucket="limited", Key="big", UploadId=upload, PartNumber=1, Body=b"b" * 5000)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    _set_quota(two_fronts, "limited", 10_000)
    for grow in (
        lambda: two.put_object(Bucket="limited", Key="b", Body=b"b" * 4001),
        lambda: two.put_object(Bucket="limited", Key="a", Body=b"b" * 10_001),
        lambda: two.copy_object(Bucket="limited", Key="b", CopySource="limited/a"),
        lambda: two.complete_multipart_upload(
            Bucket="limited", Key="big", UploadId=upload, MultipartUpload=parts
        ),
    ):
        assert _refusal(grow) == (403, "QuotaExceeded")
    two.put_object(Bucket="limited", Key="b", Body=b"b" * 4000)
    two.put_object(Bucket="limited", Key="a", Body=b"a" * 5000)
    _set_quota(two_fronts, "limited", 10)
    two.put_object(Bucket="limited", Key="a", Body=b"a" * 4000)
    assert _refusal(lambda: two.put_object(Bucket="limited", Key="a", Body=b"a" * 4001))[1] == "QuotaExceeded"
    two.delete_object(Bucket="limited", Key="b")
    _set_quota(two_fronts, "limited", None)
    two.complete_multipart_upload(Bucket="limited", Key="big", UploadId=upload, MultipartUpload=parts)
    assert _exchange(two_fronts, "GET", "/-/admin/v1/buckets/limited")[1]["bytes"] == 9000


def test_a_body_that_cannot_fit_need_not_be_sent(two_fronts: Store, clients: list[Any]) -> None:
    """The client that waits for 100 Continue hears 403 in its place. Red when only the transaction decided: the answer
    was 100, and all of the body had to come."""
    clients[0].create_bucket(Bucket="early")
    _set_quota(two_fronts, "early", 1 << 20)
    parts = urlsplit(two_fronts.endpoint)
    headers = signed_headers(two_fronts, "PUT", "/early/big", b"", {})
    headers |= {"Expect": "100-continue", "Content-Length": str(1 << 30)}
    lines = ["PUT /early/big HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=20) as sock:
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"<Code>QuotaExceeded</Code>" in answer
    assert b"<QuotaBytes>1048576</QuotaBytes>" in answer


def test_the_command_line_speaks_to_people(two_fronts: Store, clients: list[Any]) -> None:
    """Tables, sizes as people write them, and refusals that say what to do."""
    clients[0].create_bucket(Bucket="words")
    clients[0].put_object(Bucket="words", Key="a", Body=b"a" * 2048)
    done = _run(two_fronts, "bucket", "quota", "words", "1.5 GiB")
    assert (done.returncode, done.stderr) == (0, "")
    assert "quota         1.5 GiB (1,610,612,736 bytes), 0 % used" in done.stdout
    assert "size          2.0 KiB (2,048 bytes)" in _run(two_fronts, "bucket", "show", "words").stdout
    table = _run(two_fronts, "bucket", "list").stdout
    assert "words" in table
    assert "1.5 GiB" in table
    assert "as the books say" in _run(two_fronts, "bucket", "recount", "words").stdout
    assert _told(two_fronts, "bucket", "quota", "words", "none")["quota_bytes"] is None
    for arguments, words in (
        (("show", "nowhere"), "trivet bucket list"),
        (("quota", "words", "ten"), "write it like 10GiB"),
        (("quota", "words", "2000PB"), "at most"),
    ):
        done = _run(two_fronts, "bucket", *arguments)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        assert words in done.stderr
