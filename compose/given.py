"""What the environment and, below it, the configuration file say of each setting; and secrets from files.

An empty variable counts as not set. A secret NAME is given by the variable NAME, by a file that NAME_FILE names,
or likewise in the configuration file; two ways at once, in the same place, are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compose import config_file
from compose.config_file import Key
from compose.refusal import StartRefused
from compose.setting import FILE_SUFFIX

SECRET_BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class Found:
    """A setting's text, and where it comes from, as a person knows that place."""

    text: str = field(repr=False)
    source: str


class Given:
    """Raises StartRefused, from the constructor for the configuration file and from the rest for a secret that
    can't be read."""

    def __init__(self, environment: Mapping[str, str], keys: Mapping[str, Key]) -> None:
        self._environment = environment
        self._keys = keys
        self.path = config_file.file_of(environment)
        self._in_file = config_file.texts(self.path, keys) if self.path is not None else {}

    @property
    def variables(self) -> frozenset[str]:
        """All that are looked for."""
        files = {key.env + FILE_SUFFIX for key in self._keys.values() if key.secret}
        return frozenset({key.env for key in self._keys.values()} | files | {config_file.CONFIG_VARIABLE})

    def find(self, name: str) -> Found | None:
        """None: neither place says anything of it."""
        key = self._keys[name]
        for texts, plain, suffix, place in (
            (self._environment, key.env, FILE_SUFFIX, ""),
            (self._in_file, name, FILE_SUFFIX.lower(), f" in {self.path}"),
        ):
            text = texts.get(plain, "")
            in_file = texts.get(plain + suffix, "") if key.secret else ""
            if text and in_file:
                raise StartRefused(f"{plain} and {plain}{suffix}{place} are both set: keep one of them")
            if text:
                return Found(text, plain + place)
            if in_file:
                return Found(_secret_in(Path(in_file), plain + suffix), f"{in_file} ({plain}{suffix}{place})")
        return None

    def to_environment(self, names: Iterable[str]) -> dict[str, str]:
        """Variables by which a process that reads no configuration file finds the same secrets; they stay in
        their files."""
        variables = {}
        for name in names:
            env = self._keys[name].env
            if self._environment.get(env) or self._environment.get(env + FILE_SUFFIX):
                continue
            if text := self._in_file.get(name):
                variables[env] = text
            elif path := self._in_file.get(name + FILE_SUFFIX.lower()):
                variables[env + FILE_SUFFIX] = os.path.abspath(path)
        return variables


def _secret_in(path: Path, named_by: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise StartRefused(f"{path}, which {named_by} names, can't be read: {error.strerror}") from None
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(content) > SECRET_BYTES_MAX:
        raise StartRefused(f"{path}, which {named_by} names, must hold the secret as text and nothing else")
    return text
