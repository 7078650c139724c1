"""A node that runs by itself tells the fronts where it is: at its start until one of them has written it down, and
from time to time afterwards, because an older catalog may have been restored meanwhile.

A few lines of HTTP of its own: a node's process loads no HTTP library.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import msgspec

from cluster.announcement import PATH, SEAL_HEADER, Announcement, Answer, seal
from compose.refusal import StartRefused

log = logging.getLogger("trivet.node")

WAIT_S_MIN: Final = 0.2
WAIT_S_MAX: Final = 10.0
AGAIN_S: Final = 30.0
ANSWER_S_MAX: Final = 15.0
ANSWER_BYTES_MAX: Final = 64 << 10


class NotAccepted(Exception):
    """A front said no, or nothing that makes sense."""


@dataclass(frozen=True, slots=True)
class FrontAddress:
    """Where a front listens, from a URL like http://front:9000."""

    host: str
    port: int
    encrypted: bool

    @classmethod
    def parse(cls, url: str) -> FrontAddress:
        """Raises StartRefused."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if host is None or parts.scheme not in {"http", "https"} or parts.path not in {"", "/"}:
            raise StartRefused(f"{url} is no front's URL: write http://HOST:PORT")
        encrypted = parts.scheme == "https"
        return cls(host, port or (443 if encrypted else 80), encrypted)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Announcer:
    """`announcement` makes the document for a moment (seconds since 1970)."""

    def __init__(
        self, fronts: Sequence[FrontAddress], secret: bytes, announcement: Callable[[float], Announcement]
    ) -> None:
        assert fronts
        self._fronts = fronts
        self._secret = secret
        self._announcement = announcement
        self._told = ""

    async def run(self) -> None:
        """Ends by cancellation only."""
        wait_s, turn = WAIT_S_MIN, 0
        while True:
            front = self._fronts[turn % len(self._fronts)]
            try:
                answer = await self._announce(front)
            except (OSError, TimeoutError, ssl.SSLError, NotAccepted) as error:
                self._tell(logging.WARNING, f"not joined by {front}: {error or type(error).__name__}")
                turn += 1
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, WAIT_S_MAX)
                continue
            self._tell(logging.INFO, f"joined by {front}, state {answer.state}")
            wait_s = WAIT_S_MIN
            await asyncio.sleep(AGAIN_S)

    def _tell(self, level: int, what: str) -> None:
        if what != self._told:
            log.log(level, "%s", what)
        self._told = what

    async def _announce(self, front: FrontAddress) -> Answer:
        body = msgspec.json.encode(self._announcement(time.time()))
        async with asyncio.timeout(ANSWER_S_MAX):
            reader, writer = await asyncio.open_connection(
                front.host, front.port, ssl=ssl.create_default_context() if front.encrypted else None
            )
            try:
                writer.write(
                    f"POST {PATH} HTTP/1.1\r\nhost: {front}\r\ncontent-type: application/json\r\n"
                    f"{SEAL_HEADER}: {seal(self._secret, body)}\r\ncontent-length: {len(body)}\r\n"
                    "connection: close\r\n\r\n".encode("ascii")
                    + body
                )
                return _understood(await _whole(reader))
            finally:
                writer.close()


async def _whole(reader: asyncio.StreamReader) -> bytes:
    """All until the front closes, which it was asked to do after its answer."""
    said = b""
    while piece := await reader.read(ANSWER_BYTES_MAX):
        said += piece
        if len(said) > ANSWER_BYTES_MAX:
            raise NotAccepted("the answer is too long")
    return said


def _understood(said: bytes) -> Answer:
    head, _, body = said.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    try:
        answer = msgspec.json.decode(body, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = Answer()
    if len(status) < 2 or status[1] != b"200" or not answer.state:
        raise NotAccepted(answer.problem or f"the answer was {head[:80].decode('latin-1')!r}")
    return answer
