"""`trivet object where|of` and `trivet verify` beside a running store: objects that are whole, and damaged ones."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.compose.in_process import Done
from tests.system.conftest import ROOT, TRIVET, WITH_US, Store, is_running, own_environment, until
from tests.system.redundancy import below_full_redundancy

MIB = 1 << 20
PART = 5 * MIB


def body_of(number: int, size: int) -> bytes:
    return hashlib.shake_128(b"where %d" % number).digest(size)


def trivet(store: Store, *words: str) -> Done:
    return store.trivet(*words)


def told(store: Store, *words: str, code: int = 0) -> Any:
    """What a command answers as JSON, with that exit code."""
    done = trivet(store, *words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def admin(store: Store, path: str) -> Any:
    """What the admin API answers to the root key."""
    request = AWSRequest("GET", f"{store.endpoint}/-/admin/v1{path}")
    S3SigV4Auth(Credentials(store.access_key, store.secret_key), "s3", "us-east-1").add_auth(request)
    signed = urllib.request.Request(request.url, headers=dict(request.headers.items()))
    with urllib.request.urlopen(signed, timeout=30) as answer:
        return json.load(answer)


def upload(store: Store, bucket: str, key: str, parts: int) -> None:
    client = store.client()
    upload_id = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    made = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(
                Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body_of(number, PART)
            )["ETag"],
        }
        for number in range(1, parts + 1)
    ]
    client.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": made}
    )


def test_whole_objects_are_drawn_and_verified(store: Store) -> None:
    """Command line and admin API say the very same. Red when the command asked for the blocks without reading them
    (deep) and when a multipart object was shown without its parts."""
    client = store.client()
    client.create_bucket(Bucket="where")
    client.put_object(Bucket="where", Key="dir/a b+ü.bin", Body=body_of(0, 3 * MIB + 1), Metadata={"x": "y"})
    client.put_object(Bucket="where", Key="empty", Body=b"")
    upload(store, "where", "multi", 2)
    report = told(store, "object", "where", "where/dir/a b+ü.bin")
    assert report == admin(store, "/objects/where/dir/a%20b%2B%C3%BC.bin")
    (run,) = report["blob"]["runs"]
    assert [copy["ok"] for copy in run["copies"]] == [4, 4, 4]
    assert len({copy["region"] for copy in run["copies"]}) == 3
    assert report["survives"] == {
        "readable": True,
        "nodes_lost_max": 1,
        "any_region": True,
        "basis": "verified",
    }
    assert report["version"]["etag"] == hashlib.md5(body_of(0, 3 * MIB + 1)).hexdigest()
    multi = told(store, "object", "where", "s3://where/multi")
    assert multi == admin(store, "/objects/where/multi")
    assert [part["number"] for part in multi["parts"]] == [1, 2]
    blob = multi["parts"][1]["blob"]["blob"]
    found = told(store, "object", "of", blob)
    assert [(use["key"], use["part"]) for use in found["uses"]] == [("multi", 2)]
    assert found["lies"] == multi["parts"][1]["blob"]
    assert admin(store, f"/blobs/{blob}") == found
    drawn = trivet(store, "object", "where", "where/dir/a b+ü.bin").stdout
    for words in ("data 0", "parity 2", "node-3", "eu-west-1", "■■■■ 4 ok", "any 1 node", "may be lost"):
        assert words in drawn
    assert "it is empty" in trivet(store, "object", "where", "where/empty").stdout
    assert "multi, part 2" in trivet(store, "object", "of", blob, "--no-verify").stdout
    walked = told(store, "verify", "where")
    assert (walked["whole"], walked["complete"], walked["blobs"], walked["blocks"]) == (True, True, 3, 3 * 14)
    assert "all of it is whole" in trivet(store, "verify", "where").stdout


def test_what_is_not_there_is_refused_in_words(store: Store) -> None:
    for words in (
        ("object", "where", "no-such-bucket/key"),
        ("object", "where", "bucket-alone"),
        ("object", "of", "0" * 32),
        ("object", "of", "xyz"),
        ("verify", "no-such-bucket"),
    ):
        done = trivet(store, *words)
        assert done.returncode == 1, words
        assert done.stderr.startswith("trivet: "), done.stderr
        assert "Traceback" not in done.stderr


def flip(store: Store, node: str, needle: bytes) -> None:
    """One bit of a block on the disk of a node that notices nothing."""
    for path in sorted((store.data / node / "segments").glob("*.seg")):
        at = path.read_bytes().find(needle)
        if at >= 0:
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([needle[0] ^ 1]))
            return
    raise AssertionError(f"{node} has no such bytes")


def holder(report: Any, shard: int) -> str:
    return str(report["blob"]["runs"][0]["copies"][shard]["node"])


@pytest.mark.long
def test_damage_is_located_named_and_healed(new_store: Callable[..., Store]) -> None:
    """From a flipped bit to the object's name and back to whole; then an object that can't be saved, whose event
    leads to its name; then a node whose data is gone. Red when a corrupt block counted as one that is there, and
    when the exit code was 0 for a store with a bad block."""
    store = new_store()
    store.start()
    client = store.client()
    client.create_bucket(Bucket="where")
    for number in range(6):
        client.put_object(Bucket="where", Key=f"k{number}", Body=body_of(number, 40_000 + number))
    body = body_of(0, 3 * MIB)
    client.put_object(Bucket="where", Key="large", Body=body)
    report = told(store, "object", "where", "where/large")
    flip(store, holder(report, 1), body[MIB + MIB // 2 :][:64])  # of the second stripe
    report = told(store, "object", "where", "where/large", code=1)
    ranges = report["blob"]["runs"][0]["copies"][1]["ranges"]
    assert [(one["first_stripe"], one["state"]) for one in ranges] == [(0, "ok"), (1, "corrupt"), (2, "ok")]
    assert report == admin(store, "/objects/where/large")
    assert "■✗■" in trivet(store, "object", "where", "where/large").stdout
    # The node saw it itself when it was asked, and so a repair may be faster than we are.
    walked = trivet(store, "verify", "--json")
    if walked.returncode:
        (bad,) = json.loads(walked.stdout)["objects"]
        assert (bad["bucket"], bad["key"], bad["condition"], bad["corrupt"]) == (
            "where",
            "large",
            "reduced",
            1,
        )
    until(lambda: not below_full_redundancy(store), "the block is healed")
    assert told(store, "verify")["whole"]
    assert told(store, "object", "where", "where/large")["survives"]["nodes_lost_max"] == 1

    small = body_of(3, 40_003)
    lies = told(store, "object", "where", "where/k3")
    flip(store, holder(lies, 0), small[:64])
    flip(store, holder(lies, 1), small[-64:])
    walked = told(store, "verify", code=1)
    assert [(one["key"], one["condition"]) for one in walked["objects"]] == [("k3", "unreadable")]
    until(lambda: any(_unreadable(store)), "the steward gives it up and says so")
    (blob,) = _unreadable(store)
    found = told(store, "object", "of", blob, code=1)
    assert [use["key"] for use in found["uses"]] == ["k3"]
    assert not found["lies"]["survives"]["readable"]
    client.delete_object(Bucket="where", Key="k3")

    pid = store.pids()["node-2"]
    shutil.rmtree(store.data / "node-2")
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_running(pid), "the node is gone")
    walked = told(store, "verify", code=1)
    assert walked["silent_nodes"] == ["node-2"]
    assert (walked["unreadable_blobs"], walked["missing"]) == (0, 0)
    assert walked["unanswered"] == walked["blobs"] + 2  # all have one stripe but the large one
    lies = told(store, "object", "where", "where/k1", code=1)
    silent = [copy for copy in lies["blob"]["runs"][0]["copies"] if not copy["connected"]]
    assert [(copy["node"], copy["unanswered"]) for copy in silent] == [("node-2", 1)]
    assert "can be read; the loss of one node more" in trivet(store, "object", "where", "where/k1").stdout

    _interrupted(store)
    store.stop()
    refused = trivet(store, "verify")
    assert (refused.returncode, "no storage node answers" in refused.stderr) == (1, True)
    assert trivet(store, "object", "where", "where/k1", "--no-verify").returncode == 0


def _unreadable(store: Store) -> list[str]:
    return [
        event["detail"].partition(":")[0]
        for event in told(store, "events")
        if event["kind"] == "blob-unreadable"
    ]


def _interrupted(store: Store) -> None:
    """Ctrl-C in the middle of a slow walk, once its bar shows that something was looked at: what was seen is told, and
    it is no success. Red when the limit let a whole page pass at once."""
    ours, theirs = pty.openpty()
    walking = subprocess.Popen(
        [*WITH_US, *TRIVET, "verify", "--bytes-per-s", "70000", "--data", str(store.data)],
        cwd=ROOT,
        env=own_environment({"TERM": "xterm", "COLUMNS": "120", **store.place}),
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    shown = b""
    while not re.search(rb"[1-9] % ", shown):
        shown += os.read(ours, 4096)
    walking.send_signal(signal.SIGINT)
    said, _ = walking.communicate(timeout=20)
    os.close(ours)
    assert walking.returncode == 1, said
    assert "ended early" in said
    assert re.match("[1-9] blobs?, ", said)
