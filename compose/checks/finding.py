"""What a check finds, and what it is told of the store that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from compose.data_dir import DataDir
from compose.settings import Settings

State = Literal["ok", "warn", "bad"]


class Finding(msgspec.Struct, frozen=True):
    """One line. `bad`: something does not work, or data is in danger now; `warn`: it will, or may be one day.
    `do` says what to do about it, and is empty when all is well. Never holds a secret.
    """

    check: str
    state: State
    detail: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """The store to look at. `settings` and `environment` are what a command started here would go by; `running`
    is the store's processes by name, and `in_force` what its supervisor was started with (both empty while it
    does not run).
    """

    settings: Settings
    place: DataDir
    environment: Mapping[str, str]
    running: Mapping[str, int]
    in_force: Mapping[str, str]

    @property
    def founded(self) -> bool:
        """There is a store in the directory, or the settings name the database of one."""
        return bool(self.settings.catalog) or self.place.catalog.exists()


Check = Callable[[Subject], Iterator[Finding]]


def ok(check: str, detail: str) -> Finding:
    return Finding(check, "ok", detail)


def warn(check: str, detail: str, do: str) -> Finding:
    return Finding(check, "warn", detail, do)


def bad(check: str, detail: str, do: str) -> Finding:
    return Finding(check, "bad", detail, do)
