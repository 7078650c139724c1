"""The body of a request: framing taken off, length checked, read in bounded memory, hashed on the way.

A body is read once. Small ones are read whole; large ones are cut into stripes while the hashes run in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Executor

from catalog.model import Checksum
from codec.block import Buffer
from codec.sealing import CHUNK_BYTES, Sealer
from s3front import errors
from s3front.auth.aws_chunked import ChunkedDecoder, decoded_length
from s3front.request import Request
from s3front.services import FrontServices
from s3front.wire import checksums
from s3front.wire.checksums import ALGORITHMS, Algorithm, Declared

DEFAULT_ALGORITHM = ALGORITHMS["CRC64NVME"]
"""What S3 computes for uploads that declare no checksum ("Checking object integrity")."""

SEALED_AT_ONCE_BYTES = 4 * CHUNK_BYTES
"""What is encrypted lies in memory twice, beside the budget for stripes: so it is little, yet worth a thread."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete; there is nobody to answer."""


class Body:
    """One request's payload, of `size` bytes without framing.

    Raises, while it is read: ClientGone, IncompleteBody, and what s3front.auth.aws_chunked finds wrong.
    """

    def __init__(self, request: Request, bytes_max: int) -> None:
        """Raises MissingContentLength, InvalidArgument, or EntityTooLarge above `bytes_max`."""
        self._request = request
        chunked = request.identity.payload.is_chunked
        self._decoder = ChunkedDecoder(request.identity, request.headers) if chunked else None
        size = decoded_length(request.headers) if chunked else request.content_length
        if size is None:
            raise errors.MissingContentLength
        if size > bytes_max:
            raise errors.EntityTooLarge(ProposedSize=size, MaxSizeAllowed=bytes_max)
        self.size = size

    @property
    def trailers(self) -> dict[str, str]:
        """Trailing headers, lower-case names; complete once the body has been read."""
        return self._decoder.trailers if self._decoder else {}

    async def pieces(self) -> AsyncGenerator[Buffer]:
        """The payload in pieces as they arrive; ends only when all of `size` was there."""
        request, decoder = self._request, self._decoder
        received = 0
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message["more_body"]
            data = message["body"]
            for piece in decoder.feed(data) if decoder else (data,):
                received += len(piece)
                if received > self.size:
                    raise errors.IncompleteBody
                yield piece
        if decoder:
            decoder.finish()
        if received != self.size:
            raise errors.IncompleteBody
        request.body_consumed = True

    async def read(self) -> bytes:
        """The whole payload; for bodies whose `bytes_max` is small."""
        pieces = [piece async for piece in self.pieces()]
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)


def is_unannounced(request: Request) -> bool:
    """Whether the body comes in HTTP's own chunks, and nothing says how long it is."""
    chunked = request.identity.payload.is_chunked
    return not chunked and request.content_length is None and "transfer-encoding" in request.headers


async def read_unannounced(request: Request, bytes_max: int) -> bytes:
    """A body of unknown length, which may be short but not long: AWS takes none at all. Raises MissingContentLength for
    a longer one, ClientGone."""
    data = bytearray()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        more = message["more_body"]
        data += message["body"]
        if len(data) > bytes_max:
            raise errors.MissingContentLength
    request.body_consumed = True
    return bytes(data)


async def cut_stripes(pieces: AsyncIterator[Buffer], stripe_bytes: int) -> AsyncGenerator[bytes]:
    """`pieces` joined and cut into `stripe_bytes`, the last one shorter. Never holds more than one stripe."""
    parts: list[Buffer] = []
    filled = 0
    async for piece in pieces:
        view = memoryview(piece)
        while filled + len(view) >= stripe_bytes:
            cut = stripe_bytes - filled
            parts.append(view[:cut])
            yield b"".join(parts)
            parts, filled, view = [], 0, view[cut:]
        if view:
            parts.append(view)
            filled += len(view)
    if filled:
        yield b"".join(parts)


class Digests:
    """All hashes of one payload: the MD5 of its ETag, its checksum, and the one that its signature names."""

    def __init__(
        self,
        algorithm: Algorithm,
        *,
        declared: Declared | None = None,
        md5_expected: bytes | None = None,
        sha256_expected: str | None = None,
    ) -> None:
        """`algorithm` is that of the checksum to keep; `declared` says where the client's own is to be found."""
        self._declared = declared
        self._algorithm = algorithm
        self._checksum = algorithm.new()
        self._announced = (
            self._checksum
            if declared is None or declared.algorithm is algorithm
            else declared.algorithm.new()
        )
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._md5_expected = md5_expected
        self._sha256 = hashlib.sha256() if sha256_expected else None
        self._sha256_expected = sha256_expected

    @classmethod
    def of_request(
        cls, request: Request, algorithm: Algorithm | None = None, *, of_object: bool = False
    ) -> Digests:
        """What this request's body must agree with; `algorithm` is that of the checksum to keep. With `of_object` the
        checksum that the request declares is that of an object, and not of the body.

        Without one it is the algorithm the request declares, or else the default. Raises InvalidDigest for a
        malformed Content-MD5, InvalidRequest for a malformed checksum.
        """
        declared = None if of_object else checksums.declared_checksum(request.headers)
        return cls(
            algorithm or (declared.algorithm if declared else DEFAULT_ALGORITHM),
            declared=declared,
            md5_expected=checksums.content_md5(request.headers),
            sha256_expected=request.identity.payload_sha256,
        )

    def update(self, piece: Buffer) -> None:
        """Take in the next bytes. Thread-safe as long as calls follow one another."""
        self._md5.update(piece)
        if self._sha256 is not None:
            self._sha256.update(piece)
        self._checksum.update(piece)
        if self._announced is not self._checksum:
            self._announced.update(piece)

    @property
    def md5_hex(self) -> str:
        """The payload's ETag."""
        return self._md5.hexdigest()

    def verify(self, trailers: dict[str, str]) -> Checksum:
        """The payload's checksum, once every hash the client sent agrees with ours.

        Raises BadDigest, XAmzContentSHA256Mismatch, or InvalidRequest for a missing or malformed trailer.
        """
        checksums.check_md5(self._md5_expected, self._md5.digest())
        if self._sha256 is not None and self._sha256_expected is not None:
            computed = self._sha256.hexdigest()
            if not hmac.compare_digest(computed, self._sha256_expected):
                raise errors.XAmzContentSHA256Mismatch(
                    ClientComputedContentSHA256=self._sha256_expected, S3ComputedContentSHA256=computed
                )
        if self._declared is not None:
            self._declared.verify(self._announced, trailers)
        return Checksum(self._algorithm.name, "FULL_OBJECT", checksums.value_of(self._checksum))

    @property
    def echo(self) -> Checksum:
        """The checksum to answer with: the one the client declared, if it did."""
        algorithm = self._declared.algorithm if self._declared is not None else self._algorithm
        return Checksum(algorithm.name, "FULL_OBJECT", checksums.value_of(self._announced))


async def read_body(
    services: FrontServices, request: Request, bytes_max: int, *, of_object: bool = False
) -> bytes:
    """A whole small body (an XML document) with all its digests verified; its bytes come out of the budget (P8).

    Raises MaxMessageLengthExceeded above `bytes_max`, and what Body and Digests raise. A request without
    Content-Length has an empty body. `of_object` as in `Digests.of_request`.
    """
    if request.content_length is None and "transfer-encoding" not in request.headers:
        return b""
    digests = Digests.of_request(request, of_object=of_object)
    try:
        body = Body(request, bytes_max)
    except errors.EntityTooLarge:
        raise errors.MaxMessageLengthExceeded(MaxMessageLengthBytes=bytes_max) from None
    if not services.budget.try_acquire(body.size):
        await services.budget.acquire(body.size)
    try:
        data = await body.read()
    finally:
        services.budget.release(body.size)
    digests.update(data)
    digests.verify(body.trailers)
    return data


async def hashed_stripes(
    pieces: AsyncIterator[Buffer], digests: Digests, stripe_bytes: int, threads: Executor
) -> AsyncGenerator[bytes]:
    """The stripes of `pieces`, each hashed in a thread while the one before it is on its way to the nodes."""
    loop = asyncio.get_running_loop()
    hashing: asyncio.Future[None] | None = None
    async for stripe in cut_stripes(pieces, stripe_bytes):
        if hashing is not None:
            await hashing
        hashing = loop.run_in_executor(threads, digests.update, stripe)
        yield stripe
    if hashing is not None:
        await hashing


async def sealed_stripes(
    pieces: AsyncIterator[Buffer], digests: Digests, sealer: Sealer, stripe_bytes: int, threads: Executor
) -> AsyncGenerator[bytes]:
    """The stripes of what `pieces` are when they are sealed; the digests are those of the plaintext."""
    async for stripe in cut_stripes(_sealed(pieces, digests, sealer, threads), stripe_bytes):
        yield stripe


async def _sealed(
    pieces: AsyncIterator[Buffer], digests: Digests, sealer: Sealer, threads: Executor
) -> AsyncGenerator[bytes]:
    """Hashed and sealed in a thread while the next pieces arrive."""

    def work(plain: bytes) -> bytes:
        digests.update(plain)
        return sealer.seal(plain)

    loop = asyncio.get_running_loop()
    sealing: asyncio.Future[bytes] | None = None
    async for plain in cut_stripes(pieces, SEALED_AT_ONCE_BYTES):
        # One batch after the other, for hashes and nonces have an order; each while the one before it leaves.
        sealed = None if sealing is None else await sealing
        sealing = loop.run_in_executor(threads, work, plain)
        if sealed is not None:
            yield sealed
    if sealing is not None:
        yield await sealing
