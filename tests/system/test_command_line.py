"""The commands for people against a running store: what they say, in words and in JSON, and their exit codes."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.exceptions import ClientError

from compose.cli.main import main
from tests.system.conftest import ROOT, TRIVET, Store, own_environment, until

Maker = Callable[..., Store]
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PUTS, GETS, MISSING = 7, 5, 2
BYTES = 3000


def words(*arguments: str, columns: int = 100, **environment: str) -> tuple[int, str, str]:
    """What the program does with these arguments and that environment: exit code, stdout, stderr.

    In this process: to load its modules anew costs each command half a second.
    """
    out, err = StringIO(), StringIO()
    around = own_environment({"COLUMNS": str(columns), **environment})
    code: object = 0
    with (
        mock.patch.object(sys, "argv", ["trivet", *arguments]),
        mock.patch.dict(os.environ, around, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    assert isinstance(code, int)
    return code, out.getvalue(), err.getvalue()


def run(store: Store, *arguments: str, columns: int = 100, **environment: str) -> tuple[int, str, str]:
    """A command about that store."""
    return words(*arguments, "--data", str(store.data), columns=columns, **store.place, **environment)


def asked(store: Store, *words: str) -> Any:
    """The answer in JSON; the exit code may be 0 or 1, but nothing may be said to stderr."""
    code, out, err = run(store, *words, "--json")
    assert (code in {0, 1}, err) == (True, "")
    return json.loads(out)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store of its own that has done a known amount of work, all of which the fronts have handed in."""
    store = Store(tmp_path_factory.mktemp("command-line"), ("--fronts", "2", "--silence-s-max", "60"))
    store.start()
    client = store.client()
    client.create_bucket(Bucket="known")
    for n in range(PUTS):
        client.put_object(Bucket="known", Key=f"k{n}", Body=bytes(BYTES))
    for n in range(GETS):
        client.get_object(Bucket="known", Key=f"k{n}")["Body"].read()
    for _ in range(MISSING):
        with pytest.raises(ClientError, match="NoSuchKey"):
            client.get_object(Bucket="known", Key="nothing")
    expected = {"CreateBucket": 1, "PutObject": PUTS, "GetObject": GETS + MISSING}
    until(lambda: counts(asked(store, "metrics", "summary")["operations"]) == expected, "handed in")
    # On a busy machine a node may have been passed over: that is mended, and takes a moment.
    until(lambda: asked(store, "status")["health"]["status"] == "healthy", "every object is whole")
    yield store
    store.stop()


def counts(operations: list[dict[str, Any]]) -> dict[str, int]:
    return {each["operation"]: each["count"] for each in operations}


# -- status --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 100])
def test_status_shows_the_store_at_one_look(loaded: Store, columns: int) -> None:
    """No line is longer than the terminal is wide, and no figure is cut off. Red when a table is too wide for 80."""
    code, out, err = run(loaded, "status", columns=columns)
    assert (code, err) == (0, "")
    assert out.startswith("trivet healthy")
    for part in (
        f"{PUTS} objects in 1 bucket,",
        "code 2+1",
        "every object has its full redundancy",
        "PutObject",
    ):
        assert part in out
    for node in ("node-1", "node-2", "node-3"):
        assert re.search(rf"{node} +up +\S+ +[█░]+ +\d+% .* ms", out)
    assert max(map(len, out.splitlines())) <= columns
    assert "…" not in "".join(out.splitlines()[2:8])
    assert len(out.splitlines()) <= 40


def test_status_in_json(loaded: Store) -> None:
    seen = asked(loaded, "status")
    assert (seen["running"], seen["health"]["status"], seen["health"]["reasons"]) == (True, "healthy", [])
    assert (seen["stats"]["objects"], seen["stats"]["logical_bytes"]) == (PUTS, PUTS * BYTES)
    assert seen["stats"]["redundancy"]["whole"] is True
    assert [(node["name"], node["answers"]) for node in seen["nodes"]] == [
        (f"node-{n}", True) for n in (1, 2, 3)
    ]
    blocks = sum(node["figures"]["blocks"] for node in seen["nodes"])
    assert blocks == seen["stats"]["stored_blocks"] >= 3 * PUTS, "more where a slow node was passed over"
    assert all(0 < node["figures"]["sync_us"]["p99"] < 10_000_000 for node in seen["nodes"])


def test_a_store_that_does_not_run(new_store: Maker) -> None:
    """Its catalog is there all the same. Red when a pid file that a crash left over, and whose number another
    program has now, is taken for a store.
    """
    store = new_store(("--fronts", "1"))
    store.start()
    store.client().create_bucket(Bucket="kept")
    store.stop()
    (store.data / "run" / "supervisor.pid").write_text(str(os.getpid()))
    code, out, _ = run(store, "status")
    assert code == 1
    assert "not running" in out.splitlines()[0]
    assert "trivet up" in out
    assert out.count("silent") == 3
    seen = asked(store, "status")
    assert (seen["running"], seen["stats"]["buckets"]) == (False, 1)
    code, out, _ = run(store, "doctor")
    assert re.search(r"^warn store .*no store runs.*trivet up", out, re.MULTILINE)
    _clear_wants_to_be_meant(store)


def _clear_wants_to_be_meant(store: Store) -> None:
    (row,) = asked(store, "metrics", "export")
    assert (row["operation"], row["count"]) == ("CreateBucket", 1)
    code, out, err = run(store, "metrics", "clear")
    assert (code, out) == (1, "")
    assert "--yes" in err
    assert asked(store, "metrics", "export") == [row]
    assert asked(store, "metrics", "clear", "--yes")["cleared_at"] > row["minute_at"]
    assert asked(store, "metrics", "export") == []


class Screen:
    """A command at a terminal of its own. `text`: all that it has drawn, without the control sequences."""

    def __init__(self, descriptor: int) -> None:
        self.raw = b""
        self._descriptor = descriptor

    @property
    def text(self) -> str:
        return ANSI.sub("", self.raw.decode(errors="replace"))

    def wait_for(self, pattern: str, wait_s: float = 30.0) -> re.Match[str]:
        """Reads on until the pattern is on the screen."""
        give_up_at = time.monotonic() + wait_s
        while not (found := re.search(pattern, self.text, re.MULTILINE)):
            left_s = give_up_at - time.monotonic()
            assert left_s > 0, f"not within {wait_s} s: {pattern}\n{self.text[-4000:]}"
            self._read(left_s)
        return found

    def _read(self, wait_s: float) -> None:
        readable, _, _ = select.select([self._descriptor], [], [], wait_s)
        if readable:
            self.raw += os.read(self._descriptor, 65_536)


@contextmanager
def at_a_terminal(
    store: Store, *words: str, columns: int = 100
) -> Iterator[tuple[Screen, subprocess.Popen[bytes]]]:
    """A command about that store runs on a pseudo-terminal, in a session of its own; interrupted at the end."""
    ours, theirs = pty.openpty()
    environment = own_environment(
        {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm-256color", **store.place}
    )
    process = subprocess.Popen(
        [*TRIVET, *words, "--data", str(store.data)],
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Screen(ours), process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        os.close(ours)


@pytest.mark.long
def test_a_live_view_during_a_repair(new_store: Maker, tmp_path: Path) -> None:
    """A node's disk is lost and made anew, at a rate that lets us watch: the bar moves, then all is whole; Ctrl-C
    ends it well. Red when the view does not follow the catalog, or draws no bar.
    """
    store = new_store(("--fronts", "1", "--repair-bytes-per-s", "500000"))
    store.start()
    client = store.client()
    client.create_bucket(Bucket="photos")
    for n in range(40):
        client.put_object(Bucket="photos", Key=f"p{n}", Body=os.urandom(60_000))
    os.kill(store.pids()["node-2"], signal.SIGKILL)
    shutil.rmtree(store.data / "node-2")
    until(lambda: "degraded" in run(store, "status")[1], "the loss is noticed")
    code, _, err = run(store, "node", "recover", "node-2", "--lost")
    assert (code, err) == (0, "")
    with at_a_terminal(store, "status", "--watch") as (screen, process):
        screen.wait_for(r"^not every object is whole:")
        screen.wait_for(r"repair: .* of .* blobs\), .*/s, 0:\d\d left")
        screen.wait_for(r"^ +[━╸╺]{20,}\s*$")
        screen.wait_for("every object has its full redundancy", 60)
        screen.wait_for("redundancy-restored")
    (tmp_path / "screen").write_bytes(screen.raw)
    assert process.returncode == 0
    shares = [int(done) for done in re.findall(r"\((\d+) of \d+ blobs\)", screen.text)]
    assert shares == sorted(shares)
    assert len(set(shares)) > 1, "the repair is seen to proceed"
    assert b"\x1b[?1049h" not in screen.raw, "what was seen stays on the screen"


# -- metrics -------------------------------------------------------------------------------------------------


def test_metrics_summary(loaded: Store) -> None:
    """The same figures in words, CSV and JSON."""
    told = asked(loaded, "metrics", "summary", "--last", "1h")
    puts = next(each for each in told["operations"] if each["operation"] == "PutObject")
    assert (puts["count"], puts["errors"], puts["success_rate"], puts["bytes_in"]) == (
        PUTS,
        0,
        1.0,
        PUTS * BYTES,
    )
    assert 0 < puts["p50_ms"] <= puts["p99_ms"] <= puts["max_ms"]
    gets = next(each for each in told["operations"] if each["operation"] == "GetObject")
    assert gets["by_status"] == {"200": GETS, "404": MISSING}
    assert told["incidents"]["failures"] == 0
    code, out, err = run(loaded, "metrics", "summary", "--csv")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(out.splitlines()))
    assert {row["operation"]: int(row["count"]) for row in rows} == counts(told["operations"])
    for columns in (80, 100):
        code, out, _ = run(loaded, "metrics", "summary", columns=columns)
        assert re.search(rf"^GetObject +{GETS + MISSING} .* 100\.00%$", out, re.MULTILINE)
        assert "…" not in out
        assert max(map(len, out.splitlines())) <= columns
    empty = asked(loaded, "metrics", "summary", "--to", "2020-01-01")
    assert empty["operations"] == []
    assert "no requests" in run(loaded, "metrics", "summary", "--to", "2020-01-01")[1]


def test_metrics_export(loaded: Store, tmp_path: Path) -> None:
    """Every operation of every minute, to the terminal or into a file, CSV and JSON alike."""
    told = asked(loaded, "metrics", "export")
    total: dict[str, int] = {}
    for row in told:
        total[row["operation"]] = total.get(row["operation"], 0) + row["count"]
    assert total == {"CreateBucket": 1, "PutObject": PUTS, "GetObject": GETS + MISSING}
    target = tmp_path / "figures.csv"
    code, out, err = run(loaded, "metrics", "export", "--csv", "-o", str(target))
    assert (code, out) == (0, "")
    assert f"{len(told)} rows" in err
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["minute_at"], row["operation"], row["count"]) for row in rows] == [
        (row["minute_at"], row["operation"], str(row["count"])) for row in told
    ]
    assert asked(loaded, "metrics", "export", "--from", "2035-01-01") == []
    code, _, err = run(loaded, "metrics", "export", "-o", str(tmp_path / "no" / "where"))
    assert (code, err.count("\n")) == (1, 1)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("metrics", "summary", "--last", "a while"), 1, "--last a while is not a length of time"),
        (("metrics", "summary", "--from", "then"), 1, "--from then must be a time"),
        (("metrics", "export", "--csv", "--json"), 2, "--csv or --json"),
        (("metrics", "export", "--last", "1h", "--to", "5"), 1, "--last goes without"),
    ],
)
def test_wrong_input_is_one_line_that_names_it(
    loaded: Store, words: tuple[str, ...], code: int, said: str
) -> None:
    found, out, err = run(loaded, *words)
    assert (found, out) == (code, "")
    assert said in err


# -- events, doctor, settings --------------------------------------------------------------------------------


def test_events_are_filtered_and_followed(loaded: Store) -> None:
    """Red when --follow misses what happens after its first look, or says something twice."""
    environment = own_environment(loaded.place)
    command = [
        *TRIVET,
        "events",
        "--follow",
        "--json",
        "--kind",
        "orphans-allowed",
        "--data",
        str(loaded.data),
    ]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        told = []
        for _ in range(3):
            assert run(loaded, "orphans", "allow")[0] == 0
            told.append(json.loads(following.stdout.readline()))
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 0
        assert following.stdout.read() == ""
    assert [event["kind"] for event in told] == ["orphans-allowed"] * 3
    assert told[0]["number"] < told[1]["number"] < told[2]["number"]
    assert told[2] == asked(loaded, "events", "--limit", "1")[0]
    assert asked(loaded, "events", "--kind", "orphans-allowed", "--kind", "x") == told
    assert asked(loaded, "events", "--node", "node-9") == []
    assert "nothing of that kind" in run(loaded, "events", "--node", "node-9")[1]
    code, out, _ = run(loaded, "events")
    assert code == 0
    assert out.count("orphans-allowed") == 3


def test_doctor_finds_a_store_well(loaded: Store) -> None:
    """And leaves it as it was. All nodes lie on one disk here, which is worth a warning."""
    before = sorted(path.name for path in loaded.data.iterdir())
    code, out, err = run(loaded, "doctor")
    assert (code, err) == (0, "")
    assert not re.search(r"^bad", out, re.MULTILINE)
    assert re.search(r"^warn shared disks .* -> trivet node add", out, re.MULTILINE)
    told = asked(loaded, "doctor")
    assert told["state"] == "warn"
    by_check = {finding["check"]: finding["state"] for finding in told["findings"]}
    for check in (
        "python", "packages", "sqlite", "settings", "data directory", "secrets", "endpoint", "open files", "clock",
        "catalog", "file systems", "disk space", "sync speed", "store", "nodes", "steward", "health", "redundancy",
        "usage",
    ):  # fmt: skip
        assert by_check[check] == "ok", check
    assert all(finding["do"] for finding in told["findings"] if finding["state"] != "ok")
    assert sorted(path.name for path in loaded.data.iterdir()) == before
    assert loaded.secret_key not in out


def test_doctor_names_what_is_wrong(loaded: Store) -> None:
    """A secret that others may read, a variable that nobody reads, half a pair: exit code 1."""
    secret = loaded.data / "cluster.secret"
    secret.chmod(0o640)
    try:
        code, out, _ = run(loaded, "doctor", TRIVET_GRACE_S="1", TRIVET_SOMETHING="else")
    finally:
        secret.chmod(0o600)
    assert code == 1
    assert re.search(r"^bad +secrets .*chmod 600", out, re.MULTILINE)
    assert re.search(r"^warn settings +TRIVET_SOMETHING is no setting", out, re.MULTILINE)
    assert re.search(
        r"^warn settings +TRIVET_GRACE_S is '1' here and '900' in the running", out, re.MULTILINE
    )
    code, out, _ = run(loaded, "doctor", TRIVET_FRONT="4")
    assert code == 1
    assert re.search(r"^bad +settings .*TRIVET_FRONTS", out, re.MULTILINE)
    code, out, _ = run(loaded, "doctor", TRIVET_ROOT_ACCESS_KEY="alone")
    assert code == 1
    assert re.search(r"^bad +settings .*TRIVET_ROOT_SECRET_KEY is not", out, re.MULTILINE)


def test_settings_in_force(loaded: Store) -> None:
    """Those of the running store, not those of this shell; no secret among them."""
    code, out, _ = run(loaded, "settings", "--json", TRIVET_FRONTS="9", TRIVET_ROOT_SECRET_KEY="0123456789")
    assert code == 0
    told = {row["name"]: row for row in json.loads(out)}
    assert (told["fronts"]["value"], told["fronts"]["running"]) == ("2", True)
    assert told["grace_s"]["value"] == told["grace_s"]["default"] == "900"
    assert "0123456789" not in out
    assert "as the running store has them" in run(loaded, "settings")[1]


# -- the whole command line ----------------------------------------------------------------------------------


COMMANDS = (
    "up init token front steward node status bucket object key metrics events doctor config settings verify bench "
    "repair scrub orphans catalog"
).split()


def test_help_lists_every_command_and_each_explains_itself() -> None:
    code, out, err = words("--help")
    assert (code, err) == (0, "")
    assert set(re.findall(r"^  ([a-z]+)  ", out, re.MULTILINE)) == set(COMMANDS)
    for command in COMMANDS:
        code, out, err = words(command, "--help")
        assert (code, err) == (0, ""), command
        assert out.lower().startswith("usage: trivet"), command


def test_the_release_is_told() -> None:
    code, out, _ = words("--version")
    assert code == 0
    assert re.match(r"trivet \d+\.\d+\.\d+\ncatalog schema ", out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete(shell: str) -> None:
    asked_for = {"bash": "complete_bash", "zsh": "complete_zsh", "fish": "complete_fish"}[shell]
    typed = {"COMP_WORDS": "trivet met", "COMP_CWORD": "1"} if shell == "bash" else {}
    arguments = {"_TYPER_COMPLETE_ARGS": "trivet met", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    environment = {"_TRIVET_COMPLETE": asked_for, **typed, **arguments}
    _, out, _ = words(columns=100, **environment)
    assert "metrics" in out
    assert "events" not in out


@pytest.mark.parametrize(
    ("arguments", "said"), [(("sing",), "No such command"), (("events", "--loud"), "--loud")]
)
def test_what_is_not_understood_exits_with_2(arguments: tuple[str, ...], said: str) -> None:
    code, out, err = words(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_settings_that_can_not_be_used_exit_with_78(tmp_path: Path) -> None:
    code, out, err = words("up", "--data", str(tmp_path), TRIVET_PORT="many")
    assert (code, out) == (78, "")
    assert "TRIVET_PORT=many" in err


def test_help_loads_nothing_heavy() -> None:
    """The command line of every process of the store begins here, and completion runs it at each TAB. Red when a
    module of a command imports the catalog, the nodes' protocol or rich at its top.
    """
    heavy = (
        "sqlalchemy",
        "msgspec",
        "uvloop",
        "pyeclib",
        "lmdb",
        "starlette",
        "rich",
        "prometheus_client",
        "cryptography",
    )
    code = f"import sys, compose.cli.commands\nprint([name for name in {heavy!r} if name in sys.modules])"
    finished = subprocess.run(
        [TRIVET[0], "-c", code], cwd=ROOT, env=own_environment(), capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() in {"[]", "['msgspec']"}


# -- last, because it leaves its traces in the events of the store ---------------------------------------------


def test_a_node_that_does_not_answer(loaded: Store) -> None:
    """It is frozen, so that only a deadline ends the waiting for it."""
    frozen = loaded.pids()["node-2"]
    os.kill(frozen, signal.SIGSTOP)
    try:
        seen = asked(loaded, "status")
        assert [node["answers"] for node in seen["nodes"]] == [True, False, True]
        assert seen["nodes"][1]["figures"] is None
        until(lambda: degraded(asked(loaded, "status")), "the steward has noticed, and status says so")
        code, out, _ = run(loaded, "status")
        assert code == 0
        assert re.search(r"^node-2 +(down|suspect, silent)", out, re.MULTILINE)
        assert re.search(r"^! node-2 .*->", out, re.MULTILINE)
        code, out, _ = run(loaded, "doctor")
        assert code == 1
        assert re.search(r"^bad +nodes +node-2 does not answer ->", out, re.MULTILINE)
    finally:
        os.kill(frozen, signal.SIGCONT)
    until(lambda: asked(loaded, "status")["health"]["status"] == "healthy", "it is well again")
    summed = asked(loaded, "metrics", "summary")["incidents"]
    assert (summed["failures"], summed["recovered"]) == (1, 1)
    assert summed["mttr_mean_s"] > 0


def degraded(seen: dict[str, Any]) -> bool:
    reasons = seen["health"]["reasons"]
    return seen["health"]["status"] == "degraded" and any(reason["node"] == "node-2" for reason in reasons)
