"""What a handler hands back to the pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from codec.block import Buffer

Header = tuple[bytes, bytes]

XML_CONTENT_TYPE: Header = (b"content-type", b"application/xml")


class Rest(Protocol):
    """The pieces of a body that are still to come. `aclose` gives back what they hold, also before the first."""

    def __aiter__(self) -> AsyncIterator[Buffer]: ...

    async def aclose(self) -> None: ...


@dataclass(slots=True)
class Response:
    """Status, headers, and a body that is in memory, followed by one that is still to come.

    The first piece of an object must have been verified before its response is made: the status line leaves with it.
    """

    status: int = 200
    headers: list[Header] = field(default_factory=list)
    body: Sequence[Buffer] = ()
    rest: Rest | None = None
    content_length: int | None = None
    """Bytes the client is told of; None means those of `body`."""


def xml_response(body: bytes, status: int = 200) -> Response:
    """An XML document as S3 sends it."""
    return Response(status, [XML_CONTENT_TYPE], (body,))


def header(name: str, value: str) -> Header:
    """An ASGI header from text; what Latin-1 can't hold must have been encoded before (s3front.wire.headers)."""
    return name.encode("latin-1"), value.encode("latin-1")
