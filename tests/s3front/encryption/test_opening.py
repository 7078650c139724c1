"""Sealed bytes on their way in and out, without nodes: stripes of any length, and nothing handed out that was not
verified (S24)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.model import BlobRow
from cluster.blob_reader import BlobReader
from cluster.errors import BlobUnreadable
from codec.block import Buffer
from codec.sealing import CHUNK_BYTES, STORED_CHUNK_BYTES, Sealer, sealed_size
from s3front.body import Digests, hashed_stripes, sealed_stripes
from s3front.encryption.opening import OpenedStream
from s3front.wire.checksums import ALGORITHMS

KEY, SEAL = bytes(range(32)), bytes(range(16))
PLAIN = os.urandom(20 * CHUNK_BYTES + 99)
STORED = Sealer(KEY, SEAL, len(PLAIN)).seal(PLAIN)


class Stored:
    """As a BlobReader's stream: stored bytes, stripe by stripe."""

    def __init__(self, stored: bytes, stripe_bytes: int) -> None:
        self.stored, self.stripe_bytes = stored, stripe_bytes
        self.closed = 0

    def open(self, _: BlobRow, start: int, stop: int) -> Stored:
        self.at, self.stop = start, stop
        return self

    async def next(self) -> list[Buffer] | None:
        end = min((self.at // self.stripe_bytes + 1) * self.stripe_bytes, self.stop, len(self.stored))
        piece, self.at = self.stored[self.at : end], end
        half = len(piece) // 2
        return [piece[:half], memoryview(piece)[half:]] if piece else None

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(scope="module")
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def blob(stored_bytes: int, stripe_bytes: int, seal: bytes = SEAL) -> BlobRow:
    return BlobRow(bytes(16), stored_bytes, 2, 1, stripe_bytes, 1, 1, (1, 2, 3), seal=seal)


def opened(
    threads: Executor, stored: bytes, start: int, stop: int, stripe_bytes: int = 1 << 20, **other: Any
) -> tuple[OpenedStream, Stored]:
    below = Stored(stored, stripe_bytes)
    row = blob(other.get("size", len(stored)), stripe_bytes, other.get("seal", SEAL))
    key = other.get("key", KEY)
    return OpenedStream(cast(BlobReader, below), row, start, stop, data_key=key, threads=threads), below


async def read(stream: OpenedStream, got: bytearray | None = None) -> bytes:
    """All of it; `got` has what came before an error."""
    got = bytearray() if got is None else got
    while (pieces := await stream.next()) is not None:
        got += b"".join(pieces)
    stream.close()
    return bytes(got)


@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_range_in_any_stripes_is_the_plaintext(threads: Executor, data: st.DataObject) -> None:
    """Chunks end in the middle of stripes. Red when what begins in one stripe is not kept for the next."""
    size = data.draw(st.sampled_from([1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5, len(PLAIN)]))
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    stripe_bytes = data.draw(st.sampled_from([1000, STORED_CHUNK_BYTES, 100_000, 1 << 20]))
    stored = Sealer(KEY, SEAL, size).seal(PLAIN[:size])
    stream, below = opened(threads, stored, start, stop, stripe_bytes)
    assert await read(stream) == PLAIN[start:stop]
    assert below.closed == 1


@pytest.mark.parametrize("at", [0, 5 * STORED_CHUNK_BYTES + 3, -1])
@pytest.mark.parametrize("stripe_bytes", [100_000, 1 << 20])
async def test_s24_flipped_ciphertext_is_an_error_and_never_bytes(
    threads: Executor, at: int, stripe_bytes: int
) -> None:
    """What came before is the plaintext's beginning, and nothing comes after. Red when a chunk that does not verify
    is handed out or skipped."""
    stored = bytearray(STORED)
    stored[at] ^= 1
    stream, _ = opened(threads, bytes(stored), 0, len(PLAIN), stripe_bytes)
    got = bytearray()
    with pytest.raises(BlobUnreadable, match="does not open"):
        await read(stream, got)
    assert PLAIN.startswith(got)
    assert len(got) <= (at % len(STORED)) // STORED_CHUNK_BYTES * CHUNK_BYTES
    stream.close()


@pytest.mark.parametrize(
    "other",
    [{"key": bytes(32)}, {"seal": bytes(16)}, {"size": 3 * STORED_CHUNK_BYTES}],
    ids=["key", "seal", "size"],
)
async def test_s24_what_belongs_to_another_blob_opens_nothing(threads: Executor, other: Any) -> None:
    """Another key, another seal, and a row of the catalog that says the blob is shorter."""
    stream, _ = opened(threads, STORED, 0, 3 * CHUNK_BYTES, **other)
    with pytest.raises(BlobUnreadable):
        await read(stream)


async def test_a_blob_that_ends_too_early_is_an_error(threads: Executor) -> None:
    stream, _ = opened(threads, STORED[:STORED_CHUNK_BYTES], 0, len(PLAIN), size=len(STORED))
    with pytest.raises(BlobUnreadable, match="too early"):
        await read(stream)


@pytest.mark.parametrize("size", [1, CHUNK_BYTES, 4 * CHUNK_BYTES, len(PLAIN)])
@pytest.mark.parametrize("stripe_bytes", [100_000, 1 << 20])
async def test_bodies_are_sealed_into_whole_stripes(threads: Executor, size: int, stripe_bytes: int) -> None:
    """Whatever pieces they come in; hashed in the clear, so that the client's checksums and the ETag hold."""

    async def pieces() -> AsyncIterator[Buffer]:
        for at in range(0, size, 70_001):
            yield PLAIN[at : min(at + 70_001, size)]

    digests, plainly = Digests(ALGORITHMS["CRC32"]), Digests(ALGORITHMS["CRC32"])
    sealer = Sealer(KEY, SEAL, size)
    stripes = [each async for each in sealed_stripes(pieces(), digests, sealer, stripe_bytes, threads)]
    assert all(len(each) == stripe_bytes for each in stripes[:-1])
    assert sum(map(len, stripes)) == sealed_size(size)
    assert b"".join(stripes) == Sealer(KEY, SEAL, size).seal(PLAIN[:size])
    async for _ in hashed_stripes(pieces(), plainly, stripe_bytes, threads):
        pass
    assert digests.verify({}) == plainly.verify({})
    assert digests.md5_hex == plainly.md5_hex
