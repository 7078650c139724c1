"""What a front or a steward that runs by itself needs around it: its run files, its listening socket.

Under `trivet up` the supervisor does both; here there is none.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Final

from compose import listening
from compose.data_dir import DataDir
from compose.refusal import StartRefused
from compose.running import pid_of
from compose.setting import host_and_port
from compose.settings import Settings

_FIRST_PASSED: Final = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


@contextmanager
def run_files(settings: Settings, name: str) -> Iterator[None]:
    """The process is known by DIR/run/NAME.pid while it runs. Raises StartRefused when another one of that name does,
    or the data directory can't be written.
    """
    place = DataDir(settings.data)
    running = pid_of(place, name)
    if running is not None and running != os.getpid():
        raise StartRefused(
            f"there is a {name} in {settings.data} already (process {running}): give another --name or --data"
        )
    path = place.pid_file(name)
    try:
        place.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.run.mkdir(mode=0o700, exist_ok=True)
        path.write_text(f"{os.getpid()}\n", encoding="ascii")
    except OSError as error:
        raise StartRefused(f"the data directory {settings.data} can't be used: {error.strerror}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def passed_descriptor(environment: MutableMapping[str, str]) -> int | None:
    """The listening socket that systemd, or what speaks as it does, passed to this process; None when it passed none.
    What says so is taken out of the environment, for it holds for this process alone. Raises StartRefused for several.
    """
    given, count = environment.get("LISTEN_PID", ""), environment.get("LISTEN_FDS", "")
    if given != str(os.getpid()):
        return None
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    if count != "1":
        raise StartRefused(f"LISTEN_FDS={count}: this process takes one socket")
    return _FIRST_PASSED


def own_listener(settings: Settings) -> socket.socket:
    """A socket on the address that `listen` names. Raises StartRefused."""
    if not settings.listen:
        raise StartRefused("where shall it listen? Give --listen HOST:PORT (or set TRIVET_LISTEN)")
    return listening.listen_on(*host_and_port(settings.listen))
