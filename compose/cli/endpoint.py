"""Where clients reach the store, for the lines that commands give people to paste."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from compose import running
from compose.catalog_place import catalog_of
from compose.data_dir import DataDir
from compose.refusal import StartRefused
from compose.setting import host_and_port, option_name
from compose.settings import Settings

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 (compared with)


class Endpoint(NamedTuple):
    url: str
    region: str


def endpoint(settings: Settings) -> Endpoint:
    """Of the `trivet up` that runs here, else of a front that runs here by itself, else of the fronts that nodes are
    told to join; else, for a catalog in a file, where a `trivet up` would listen. A word in capitals stands for what is
    not known here.
    """
    place = DataDir(settings.data)
    supervisor = running.supervisor_pid(place)
    if supervisor is not None:
        started = _started_with(settings, supervisor)
        return Endpoint(_url(started.host, started.port), started.region)
    for name, pid in running.processes(place).items():
        if name.startswith("front"):
            started = _started_with(settings, pid)
            if started.listen:
                return Endpoint(_url(*host_and_port(started.listen)), started.region)
    if settings.join:
        return Endpoint(settings.join[0].rstrip("/"), settings.region)
    if isinstance(catalog_of(settings), Path):
        return Endpoint(_url(settings.host, settings.port), settings.region)
    return Endpoint("http://FRONT:PORT", settings.region)


def _url(host: str, port: int) -> str:
    name = _EVERYWHERE.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port or 'PORT'}"


def _started_with(settings: Settings, pid: int) -> Settings:
    """It may have been started with another port, address or region than those here. What it was told of and can't be
    read from here stands in nobody's way: a secret that is shown once waits for this.
    """
    flags = {name: _option_of(pid, option_name(name)) for name in ("listen", "region")}
    try:
        return Settings.read(running.environment_of(pid) or os.environ, {"data": settings.data, **flags})
    except StartRefused:
        return settings


def _option_of(pid: int, option: str) -> str | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
    except OSError:
        return None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return None
