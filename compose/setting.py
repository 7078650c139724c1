"""What one setting is: how its text is checked and written, and which kinds of text there are.

A setting has one value in four writings: a Python value, the text of an option or an environment variable, and
what TOML has for it. The text is the common one: `parse` takes it, `render` makes it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_SUFFIX = "_FILE"
"""A secret NAME is also taken from the file that the variable NAME_FILE (in TOML: name_file) names."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_HOST_CHARACTERS = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class Setting:
    """How one field of `Settings` is written outside Python. `parse` raises ValueError, without the text when
    it is a `secret`: such a value has no option (others see those in `ps`), and is shown nowhere."""

    env: str
    help: str
    parse: Callable[[str], object]
    render: Callable[[Any], str] = str
    secret: bool = False

    @property
    def file_env(self) -> str:
        """The variable that names a file with the secret."""
        return self.env + FILE_SUFFIX


def about(
    env: str,
    help_text: str,
    parse: Callable[[str], object] = str,
    render: Callable[[Any], str] = str,
    *,
    secret: bool = False,
) -> dict[str, Setting]:
    """The metadata of a field."""
    return {"setting": Setting(env, help_text, parse, render, secret)}


def option_name(name: str) -> str:
    """`node_dirs` is given once per node, so its option is singular."""
    return "--" + ("node_dir" if name == "node_dirs" else name).replace("_", "-")


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return parse


def one_of(words: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return parse


def words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def render_words(several: tuple[str, ...]) -> str:
    return ",".join(several)


def paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(word) for word in text.split(os.pathsep) if word)


def render_paths(several: tuple[Path, ...]) -> str:
    return os.pathsep.join(str(path) for path in several)


def host_and_port(text: str) -> tuple[str, int]:
    """The parts of HOST:PORT; an IPv6 address stands in brackets. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        raise ValueError("must be HOST:PORT, as 10.0.0.5:9000 or [fd00::5]:9000")
    host = host[1:-1] if bracketed else host
    if not _HOST_CHARACTERS.fullmatch(host):
        raise ValueError("must name a host before the colon, as 10.0.0.5:9000; 0.0.0.0 is every address")
    return host, integer(0, 65_535)(port)


def address(text: str) -> str:
    """HOST:PORT to listen on, or none."""
    if text:
        host_and_port(text)
    return text


def reachable_address(text: str) -> str:
    """HOST:PORT that another machine connects to, or none."""
    if text:
        host, port = host_and_port(text)
        if port == 0 or host in {"0.0.0.0", "::"}:  # noqa: S104 (refused here)
            raise ValueError("must be an address that others can connect to, as 10.0.0.5:9100")
    return text


def front_urls(text: str) -> tuple[str, ...]:
    several = words(text)
    for url in several:
        if not re.fullmatch(r"https?://[^/@?#\s]+/?", url):
            raise ValueError("must be URLs of fronts with commas between them, as http://10.0.0.5:9000")
    return several


def node_name(text: str) -> str:
    if text and not _NAME.fullmatch(text):
        raise ValueError("must be 1 to 63 letters, digits, dots, dashes or underscores")
    return text


def postgresql_url(text: str) -> str:
    """Secret: no part of it stands in the error."""
    if text and not re.fullmatch(r"postgres(ql)?://\S+", text):
        raise ValueError("must be a URL like postgresql://USER:PASSWORD@HOST:5432/DATABASE, or empty")
    return text


def join_token(text: str) -> str:
    """Secret: no part of it stands in the error. That it is one of this cluster only the cluster can say."""
    if text and not re.fullmatch(r"trivet1\.[A-Za-z0-9_-]{16,256}={0,2}", text):
        raise ValueError("must be what `trivet token` prints, which begins with trivet1.")
    return text
