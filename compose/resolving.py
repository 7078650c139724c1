"""From options, environment and configuration file to the settings in force, and where each comes from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compose.given import Found
from compose.refusal import StartRefused
from compose.setting import option_name
from compose.setting_checks import refuse_halves, refuse_misspelt
from compose.settings import Settings, given, table


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings, and where each comes from by its name; what is not there is a default."""

    settings: Settings
    sources: Mapping[str, str]
    file: Path | None


def resolve(
    environment: Mapping[str, str],
    flags: Mapping[str, object | None],
    secrets: Collection[str] | None = None,
) -> Resolved:
    """As `Settings.read`, with the sources."""
    places = given(environment)
    refuse_misspelt(environment, places.variables)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, setting in table().items():
        if setting.secret and secrets is not None and name not in secrets:
            continue
        flag = flags.get(name)
        found = places.find(name) if flag is None else Found(setting.render(flag), option_name(name))
        if found is None:
            continue
        try:
            values[name] = setting.parse(found.text)
        except ValueError as error:
            shown = found.source if setting.secret else f"{found.source}={found.text}"
            raise StartRefused(f"{shown} can't be used: {error}") from None
        sources[name] = found.source
    settings = replace(Settings(), **values)
    refuse_halves(settings, sources)
    return Resolved(settings, sources, places.path)
