"""The clients that people use: aws-cli, rclone, rclone mount, a presigned URL; and nodes that freeze or
die.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from botocore.config import Config

from tests.system.conftest import Store, until

MIB = 1 << 20
GET_S_MAX = 1.5
AWS = str(Path(sys.executable).parent / "aws")
needs_rclone = pytest.mark.skipif(shutil.which("rclone") is None, reason="rclone is not installed")
needs_fuse = pytest.mark.skipif(
    shutil.which("fusermount3") is None or not os.access("/dev/fuse", os.R_OK | os.W_OK),
    reason="FUSE is not usable here (fuse3, /dev/fuse)",
)


class Shell:
    """Runs client programs with an environment that knows this store only."""

    def __init__(self, store: Store, home: Path) -> None:
        self.environment = store.client_environment(home)

    def run(self, *command: str) -> str:
        finished = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=240
        )
        assert finished.returncode == 0, f"{command}\n{finished.stdout[-2000:]}\n{finished.stderr[-2000:]}"
        return finished.stdout

    def aws(self, *arguments: str) -> str:
        return self.run(AWS, *arguments)

    def rclone(self, *arguments: str) -> str:
        return self.run("rclone", *arguments)


@pytest.fixture
def shell(store: Store, tmp_path: Path) -> Shell:
    home = tmp_path / "home"
    home.mkdir()
    return Shell(store, home)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of Python's standard library, as files lie on a real disk: a copy, so that nothing
    changes it.
    """
    source = Path(os.__file__).parent
    copy = tmp_path_factory.mktemp("library") / "lib"
    left_out = ("__pycache__", "site-packages", "config-*", "test", "tests", "idlelib", "lib2to3")
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*left_out))
    assert sum(1 for path in copy.rglob("*") if path.is_file()) > 500
    return copy


def same_trees(left: Path, right: Path) -> None:
    finished = subprocess.run(["diff", "-r", left, right], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout[:2000]) == (0, "")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_random(path: Path, size: int, seed: int) -> None:
    random = Random(seed)
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(random.randbytes(min(MIB, size - start)))


def test_aws_s3_cp_of_small_files(shell: Shell, tmp_path: Path) -> None:
    shell.aws("s3", "mb", "s3://aws-cp")
    source = tmp_path / "Grüße & more.txt"
    source.write_text("hello\n")
    shell.aws("s3", "cp", str(source), "s3://aws-cp/folder/")
    assert "folder/Grüße & more.txt" in shell.aws("s3", "ls", "--recursive", "s3://aws-cp")
    assert shell.aws("s3", "cp", "s3://aws-cp/folder/Grüße & more.txt", "-") == "hello\n"
    shell.aws("s3", "mv", "s3://aws-cp/folder/Grüße & more.txt", "s3://aws-cp/moved")
    shell.aws("s3", "rb", "--force", "s3://aws-cp")
    assert "aws-cp" not in shell.aws("s3", "ls")


def test_aws_s3_sync_of_the_standard_library(shell: Shell, library: Path, tmp_path: Path) -> None:
    shell.aws("s3", "mb", "s3://aws-sync")
    shell.aws("s3", "sync", "--only-show-errors", str(library), "s3://aws-sync/lib")
    assert shell.aws("s3", "sync", str(library), "s3://aws-sync/lib") == "", (
        "the second time nothing is left to do"
    )
    shell.aws("s3", "sync", "--only-show-errors", "s3://aws-sync/lib", str(tmp_path / "back"))
    same_trees(library, tmp_path / "back")


@pytest.mark.long
def test_a_file_of_300_mib_through_multipart(shell: Shell, store: Store, tmp_path: Path) -> None:
    shell.aws("s3", "mb", "s3://aws-large")
    write_random(tmp_path / "large", 300 * MIB, seed=300)
    shell.aws("s3", "cp", "--only-show-errors", str(tmp_path / "large"), "s3://aws-large/large")
    assert "-" in store.client().head_object(Bucket="aws-large", Key="large")["ETag"]
    shell.aws("s3", "cp", "--only-show-errors", "s3://aws-large/large", str(tmp_path / "back"))
    assert sha256(tmp_path / "back") == sha256(tmp_path / "large")
    shell.aws("s3", "rb", "--force", "s3://aws-large")


@needs_rclone
def test_rclone_copy_sync_and_check(shell: Shell, library: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(library / "asyncio", tree / "asyncio")
    shutil.copytree(library / "encodings", tree / "encodings")
    write_random(tree / "big", 20 * MIB, seed=20)
    shell.rclone("mkdir", "trivet:rclone")
    shell.rclone("copy", str(tree), "trivet:rclone/tree", "--s3-upload-cutoff", "8M", "--s3-chunk-size", "6M")
    shell.rclone("check", str(tree), "trivet:rclone/tree", "--download")
    (tree / "asyncio" / "tasks.py").unlink()
    (tree / "new").write_text("new")
    shell.rclone("sync", str(tree), "trivet:rclone/tree")
    shell.rclone("check", str(tree), "trivet:rclone/tree")
    shell.rclone("copy", "trivet:rclone/tree", str(tmp_path / "back"))
    same_trees(tree, tmp_path / "back")
    shell.rclone("purge", "trivet:rclone")


@pytest.fixture
def mounted(shell: Shell, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "mount"
    folder.mkdir()
    shell.rclone("mkdir", "trivet:rclone-mount")
    command = ["rclone", "mount", "trivet:rclone-mount", str(folder), "--vfs-cache-mode", "writes"]
    cache = ["--cache-dir", str(tmp_path / "cache"), "--vfs-write-back", "0s", "--dir-cache-time", "0s"]
    with subprocess.Popen([*command, *cache], env=shell.environment, stderr=subprocess.PIPE) as mount:
        until(lambda: os.path.ismount(folder) or mount.poll() is not None, "rclone mount")
        assert mount.poll() is None, mount.stderr.read() if mount.stderr else ""
        yield folder
        subprocess.run(["fusermount3", "-u", str(folder)], check=True)
        mount.wait(60)


@needs_rclone
@needs_fuse
def test_rclone_mount_is_a_folder_like_others(
    mounted: Path, shell: Shell, library: Path, store: Store
) -> None:
    shutil.copytree(library / "json", mounted / "json")
    same_trees(library / "json", mounted / "json")
    write_random(mounted / "big", 12 * MIB, seed=12)
    with (mounted / "big").open("rb") as file:
        file.seek(7 * MIB + 3)
        middle = file.read(1000)
    (mounted / "json" / "tool.py").rename(mounted / "json" / "renamed.py")
    (mounted / "json" / "scanner.py").unlink()
    client = store.client()

    def keys() -> set[str]:
        listed = client.list_objects_v2(Bucket="rclone-mount").get("Contents", [])
        return {entry["Key"] for entry in listed}

    expected = {f"json/{name}" for name in os.listdir(library / "json")}
    expected = expected - {"json/tool.py", "json/scanner.py"} | {"json/renamed.py", "big"}
    until(lambda: keys() == expected, "everything written is in the bucket")
    body = client.get_object(Bucket="rclone-mount", Key="big", Range=f"bytes={7 * MIB + 3}-{7 * MIB + 1002}")
    assert body["Body"].read() == middle


def test_a_presigned_url_needs_no_credentials(store: Store) -> None:
    # Left to itself boto3 presigns for us-east-1 with the signature of before 2014.
    client = store.client(config=Config(signature_version="s3v4"))
    client.create_bucket(Bucket="presigned")
    put = client.generate_presigned_url("put_object", Params={"Bucket": "presigned", "Key": "a b"})
    request = urllib.request.Request(put, data=b"by anyone", method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
    get = client.generate_presigned_url("get_object", Params={"Bucket": "presigned", "Key": "a b"})
    with urllib.request.urlopen(get, timeout=30) as answer:
        assert answer.read() == b"by anyone"


def wait_until_ready_again(store: Store, name: str, readies: int) -> None:
    until(lambda: store.log().count(f"{name} is ready") > readies, f"{name} is back")


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_p2_reads_go_on_without_any_one_node(new_store: Callable[..., Store], how: signal.Signals) -> None:
    """Each node in turn is frozen or killed while objects of all sizes are read. Went red (3 s for a GET) with
    the reader's hedging taken out."""
    store = new_store()
    store.start()
    client = store.client()
    client.create_bucket(Bucket="degraded")
    bodies = {f"{size}": Random(size).randbytes(size) for size in (0, 1, 4096, 65_536, 700_001, 5 * MIB + 1)}
    for key, body in bodies.items():
        client.put_object(Bucket="degraded", Key=key, Body=body)
    for name in ("node-1", "node-2", "node-3"):
        pid = store.pids()[name]
        readies = store.log().count(f"{name} is ready")
        os.kill(pid, how)
        try:
            for key, body in bodies.items():
                began = time.monotonic()
                assert client.get_object(Bucket="degraded", Key=key)["Body"].read() == body
                assert time.monotonic() - began < GET_S_MAX, (
                    "a frozen node costs milliseconds, not a time-out"
                )
            ranged = client.get_object(
                Bucket="degraded", Key=str(5 * MIB + 1), Range=f"bytes={MIB - 2}-{MIB + 1}"
            )
            assert ranged["Body"].read() == bodies[str(5 * MIB + 1)][MIB - 2 : MIB + 2]
        finally:
            if how == signal.SIGSTOP:
                os.kill(pid, signal.SIGCONT)
        if how == signal.SIGKILL:
            wait_until_ready_again(store, name, readies)
