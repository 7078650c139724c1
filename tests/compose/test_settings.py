"""One table of settings: read, passed on, documented."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compose.cli.commands import app
from compose.refusal import StartRefused
from compose.settings import Settings, default_text, option_name, table

ROOT = Path(__file__).resolve().parents[2]


def test_flags_win_over_the_environment_and_that_over_defaults() -> None:
    environment = {"TRIVET_PORT": "9100", "TRIVET_REGION": "eu-west-1"}
    settings = Settings.read(environment, {"port": 9200, "host": None})
    assert (settings.port, settings.region, settings.host) == (9200, "eu-west-1", "127.0.0.1")


def test_settings_survive_the_way_to_a_child_process() -> None:
    settings = Settings.read(
        {"TRIVET_DOMAINS": "s3.example,localhost", "TRIVET_NODE_DIRS": "/a:/b:/c"},
        {"data": Path("/some where"), "data_shards": 4},
    )
    assert Settings.read(settings.to_environment(), {}) == settings
    assert settings.node_dirs == (Path("/a"), Path("/b"), Path("/c"))


@pytest.mark.parametrize(
    ("environment", "flags", "named"),
    [
        ({"TRIVET_PORT": "ninethousand"}, {}, "TRIVET_PORT=ninethousand"),
        ({"TRIVET_PORT": "65536"}, {}, "TRIVET_PORT=65536"),
        ({}, {"port": -1}, "--port=-1"),
        ({"TRIVET_LOG_LEVEL": "loud"}, {}, "TRIVET_LOG_LEVEL=loud"),
    ],
)
def test_an_unfit_value_is_refused_by_its_name(
    environment: dict[str, str], flags: dict[str, object], named: str
) -> None:
    with pytest.raises(StartRefused, match=re.escape(named)):
        Settings.read(environment, flags)


def test_every_setting_is_an_option_of_up() -> None:
    shown = " ".join(CliRunner().invoke(app, ["up", "--help"], env={"COLUMNS": "400"}).output.split())
    for name, setting in table().items():
        assert f"{option_name(name)} " in shown
        assert setting.help in shown
        assert setting.env in shown


def test_every_setting_is_documented() -> None:
    """README's table of settings names option, variable and default of each."""
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `--")]
    assert len(rows) == len(fields(Settings))
    for row, (name, setting) in zip(rows, table().items(), strict=True):
        option, variable, default, text = (cell.strip() for cell in row.strip("|").split("|"))
        assert option == f"`{option_name(name)}`"
        assert variable == f"`{setting.env}`"
        assert default == (f"`{default_text(name)}`" if default_text(name) else "")
        assert text == setting.help
