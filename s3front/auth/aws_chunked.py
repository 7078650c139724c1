"""``aws-chunked`` bodies: chunks with sizes, signatures and trailers inside the HTTP body (sans-I/O).

    size;chunk-signature=hex64 CRLF data CRLF …  0;chunk-signature=hex64 CRLF  trailers CRLF

Signed chunks form a chain that begins with the request's own signature. The unsigned form has sizes and trailers
only; it, too, is decoded only for a caller whose request was authenticated: there is no decoder without an Identity
(FIELD: unsigned-trailer uploads without credentials).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from enum import Enum, auto
from hashlib import sha256

from s3front.auth.payload import Payload
from s3front.auth.sigv4 import Identity
from s3front.errors import (
    IncompleteBody,
    InvalidArgument,
    MalformedTrailerError,
    MissingContentLength,
    SignatureDoesNotMatch,
)

CHUNK_HEADER_BYTES_MAX = 512
TRAILER_BYTES_MAX = 4096
SIZE_DIGITS_MAX = 16

HELD_BYTES_MAX = 1 << 20
"""Signed chunks up to this size are held back until their signature is verified. SDKs send 64 to 128 KiB."""

TRAILER_SIGNATURE = "x-amz-trailer-signature"

_HEX_DIGITS = b"0123456789abcdefABCDEF"
_EMPTY_SHA256 = sha256(b"").hexdigest().encode()


class _State(Enum):
    CHUNK_HEADER = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    DONE = auto()


def decoded_length(headers: Mapping[str, str]) -> int:
    """Bytes of the object in an aws-chunked body. Raises MissingContentLength, InvalidArgument."""
    value = headers.get("x-amz-decoded-content-length")
    if value is None:
        raise MissingContentLength
    if not (value.isascii() and value.isdigit()) or len(value) > 19:
        raise InvalidArgument(
            "x-amz-decoded-content-length must be a non-negative integer.",
            ArgumentName="x-amz-decoded-content-length",
            ArgumentValue=value,
        )
    return int(value)


def trailer_names(headers: Mapping[str, str]) -> frozenset[str]:
    """Lower-case names that ``x-amz-trailer`` announces."""
    names = (part.strip().lower() for part in headers.get("x-amz-trailer", "").split(","))
    return frozenset(name for name in names if name)


class ChunkedDecoder:
    """Takes the HTTP body as it comes and gives out the object's bytes.

    A signed chunk of up to HELD_BYTES_MAX is given out once its signature is verified; a longer one is given out
    as it comes, so that memory stays bounded (P8). Either way nothing may be committed before ``finish`` has
    returned: only then are the length, every signature and the trailers proved.
    """

    def __init__(self, identity: Identity, headers: Mapping[str, str]) -> None:
        """`identity.payload` says which form the body has. Raises MissingContentLength, InvalidArgument."""
        assert identity.payload.is_chunked
        self._identity = identity
        self._signed = identity.payload is not Payload.UNSIGNED_CHUNKS_TRAILER
        self._signature = identity.signature
        self._trailer_names = trailer_names(headers)
        self._missing = decoded_length(headers)
        self._state = _State.CHUNK_HEADER
        self._line = bytearray()
        self._trailer_bytes = 0
        self._trailer: list[tuple[str, str]] = []
        self._chunk_missing = 0
        self._chunk_signature = b""
        self._chunk_hash = sha256()
        self._holds_back = False
        self._held: list[memoryview] = []

    @property
    def trailers(self) -> dict[str, str]:
        """The trailers, their names as announced; complete and proved once ``finish`` returned."""
        return dict(self._trailer)

    def finish(self) -> None:
        """To be called at the end of the HTTP body. Raises IncompleteBody unless everything has come."""
        if self._state is not _State.DONE:
            raise IncompleteBody

    def feed(self, data: bytes) -> list[memoryview]:
        """The object's bytes in `data`, as views of it, after those held back from before.

        Raises IncompleteBody for framing and lengths, SignatureDoesNotMatch, MalformedTrailerError; the decoder is
        of no more use then.
        """
        out: list[memoryview] = []
        position = 0
        while position < len(data):
            if self._state is _State.DATA:
                position = self._take_data(data, position, out)
                continue
            limit = TRAILER_BYTES_MAX if self._state is _State.TRAILER else CHUNK_HEADER_BYTES_MAX
            position, line = self._take_line(data, position, limit)
            if line is None:
                break
            self._take_control(line, out)
        return out

    def _take_line(self, data: bytes, position: int, limit: int) -> tuple[int, bytes | None]:
        """A whole line without its CRLF, or None while it is incomplete; and where to read on."""
        while position < len(data):
            end = data.find(b"\n", position, position + limit)
            stop = min(position + limit, len(data)) if end < 0 else end + 1
            self._line += data[position:stop]
            position = stop
            if self._line.endswith(b"\r\n"):
                line = bytes(self._line[:-2])
                self._line.clear()
                return position, line
            if len(self._line) > limit:
                raise IncompleteBody
        return position, None

    def _take_control(self, line: bytes, out: list[memoryview]) -> None:
        if self._state is _State.CHUNK_HEADER:
            self._begin_chunk(line)
        elif self._state is _State.DATA_END:
            if line:
                raise IncompleteBody
            self._end_chunk(out)
            self._state = _State.CHUNK_HEADER
        elif self._state is _State.TRAILER:
            self._take_trailer(line)
        else:
            raise MalformedTrailerError

    # -- chunks ----------------------------------------------------------------------------------------------

    def _begin_chunk(self, line: bytes) -> None:
        size, _, extension = line.partition(b";")
        if not size or len(size) > SIZE_DIGITS_MAX or size.strip(_HEX_DIGITS):
            raise IncompleteBody
        self._chunk_missing = int(size, 16)
        if self._chunk_missing > self._missing:
            raise IncompleteBody
        if self._signed:
            name, _, self._chunk_signature = extension.partition(b"=")
            if name.strip() != b"chunk-signature":
                raise IncompleteBody
            self._chunk_hash = sha256()
            self._holds_back = self._chunk_missing <= HELD_BYTES_MAX
        if self._chunk_missing:
            self._state = _State.DATA
            return
        if self._missing:
            raise IncompleteBody
        self._end_chunk([])
        self._state = _State.TRAILER

    def _take_data(self, data: bytes, position: int, out: list[memoryview]) -> int:
        stop = min(position + self._chunk_missing, len(data))
        piece = memoryview(data)[position:stop]
        if self._signed:
            self._chunk_hash.update(piece)
        (self._held if self._holds_back else out).append(piece)
        self._chunk_missing -= len(piece)
        self._missing -= len(piece)
        if not self._chunk_missing:
            self._state = _State.DATA_END
        return stop

    def _end_chunk(self, out: list[memoryview]) -> None:
        if self._signed:
            digest = self._chunk_hash.hexdigest().encode()
            self._check_link(
                b"AWS4-HMAC-SHA256-PAYLOAD", _EMPTY_SHA256 + b"\n" + digest, self._chunk_signature
            )
        out += self._held
        self._held.clear()

    def _check_link(self, kind: bytes, content: bytes, signature: bytes) -> None:
        """Verify the next signature of the chain."""
        who = self._identity
        to_sign = b"\n".join((kind, who.timestamp, who.scope, self._signature, content))
        self._signature = hmac.digest(who.signing_key, to_sign, "sha256").hex().encode()
        if not hmac.compare_digest(self._signature, signature):
            raise SignatureDoesNotMatch(
                AWSAccessKeyId=who.access_key,
                StringToSign=to_sign.decode("utf-8", "replace"),
                SignatureProvided=signature.decode("utf-8", "replace"),
                StringToSignBytes=to_sign.hex(" "),
            )

    # -- trailers --------------------------------------------------------------------------------------------

    def _take_trailer(self, line: bytes) -> None:
        """One line of the trailer; some clients end a field by LF before the line's CRLF."""
        self._trailer_bytes += len(line)
        if self._trailer_bytes > TRAILER_BYTES_MAX:
            raise MalformedTrailerError
        if not line:
            self._end_trailer()
            self._state = _State.DONE
            return
        for field in line.rstrip(b"\n").split(b"\n"):
            name, colon, value = field.decode("latin-1").partition(":")
            if not colon:
                raise MalformedTrailerError
            self._trailer.append((name.strip().lower(), value.strip()))

    def _end_trailer(self) -> None:
        """Raise unless exactly the announced trailers came, each once, and their signature holds."""
        signature: str | None = None
        if self._identity.payload is Payload.SIGNED_CHUNKS_TRAILER:
            if not self._trailer or self._trailer[-1][0] != TRAILER_SIGNATURE:
                raise MalformedTrailerError
            signature = self._trailer.pop()[1]
        names = [name for name, _ in self._trailer]
        if len(names) != len(self._trailer_names) or set(names) != self._trailer_names:
            raise MalformedTrailerError
        if signature is not None:
            text = "".join(f"{name}:{value}\n" for name, value in self._trailer)
            digest = sha256(text.encode("latin-1")).hexdigest().encode()
            self._check_link(b"AWS4-HMAC-SHA256-TRAILER", digest, signature.encode("latin-1"))
