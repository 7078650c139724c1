"""`trivet config show` and `trivet --version`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from catalog.schema import HEAD_REVISION
from compose import running
from compose.cli.commands import app
from compose.configuration import in_force
from compose.data_dir import DataDir
from compose.settings import CREDENTIALS, Settings, table
from compose.variables import unknown
from tests.compose.in_process import trivet

URL = "postgresql://u:hush@h/d"


@pytest.fixture(autouse=True)
def _stays_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `up` does when nothing is refused would end these tests: it becomes a supervisor."""

    def refuse(*_words: object) -> None:
        raise AssertionError("it became another program")

    monkeypatch.setattr(os, "execve", refuse)


def test_each_setting_is_shown_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "trivet.toml"
    file.write_text("port = 9001\n")
    code, out, err = trivet(tmp_path, "config", "show", "--config", str(file), "--json")
    assert (code, err) == (0, "")
    rows = {row["name"]: row for row in json.loads(out)}
    assert not any(row["running"] for row in rows.values())
    assert list(rows) == [*table(), *CREDENTIALS]
    assert (rows["port"]["value"], rows["port"]["source"]) == ("9001", f"port in {file}")
    assert (rows["data"]["value"], rows["data"]["source"]) == (str(tmp_path), "--data")
    assert (rows["host"]["value"], rows["host"]["source"]) == ("127.0.0.1", "default")
    words = trivet(tmp_path, "settings", "--config", str(file)).stdout
    assert "9001" in words
    assert f"configuration file: {file}" in words.replace("\n", "")


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Of any of the ways that a secret can be given. Red when a row takes the text itself."""
    (tmp_path / "token").write_text("trivet1." + "hush" * 16)
    environment = {
        "TRIVET_CATALOG": URL,
        "TRIVET_JOIN_TOKEN_FILE": str(tmp_path / "token"),
        "TRIVET_ROOT_ACCESS_KEY": "hush-hush",
        "TRIVET_ROOT_SECRET_KEY": "hush-hush",
        "TRIVET_METRICS_TOKEN": "hush-hush",
        "TRIVET_TRACE_URL": "http://me:hush@h:4318",
    }
    assert "hush" not in repr(in_force(environment, tmp_path).rows)
    rows = {row.name: row for row in in_force(environment, tmp_path).rows}
    assert {rows[name].value for name in ("catalog", "join_token", *CREDENTIALS)} == {"(set)"}
    assert rows["join_token"].source == f"{tmp_path / 'token'} (TRIVET_JOIN_TOKEN_FILE)"
    assert rows["trace_url"].value == "http://***@h:4318"


def test_what_a_running_store_has_is_shown_as_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {
        **Settings(data=tmp_path, port=9001).to_environment(),
        "TRIVET_METRICS_TOKEN": "hush-hush",
    }
    monkeypatch.setattr(running, "supervisor_pid", lambda _place: os.getpid())
    monkeypatch.setattr(running, "environment_of", lambda _pid: there)
    found = in_force({"TRIVET_GRACE_S": "5"}, tmp_path)
    rows = {row.name: row for row in found.rows}
    assert found.runs
    assert (rows["port"].value, rows["port"].source) == ("9001", "the running store")
    assert (rows["grace_s"].value, rows["grace_s"].source) == ("900", "the running store")
    assert (rows["metrics_token"].value, rows["metrics_token"].source) == (
        "(set)",
        "the running store: TRIVET_METRICS_TOKEN",
    )
    assert rows["data"].source == "--data"
    assert DataDir(tmp_path).root == tmp_path


def test_a_mistake_in_the_file_is_one_line_and_an_exit_code_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "trivet.toml"
    file.write_text("prot = 9001\n")
    for words in (("config", "show"), ("up",), ("status",)):
        with mock.patch.dict(os.environ):
            code, out, err = trivet(tmp_path, "--config", str(file), *words)
        assert (code, out) == (78, "")
        assert err == f"trivet: prot in {file} is no setting of Trivet: write port, or remove the line\n"


def test_up_becomes_a_supervisor_that_has_all_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when the credentials of the file are not handed on."""
    file = tmp_path / "trivet.toml"
    file.write_text('port = 9001\nregion = "eu-west-1"\nmetrics_token = "scrape-me"\n')
    file.chmod(0o600)
    became: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(
        os, "execve", lambda _program, words, environment: became.append((words, environment))
    )
    with mock.patch.dict(os.environ):
        assert trivet(tmp_path, "up", "--config", str(file), "--port", "0").returncode == 0
    ((words, environment),) = became
    assert words[0] == sys.executable
    assert environment["TRIVET_METRICS_TOKEN"] == "scrape-me"
    settings = Settings.read(environment, {})
    assert (settings.port, settings.region, settings.data) == (0, "eu-west-1", tmp_path)
    assert "scrape-me" not in " ".join(words)


def test_the_version_and_the_formats() -> None:
    said = CliRunner().invoke(app, ["--version"]).output
    assert said.startswith("trivet ")
    assert f"catalog schema {HEAD_REVISION}, segment format 1, wire protocol 1 to " in said
    formats = json.loads(CliRunner().invoke(app, ["--version", "--json"]).output)["formats"]
    assert set(formats) == {"catalog_schema", "segment_format", "wire_oldest", "wire_newest"}


def test_without_a_command_the_usage_is_shown() -> None:
    assert CliRunner().invoke(app, []).exit_code == 2
    assert CliRunner().invoke(app, ["--json"]).exit_code == 2


def test_a_variable_that_nobody_reads_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no more than that: it may be somebody else's, as what Kubernetes sets for a service called trivet."""
    monkeypatch.setattr(os, "execve", lambda *_words: None)
    others = {"TRIVET_XYZZY_4711": "1", "TRIVET_PORT_9000_TCP": "tcp://10.0.0.1:9000"}
    done = trivet(tmp_path, "up", environment=others)
    assert done.returncode == 0
    told = dict(line.removeprefix("trivet: ").split(" is no setting") for line in done.stderr.splitlines())
    assert told.keys() == others.keys()
    assert told["TRIVET_XYZZY_4711"] == ""
    assert unknown(["TRIVET_CATALOG_FILE", "TRIVET_CONFIG", "TRIVET_ROOT_SECRET_KEY", "TRIVET_JOIN"]) == {}


@pytest.mark.parametrize("words", [("up",), ("status",), ("config", "show")])
def test_a_misspelt_variable_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    """As an unknown key of the file is: it would be in force nowhere. Red when it was only told of."""
    done = trivet(tmp_path, *words, environment={"TRIVET_PROT": "9100"})
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "trivet: TRIVET_PROT is no setting of Trivet: write TRIVET_PORT, or unset it\n"
