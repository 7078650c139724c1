"""Which environment variables mean something to Trivet, and which of them nobody may be shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from compose.config_file import CONFIG_VARIABLE, NO_FILE
from compose.setting_checks import PREFIX
from compose.settings import CREDENTIALS, given, table

_NEAR = 0.6


def secret_variables() -> frozenset[str]:
    """All variables whose value is a secret."""
    return frozenset(CREDENTIALS.values()) | {setting.env for setting in table().values() if setting.secret}


def known_variables() -> frozenset[str]:
    """All variables that some process reads."""
    return given({CONFIG_VARIABLE: NO_FILE}).variables


def unknown(variables: Iterable[str]) -> dict[str, str]:
    """Those that look like settings and are none, each with the known one that is meant; empty for no idea. One that
    is almost a known one ends a start (see compose.setting_checks). The rest is told of: others set variables too, as
    Kubernetes does for a service called trivet.
    """
    known = sorted(known_variables())
    strange = sorted(name for name in variables if name.startswith(PREFIX) and name not in known)
    return {name: next(iter(difflib.get_close_matches(name, known, 1, _NEAR)), "") for name in strange}
