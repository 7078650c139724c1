"""Today's code on data of an older release, and its refusal of data of a newer one (S25).

`v0.1.0.tar.xz` is the data directory that release 0.1.0 left after a clean stop (catalog schema 0004, wire protocol up
to 2), without what a start makes anew (indexes, sockets) and with its nodes' addresses made neutral. In it, by an
ordinary S3 client: bucket `plain` (twelve small objects with metadata and a tag, one encrypted with SSE-S3, one of two
parts, an open upload, a lifecycle rule), `versioned` (three versions and a delete marker) and `locked` (a COMPLIANCE
version). The secrets in it are of nobody.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pysqlite3.dbapi2 as sqlite
import pytest
from botocore.exceptions import ClientError

from catalog import schema
from tests.system.conftest import ROOT, TRIVET, WITH_US, Store, own_environment

ARCHIVE = Path(__file__).with_name("v0.1.0.tar.xz")
KEYS = {
    "TRIVET_ROOT_ACCESS_KEY": "upgrade-test",
    "TRIVET_ROOT_SECRET_KEY": "not-a-secret-of-anybody",
    "TRIVET_SEGMENT_BYTES": "65536",
}


def body(number: int, size: int) -> bytes:
    """What was stored."""
    return (hashlib.sha256(str(number).encode()).digest() * (size // 32 + 1))[:size]


def unpacked(folder: Path) -> Path:
    data = folder / "data"
    data.mkdir(mode=0o700)
    with tarfile.open(ARCHIVE) as archive:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and newer
            archive.extraction_filter = staticmethod(tarfile.data_filter)
        archive.extractall(data)
    (data / "cluster.secret").chmod(0o600)
    return data


@pytest.fixture
def old_store(tmp_path: Path) -> Iterator[Store]:
    unpacked(tmp_path)
    store = Store(tmp_path, environment=KEYS)
    store.start()
    try:
        yield store
    finally:
        store.stop()


def test_everything_is_there_and_more_can_be_written(old_store: Store) -> None:
    """Read, then written to, then read again after one more start."""
    s3 = old_store.client()
    for number in range(12):
        got = s3.get_object(Bucket="plain", Key=f"small/{number}")
        assert got["Body"].read() == body(number, 700 * number + 1)
        assert got["Metadata"] == {"number": str(number)}
        assert got["TagCount"] == 1
    assert s3.get_object(Bucket="plain", Key="sealed")["Body"].read() == body(300, 70_000)
    assert s3.get_object(Bucket="plain", Key="parts")["Body"].read() == bytes(5 << 20) + b"end"
    assert [upload["Key"] for upload in s3.list_multipart_uploads(Bucket="plain")["Uploads"]] == ["open"]
    assert s3.get_bucket_lifecycle_configuration(Bucket="plain")["Rules"][0]["ID"] == "r"

    listed = s3.list_object_versions(Bucket="versioned")
    assert [marker["IsLatest"] for marker in listed["DeleteMarkers"]] == [True]
    found = [
        s3.get_object(Bucket="versioned", Key="doc", VersionId=version["VersionId"])["Body"].read()
        for version in listed["Versions"]
    ]
    assert found == [body(number, 3000) for number in (102, 101, 100)]

    (kept,) = s3.list_object_versions(Bucket="locked")["Versions"]
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket="locked", Key="kept", VersionId=kept["VersionId"])
    assert s3.get_object(Bucket="locked", Key="kept")["Body"].read() == body(200, 500)

    s3.put_object(Bucket="plain", Key="new", Body=b"of today")
    s3.delete_object(Bucket="plain", Key="small/0")
    old_store.stop()
    old_store.start()
    s3 = old_store.client()
    assert s3.get_object(Bucket="plain", Key="new")["Body"].read() == b"of today"
    assert s3.list_objects_v2(Bucket="plain", Prefix="small/")["KeyCount"] == 11


def start_of(data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*WITH_US, *TRIVET, "up", "--data", str(data), "--port", "0"],
        cwd=ROOT,
        env=own_environment(KEYS),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_newer_catalog_is_refused(tmp_path: Path) -> None:
    """And stays as it was."""
    data = unpacked(tmp_path)
    connection = sqlite.connect(str(data / "catalog.sqlite"), isolation_level=None)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    ended = start_of(data)
    assert ended.returncode == 78
    assert "newer Trivet" in ended.stderr
    connection = sqlite.connect(str(data / "catalog.sqlite"))
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    connection.close()
    assert schema.HEAD_REVISION < "9999"


def test_newer_nodes_are_refused(tmp_path: Path) -> None:
    """A node that does not know the format of its directory, which stands for that of its segments, starts on none of
    it, says so, and changes nothing."""
    data = unpacked(tmp_path)
    for path in data.glob("node-*/node.json"):
        identity = msgspec.json.decode(path.read_bytes())
        path.write_bytes(msgspec.json.encode({**identity, "format": 99}))
    before = {path: path.read_bytes() for path in data.glob("node-*/segments/*.seg")}
    ended = start_of(data)
    assert ended.returncode == 78
    assert "format" in ended.stderr
    assert {path: path.read_bytes() for path in before} == before
