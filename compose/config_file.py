"""The configuration file: one TOML file, flat, with a key for each setting.

It is the file that TRIVET_CONFIG (`--config`) names, else /etc/trivet/trivet.toml where that is there. The
environment and the options win over it. What can't be used in it is refused by name, with what to write.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compose.refusal import StartRefused
from compose.setting import FILE_SUFFIX

CONFIG_VARIABLE = "TRIVET_CONFIG"
SYSTEM_FILE = Path("/etc/trivet/trivet.toml")
NO_FILE = "none"
"""As the value of TRIVET_CONFIG: no file is read, the system's neither."""
FILE_BYTES_MAX = 1 << 20
_NEAR = 0.6
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Key:
    """A setting as TOML has it: an int, a str or a tuple (a list of texts), and how that becomes its text."""

    env: str
    kind: type
    render: Callable[[Any], str] = str
    secret: bool = False


def file_of(environment: Mapping[str, str]) -> Path | None:
    """The file in force; one that is named must be there."""
    named = environment.get(CONFIG_VARIABLE, "")
    if named == NO_FILE:
        return None
    if named:
        return Path(named)
    return SYSTEM_FILE if SYSTEM_FILE.exists() else None


def texts(path: Path, keys: Mapping[str, Key]) -> dict[str, str]:
    """What the file says, by key; `name_file` for a secret in a file of its own. Raises StartRefused."""
    found: dict[str, str] = {}
    for name, value in _tables(path).items():
        if name in keys:
            found[name] = _text(path, name, value, keys[name])
        elif _is_secret_file(name, keys):
            found[name] = _text(path, name, value, Key(name, str))
        else:
            raise StartRefused(_unknown(path, name, value, keys))
    return found


def _tables(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise StartRefused(f"the configuration file {path} can't be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise StartRefused(f"the configuration file {path} has more than {FILE_BYTES_MAX} bytes")
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise StartRefused(f"the configuration file {path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise StartRefused(f"the configuration file {path} is not TOML: {error}") from None


def _text(path: Path, name: str, value: object, key: Key) -> str:
    if key.secret and path.stat().st_mode & _OTHERS:
        raise StartRefused(
            f"{name} is a secret, and {path} can be read by others: write {name}_file with the path of a file "
            f"that holds it, or run: chmod 600 {path}"
        )
    if not _fits(value, key.kind):
        raise StartRefused(f"{name} in {path} can't be used: write {_wanted(name, value, key)}")
    return key.render(tuple(value)) if isinstance(value, list) else str(value)


def _fits(value: object, kind: type) -> bool:
    if kind is tuple:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, kind) and not isinstance(value, bool)


def _wanted(name: str, value: object, key: Key) -> str:
    """An example of the right kind, with the value that stands there where it can be kept."""
    if key.kind is int:
        whole = value if isinstance(value, str) and value.strip("-").isdecimal() else "NUMBER"
        return f"a whole number without quotes: {name} = {whole}"
    if key.kind is tuple:
        first = value if isinstance(value, str) and not key.secret else "…"
        return f'a list of texts: {name} = ["{first}"]'
    plain = value if isinstance(value, int | float) and not key.secret else "…"
    return f'text in quotes: {name} = "{plain}"'


def _is_secret_file(name: str, keys: Mapping[str, Key]) -> bool:
    plain = name.removesuffix(FILE_SUFFIX.lower())
    return plain != name and plain in keys and keys[plain].secret


def _unknown(path: Path, name: str, value: object, keys: Mapping[str, Key]) -> str:
    said = f"{name} in {path} is no setting of Trivet"
    if isinstance(value, dict):
        return f"[{said.replace(' in ', '] in ', 1)}: write the settings without a table above them"
    by_variable = {key.env: known for known, key in keys.items()}
    known = sorted({*keys, *(f"{key}{FILE_SUFFIX.lower()}" for key in keys if keys[key].secret)})
    meant = by_variable.get(name.upper()) or by_variable.get(f"TRIVET_{name.upper()}")
    near = [meant] if meant else difflib.get_close_matches(name.replace("-", "_").lower(), known, 1, _NEAR)
    if near:
        return f"{said}: write {near[0]}, or remove the line"
    return f"{said}: remove the line; `trivet config show` names all settings"
