"""Small HTTP servers that answer as a test says: raw bytes for each request."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

PIECE_BYTES = 50_000
"""Answers are sent in pieces of so many, so that a client must put them together."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    """Decoded, without the query."""
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Served:
    """What a server was asked so far, in the order in which it took the requests."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)


Behaviour = Callable[[Asked], bytes | None]
"""The answer's bytes; None closes the connection without one."""


@contextmanager
def serving(behave: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[Served]:
    """A server on a free port of this machine that serves any number of connections."""
    served = Served()
    lock = threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            while (asked := self._read()) is not None:
                with lock:
                    served.asked.append(asked)
                answer = behave(asked)
                if answer is None:
                    return
                for start in range(0, len(answer), PIECE_BYTES):
                    self.wfile.write(answer[start : start + PIECE_BYTES])
                if b"connection: close" in answer[:1000].lower():
                    return

        def _read(self) -> Asked | None:
            line = self.rfile.readline()
            if not line:
                return None
            method, target, _ = line.decode().split()
            headers = {}
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            path, _, query = target.partition("?")
            body = self.rfile.read(int(headers.get("content-length", "0")))
            return Asked(method, unquote(path), query, headers, body)

        def finish(self) -> None:
            try:
                super().finish()
            except OSError:  # the client has left, as some tests have it do
                self.rfile.close()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def get_request(self) -> tuple[socket.socket, Any]:
            sock, address = super().get_request()
            return (sock if tls is None else tls.wrap_socket(sock, server_side=True)), address

        def handle_error(self, *_: object) -> None:
            """A client that leaves is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        served.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def answer(status: int = 200, body: bytes = b"", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status} Said\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Keeper:
    """Keeps what is PUT and gives it back; says 404 to what it has not."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def __call__(self, asked: Asked) -> bytes:
        if asked.method == "PUT":
            self.kept[asked.path] = asked.body
            return answer(headers=f'ETag: "{len(self.kept)}"\r\n')
        if asked.method == "DELETE":
            self.kept.pop(asked.path, None)
            return b"HTTP/1.1 204 Gone\r\n\r\n"
        found = self.kept.get(asked.path)
        if found is None:
            return answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        if asked.method == "HEAD":
            return f"HTTP/1.1 200 OK\r\nContent-Length: {len(found)}\r\n\r\n".encode()
        return answer(200, found)
