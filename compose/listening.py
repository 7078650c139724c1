"""The sockets that the supervisor listens on for its children, and keeps while a child is restarted (S27)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compose.refusal import StartRefused

BACKLOG = 2048
UNIX_PATH_BYTES_MAX = 107
"""sun_path of unix(7) has 108 bytes, the last of them zero."""


def listen_s3(host: str, port: int) -> socket.socket:
    """The S3 endpoint's socket. Raises StartRefused, naming the port and what to type, when it can't be
    had.
    """
    return _listen_tcp(host, port, "make up PORT=9001 (or trivet up --port 9001)")


def listen_on(host: str, port: int) -> socket.socket:
    """The socket of a process that runs by itself. Raises as `listen_s3` does."""
    return _listen_tcp(host, port, "--listen HOST:PORT")


def _listen_tcp(host: str, port: int, choice: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise StartRefused(f"the address {host} can't be used: {error.strerror}") from None
    try:
        return _listen(family, kind, protocol, address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartRefused(
                f"port {port} on {host} is taken by another program; choose another one: {choice}"
            ) from None
        raise StartRefused(f"can't listen on {host} port {port}: {error.strerror}") from None


def listen_node(path: Path) -> socket.socket:
    """The socket of one storage node: a Unix socket at `path`, which costs less than the loopback and is
    open to nobody else; on a free port of this machine where the path is too long. Only for the holder of
    the data directory: a socket left there by an earlier life is replaced.
    """
    if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
        return _listen(socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.1", 0))
    path.unlink(missing_ok=True)
    return _listen(socket.AF_UNIX, socket.SOCK_STREAM, 0, str(path))


def listen_control(path: Path) -> socket.socket:
    """A Unix socket that only this user may connect to, whatever the length of its path."""
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        with short_name(path) as name:
            return _listen(socket.AF_UNIX, socket.SOCK_STREAM, 0, name)
    finally:
        os.umask(before)


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A name of `path` that fits into a Unix socket's address; valid inside the block, in this process."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def address(listener: socket.socket) -> tuple[str, int]:
    """Where a link finds a node: host and port, or the path of a Unix socket and 0."""
    name = listener.getsockname()
    return (name, 0) if listener.family == socket.AF_UNIX else (name[0], name[1])


def _listen(family: int, kind: int, protocol: int, address: object) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        if family != socket.AF_UNIX:
            # A port whose last connections are still in TIME_WAIT is free; one that is listened on is not.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)  # type: ignore[arg-type]
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def url(listener: socket.socket) -> str:
    """The endpoint as a client on this machine types it: a wildcard address is reached over the loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{host}:{port}"
