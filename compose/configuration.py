"""The configuration as people and programs may see it: each setting's value and source, no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compose import credentials, running
from compose.config_file import CONFIG_VARIABLE
from compose.data_dir import DataDir
from compose.resolving import resolve
from compose.setting import Setting, option_name
from compose.settings import CREDENTIALS, Settings, default_text, given, table

HIDDEN = "(set)"
DEFAULT = "default"
_STORE = "the running store"
_USER_INFO = re.compile(r"//[^/@]*@")


@dataclass(frozen=True, slots=True)
class Row:
    """`option` is empty for a secret; `running`: the value is that of the store that runs."""

    name: str
    option: str
    variable: str
    value: str
    source: str
    default: str
    running: bool


@dataclass(frozen=True, slots=True)
class InForce:
    rows: tuple[Row, ...]
    file: Path | None
    runs: bool


def shown(setting: Setting, text: str) -> str:
    """A value as anybody may see it: no secret, and nothing of what stands before an @ in a URL."""
    if setting.secret:
        return HIDDEN if text else ""
    return _USER_INFO.sub("//***@", text)


def in_force(environment: Mapping[str, str], data: Path | None) -> InForce:
    """As the store that runs in the data directory has it, else as one started here would. Raises StartRefused."""
    here = resolve(environment, {"data": data})
    supervisor = running.supervisor_pid(DataDir(here.settings.data))
    running_with = {} if supervisor is None else running.environment_of(supervisor)
    if not running_with:
        credentials.from_environment(environment)
        credentials.metrics_token(environment)
    rows = [
        _row(name, setting, here.settings, here.sources.get(name, DEFAULT), running_with)
        for name, setting in table().items()
    ]
    rows += _secret_rows(environment, running_with)
    return InForce(tuple(rows), here.file, bool(running_with))


def _row(
    name: str, setting: Setting, settings: Settings, source: str, running_with: Mapping[str, str]
) -> Row:
    text = setting.render(getattr(settings, name))
    there = running_with.get(setting.env, text)
    if there != text and not (name == "data" and Path(there) == Path(text).absolute()):
        text, source = there, _STORE
    option = "" if setting.secret else option_name(name)
    is_told = setting.env in running_with
    return Row(name, option, setting.env, shown(setting, text), source, default_text(name), is_told)


def _secret_rows(environment: Mapping[str, str], running_with: Mapping[str, str]) -> list[Row]:
    # A running store was told of its configuration file's secrets by variables.
    places = given({**running_with, CONFIG_VARIABLE: "none"} if running_with else environment)
    rows = []
    for name, env in CREDENTIALS.items():
        found = places.find(name)
        source = DEFAULT if found is None else f"{_STORE}: {found.source}" if running_with else found.source
        value = "" if found is None else HIDDEN
        rows.append(Row(name, "", env, value, source, "", bool(running_with)))
    return rows
