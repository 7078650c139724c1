"""``trivet bench`` against servers of this test: what it writes, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from conformance.bench.command import bench
from conformance.bench.runner import CannotRun, parse_sizes
from tests.bench.rote import Asked, Behaviour, Keeper, answer, serving

BENCH = (sys.executable, "-m", "conformance.bench")
KEYS = ("--access-key", "AK", "--secret-key", "hush-hush")


def run(*words: str) -> Result:
    app = Typer(pretty_exceptions_enable=False)
    app.command()(bench)
    return CliRunner().invoke(app, words)


def run_against(behave: Behaviour, *words: str) -> Result:
    with serving(behave) as server:
        return run("--endpoint", f"http://127.0.0.1:{server.port}", *KEYS, *words)


def test_an_endpoint_is_measured_without_a_failure_and_left_as_it_was(tmp_path: Path) -> None:
    """Everything that was stored is deleted again, the bucket last."""
    keeper = Keeper()
    files = [tmp_path / f"out.{kind}" for kind in ("json", "csv", "html")]
    result = run_against(
        keeper, "--objects", "7", "--json", str(files[0]), "--csv", str(files[1]), "--html", str(files[2])
    )
    assert result.exit_code == 0, result.output
    assert keeper.kept == {}
    told = json.loads(files[0].read_text())
    assert [phase["name"] for phase in told["phases"]] == ["upload", "download and verify", "verify again"]
    assert (told["count"], told["failed"], told["recovery"]) == (21, 0, None)
    assert all(1000 <= size <= 10_000 for size in _sizes(told))
    assert "lost node are left out" in told["notes"][0]
    assert files[1].read_text().count("\n") == 4
    assert "hush" not in "".join(file.read_text() for file in files) + result.output


def _sizes(told: dict[str, object]) -> list[int]:
    options = told["options"]
    assert isinstance(options, dict)
    return [options["size_min_bytes"], options["size_max_bytes"]]


def test_a_changed_byte_is_exit_code_1() -> None:
    """Red when only broken connections and statuses count."""
    keeper = Keeper()

    def flip(asked: Asked) -> bytes:
        said = keeper(asked)
        return said[:-1] + bytes([said[-1] ^ 1]) if asked.method == "GET" else said

    result = run_against(flip, "--objects", "3")
    assert result.exit_code == 1
    assert "3 failed: GET" in result.output
    assert "content differs" in result.output


def test_a_profile_that_is_refused_is_not_supported_and_no_failure() -> None:
    keeper = Keeper()

    def without_versions(asked: Asked) -> bytes:
        if "versioning" in asked.query:
            return answer(501, b"<Error><Code>NotImplemented</Code></Error>")
        return keeper(asked)

    result = run_against(without_versions, "--profile", "versions", "--objects", "3")
    assert result.exit_code == 0, result.output
    assert "not supported by this endpoint: versioning: answered 501 NotImplemented" in result.output


def test_json_to_standard_output_is_nothing_but_json() -> None:
    result = run_against(Keeper(), "--objects", "2", "--json", "-")
    assert json.loads(result.stdout)["count"] == 6


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--profile", "fast"), "--profile fast: there are failure, small"),
        (("--endpoint", "ftp://127.0.0.1", *KEYS), "write http://HOST:PORT"),
        (("--endpoint", "http://127.0.0.1:1/path", *KEYS), "write http://HOST:PORT"),
        (("--endpoint", "http://127.0.0.1:99999", *KEYS), "no port"),
        (("--endpoint", "http://127.0.0.1:1"), "--access-key and --secret-key"),
        (("--endpoint", "http://127.0.0.1:1", *KEYS), "the bucket can't be made"),
        (("--endpoint", "http://127.0.0.1:1", *KEYS, "--sizes", "big"), "'big' is no size"),
        (("--endpoint", "http://127.0.0.1:1", "--profile", "budget"), "leave --endpoint out"),
        (("--data", "/nowhere/at/all"), "no store can be made in /nowhere/at/all"),
    ],
)
def test_what_can_not_be_run_is_one_line_and_exit_code_2(
    words: tuple[str, ...], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    result = run(*words)
    assert result.exit_code == 2
    assert complaint in result.output
    assert "Traceback" not in result.output


def test_sizes() -> None:
    assert parse_sizes("1KB-10KB") == (1000, 10_000)
    assert parse_sizes("4KiB") == (4096, 4096)
    assert parse_sizes(" 1 MiB - 2MiB ") == (1 << 20, 2 << 20)
    for text in ("10KB-1KB", "1-2-3", "", "KB"):
        with pytest.raises(CannotRun):
            parse_sizes(text)


def test_credentials_come_from_the_environment() -> None:
    """As every S3 tool takes them; through the module's own entry."""
    with serving(Keeper()) as server:
        finished = subprocess.run(
            [*BENCH, "--objects", "1", "--endpoint", f"http://127.0.0.1:{server.port}"],
            env={**os.environ, "AWS_ACCESS_KEY_ID": "FROM-ENV", "AWS_SECRET_ACCESS_KEY": "hush-hush"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        assert all("Credential=FROM-ENV" in asked.query for asked in server.asked)


def test_sigterm_ends_the_run_and_its_generator() -> None:
    """Red when the generator is left waiting for its answer."""
    asked_once, let_go = threading.Event(), threading.Event()

    def stall(asked: Asked) -> bytes:
        if asked.path.count("/") > 1:
            asked_once.set()
            let_go.wait(20)
        return answer()

    with serving(stall) as server:
        process = subprocess.Popen(
            [*BENCH, *KEYS, "--endpoint", f"http://127.0.0.1:{server.port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert asked_once.wait(20)
        process.send_signal(signal.SIGTERM)
        try:
            _, said = process.communicate(timeout=10)
        finally:
            process.kill()
            let_go.set()
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in said
