"""What a handler hands back to the pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

Header = tuple[bytes, bytes]

XML_CONTENT_TYPE: Header = (b"content-type", b"application/xml")


@dataclass(slots=True)
class Response:
    """Status, headers and either the whole body or a stream of pieces whose length `content_length` tells.

    The first piece of a stream must have been verified before the response is made: the status line leaves with it.
    """

    status: int = 200
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""
    stream: AsyncIterator[Buffer] | None = None
    content_length: int | None = None
    """Bytes the client is told of; None means the length of `body`."""


def xml_response(body: bytes, status: int = 200) -> Response:
    """An XML document as S3 sends it."""
    return Response(status, [XML_CONTENT_TYPE], body)


def header(name: str, value: str) -> Header:
    """An ASGI header from text; what Latin-1 can't hold must have been encoded before (s3front.wire.headers)."""
    return name.encode("latin-1"), value.encode("latin-1")
