"""The bytes of a sealed blob on their way to a client: verified and decrypted chunk by chunk, never before (S24)."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from catalog.model import BlobRow
from cluster.blob_reader import BlobReader
from cluster.errors import BlobUnreadable
from codec.block import Buffer
from codec.sealing import STORED_CHUNK_BYTES, NotAuthentic, Opener, stored_span

INLINE_BYTES_MAX = 256 << 10
"""Up to here a thread costs more than it takes off the event loop."""


class OpenedStream:
    """As cluster.blob_reader.BlobStream, of the plaintext [start, stop) of a sealed blob; `start < stop`. The caller
    closes it. What it hands out has the size of what the stream below holds budget for."""

    def __init__(
        self, reader: BlobReader, blob: BlobRow, start: int, stop: int, *, data_key: bytes, threads: Executor
    ) -> None:
        assert blob.seal is not None, "a sealed blob has a seal"
        span = stored_span(start, stop, blob.size)
        self._stream = reader.open(blob, span.start, span.stop)
        self._opener = Opener(data_key, blob.seal, blob.size)
        self._blob = blob
        self._threads = threads
        self._chunk = span.chunk
        self._stored_left = span.stop - span.start
        self._skip = span.skip
        self._plain_left = stop - start
        self._begun: bytes = b""  # of a chunk, whose end is in the next stripe

    async def next(self) -> list[Buffer] | None:
        """The next bytes in order, all of them verified; None at the end. Raises as BlobStream's, and BlobUnreadable
        when what is stored is not what was sealed, so also for another object's data key."""
        while self._plain_left:
            pieces = await self._stream.next()
            if pieces is None:
                raise self._unreadable("it ends too early")
            stored = b"".join((self._begun, *pieces))
            self._stored_left -= len(stored) - len(self._begun)
            whole = len(stored) if not self._stored_left else len(stored) - len(stored) % STORED_CHUNK_BYTES
            self._begun = stored[whole:]
            if whole:
                return [await self._opened(memoryview(stored)[:whole])]
        return None

    async def _opened(self, stored: Buffer) -> Buffer:
        chunk, opener = self._chunk, self._opener
        self._chunk += -(-len(stored) // STORED_CHUNK_BYTES)
        try:
            if len(stored) <= INLINE_BYTES_MAX:
                plain = opener.open(chunk, stored)
            else:
                plain = await asyncio.get_running_loop().run_in_executor(
                    self._threads, opener.open, chunk, stored
                )
        except NotAuthentic as fault:
            raise self._unreadable(str(fault)) from None
        wanted = memoryview(plain)[self._skip : self._skip + self._plain_left]
        self._skip = 0
        self._plain_left -= len(wanted)
        return wanted

    def _unreadable(self, reason: str) -> BlobUnreadable:
        stripe = self._chunk * STORED_CHUNK_BYTES // self._blob.stripe_bytes
        return BlobUnreadable(self._blob.id, stripe, reason)

    def close(self) -> None:
        """Give the budget back. May be called twice."""
        self._stream.close()
