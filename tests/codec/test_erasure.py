"""Encode, lose, decode: any k shards give the stripe back, byte for byte; rebuilt shards are the old ones."""

import os
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.block import (
    CODEC_ISA_L_RS_CAUCHY,
    BlockHeader,
    BlockKey,
    Buffer,
    RecordType,
    VerifiedBlock,
    pack_header,
    page_checksums,
    verify,
    verify_pages,
)
from codec.erasure import ErasureCode, NotEnoughBlocks, matches
from codec.geometry import Geometry

BLOB = bytes(range(16))


def stored(geometry: Geometry, stripe_length: int, shard: int, payload: Buffer) -> VerifiedBlock:
    """A shard as it comes back from a node."""
    key = BlockKey(BLOB, 7, shard)
    header = BlockHeader(
        type=RecordType.SHARD,
        key=key,
        k=geometry.k,
        m=geometry.m,
        codec=CODEC_ISA_L_RS_CAUCHY,
        stripe_length=stripe_length,
        payload_length=len(payload),
        sequence=1,
        cluster_id=bytes(16),
        aux=0,
        pages=page_checksums(payload),
    )
    return verify(pack_header(header) + bytes(payload), key)


def all_stored(code: ErasureCode, stripe: bytes) -> list[VerifiedBlock]:
    shards = code.encode(stripe)
    return [stored(code.geometry, len(stripe), number, shard) for number, shard in enumerate(shards)]


stripes = st.integers(1, 300).flatmap(lambda n: st.binary(min_size=n, max_size=n)) | st.builds(
    lambda n, seed: random.Random(seed).randbytes(n), st.integers(60_000, 140_000), st.integers(0, 9)
)
shapes = st.tuples(st.integers(1, 8), st.integers(1, 6))


@given(shapes, stripes, st.data())
def test_p3_any_k_shards_give_the_stripe_and_s8_rebuilt_shards_are_the_originals(
    shape: tuple[int, int], stripe: bytes, data: st.DataObject
) -> None:
    """Break caught: shards cut at 79 bytes instead of 80."""
    code = ErasureCode(Geometry(*shape))
    blocks = all_stored(code, stripe)
    size = code.geometry.shard_length(len(stripe))
    assert [len(block.payload) for block in blocks] == [size] * code.geometry.width
    padded = stripe.ljust(size * shape[0], b"\0")
    assert b"".join(block.payload for block in blocks[: shape[0]]) == padded
    lost = data.draw(st.sets(st.integers(0, sum(shape) - 1), max_size=shape[1]))
    left = [block for number, block in enumerate(blocks) if number not in lost]
    random.Random(1).shuffle(left)
    assert code.decode(left, len(stripe)) == stripe
    rebuilt = code.rebuild(left, len(stripe), sorted(lost))
    assert rebuilt == {number: bytes(blocks[number].payload) for number in lost}
    if len(lost) == shape[1]:
        with pytest.raises(NotEnoughBlocks):
            code.decode(left[1:], len(stripe))


def test_s8_shards_carry_no_library_header_and_aligned_data_is_not_copied() -> None:
    stripe = os.urandom(4096)
    shards = ErasureCode(Geometry(2, 1)).encode(stripe)
    assert [bytes(shard) for shard in shards[:2]] == [stripe[:2048], stripe[2048:]]
    assert [isinstance(shard, memoryview) and shard.obj is stripe for shard in shards] == [True, True, False]


def test_p3_the_same_block_twice_does_not_count_twice() -> None:
    code = ErasureCode(Geometry(2, 1))
    blocks = all_stored(code, b"twice")
    with pytest.raises(NotEnoughBlocks):
        code.decode([blocks[1], blocks[1]], 5)


def test_p3_a_partial_block_does_not_count() -> None:
    code = ErasureCode(Geometry(1, 1))
    stripe = os.urandom(100_000)
    block = all_stored(code, stripe)[0]
    header = block.header
    tail = pack_header(header) + bytes(block.payload[65536:])
    with pytest.raises(NotEnoughBlocks):
        code.decode([verify_pages(tail, header.key, 1)], len(stripe))


def test_p3_blocks_of_another_stripe_or_geometry_are_refused() -> None:
    """Break caught: without the `matches` assertion pyeclib 'decoded' a shorter stripe's shards."""
    code = ErasureCode(Geometry(2, 1))
    blocks = all_stored(code, b"four")
    assert matches(blocks[0], code.geometry, 4)
    assert not matches(blocks[0], code.geometry, 5)
    assert not matches(blocks[0], Geometry(2, 2), 4)

    def refuses(given: Sequence[VerifiedBlock], length: int) -> None:
        with pytest.raises(AssertionError):
            code.decode(given, length)

    refuses(blocks, 3)
    refuses(all_stored(ErasureCode(Geometry(2, 2)), b"four")[1:3], 4)


def test_templates_are_by_length_and_bounded() -> None:
    """Break caught: one template for all lengths made pyeclib return a stripe of another length."""
    code = ErasureCode(Geometry(2, 1))
    for length in range(1, 200):
        blocks = all_stored(code, bytes(length))
        assert code.decode(blocks[1:], length) == bytes(length)
    assert len(code._templates) <= 64


@pytest.mark.parametrize("stripe", [b"", bytes(5)])
def test_stripes_outside_the_geometry_are_refused(stripe: bytes) -> None:
    with pytest.raises(ValueError, match="a stripe has 1 to 4 bytes"):
        ErasureCode(Geometry(2, 1, 4)).encode(stripe)


def test_only_bytes_reach_pyeclib() -> None:
    with pytest.raises(AssertionError):
        ErasureCode(Geometry(2, 1)).encode(bytearray(4))  # type: ignore[arg-type]
