"""Secrets from files of their own, as container engines and systemd hand them over."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose import credentials
from compose.refusal import StartRefused
from compose.settings import Settings

URL = "postgresql://u:hush@h/d"


def test_each_secret_is_taken_from_its_file(tmp_path: Path) -> None:
    environment = {}
    for name, text in (
        ("ROOT_ACCESS_KEY", "root"),
        ("ROOT_SECRET_KEY", "a-long-secret"),
        ("METRICS_TOKEN", "scrape-me"),
        ("CATALOG", URL),
        ("JOIN_TOKEN", "trivet1." + "A" * 64),
    ):
        (tmp_path / name).write_text(text + "\n")
        environment[f"TRIVET_{name}_FILE"] = str(tmp_path / name)
    settings = Settings.read(environment, {})
    assert (settings.catalog, settings.join_token) == (URL, "trivet1." + "A" * 64)
    assert credentials.from_environment(environment) == credentials.RootCredentials("root", "a-long-secret")
    assert credentials.metrics_token(environment) == "scrape-me"
    # A child gets the value, and no file beside it.
    assert Settings.read({**environment, **settings.to_environment()}, {}) == settings


@pytest.mark.parametrize("name", ["TRIVET_CATALOG", "TRIVET_JOIN_TOKEN"])
def test_both_ways_at_once_are_refused(name: str, tmp_path: Path) -> None:
    """Red when one of them wins: which one the operator meant nobody knows."""
    (tmp_path / "secret").write_text("hush")
    with pytest.raises(StartRefused, match=f"{name} and {name}_FILE are both set") as refusal:
        Settings.read({name: "hush-hush", f"{name}_FILE": str(tmp_path / "secret")}, {})
    assert "hush" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * (65 << 10)])
def test_a_file_without_a_secret_in_it_is_refused(tmp_path: Path, content: bytes) -> None:
    """Red when an empty one counts as not set: the store would come up with a catalog of its own."""
    path = tmp_path / "catalog-url"
    path.write_bytes(content)
    with pytest.raises(StartRefused, match="which TRIVET_CATALOG_FILE names, must hold the secret"):
        Settings.read({"TRIVET_CATALOG_FILE": str(path)}, {})


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="which TRIVET_CATALOG_FILE names, can't be read: No such file"):
        Settings.read({"TRIVET_CATALOG_FILE": str(tmp_path / "none")}, {})
