"""The format of sealed blobs: sizes, ranges, a golden vector, and that nothing but what was sealed opens (S24)."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from codec import sealing
from codec.block import Buffer
from codec.sealing import CHUNK_BYTES, STORED_CHUNK_BYTES, TAG_BYTES, NotAuthentic, Opener, Sealer

KEY, SEAL = bytes(range(32)), bytes(range(100, 116))
PLAIN = bytes(range(256)) * 640  # two chunks and a half


def _sealed(plain: bytes, key: bytes = KEY, seal: bytes = SEAL) -> bytes:
    return Sealer(key, seal, len(plain)).seal(plain)


def _opened(stored: bytes, key: bytes = KEY, seal: bytes = SEAL) -> bytes:
    return Opener(key, seal, len(stored)).open(0, stored)


def test_the_format_is_what_it_was() -> None:
    """The golden vector, made once more by other means: HKDF by hand, chunk by chunk. Red when the info, the nonces,
    the mark of the last chunk or the order of data and tag change: what is stored could not be read any more."""
    stored = _sealed(PLAIN)
    assert hashlib.sha256(stored).hexdigest() == (
        "2b831b5b8df80d3e6069b64224e75e4f77e0c781c58f043fabe22a73bb7e5779"
    )
    extracted = hmac.digest(SEAL, KEY, "sha256")
    cipher = AESGCM(hmac.digest(extracted, b"trivet sealed blob 1\x01", "sha256"))
    nonces = [bytes(12), bytes(11) + b"\x01", b"\x80" + bytes(10) + b"\x02"]
    by_hand = [cipher.encrypt(nonces[i], PLAIN[i << 16 : (i + 1) << 16], None) for i in range(3)]
    assert stored == b"".join(by_hand)


@given(st.integers(0, 5 * CHUNK_BYTES))
def test_sizes_go_both_ways(plain_bytes: int) -> None:
    stored = sealing.sealed_size(plain_bytes)
    assert sealing.plain_size(stored) == plain_bytes
    assert stored - plain_bytes == TAG_BYTES * ((plain_bytes + CHUNK_BYTES - 1) // CHUNK_BYTES)


@pytest.mark.parametrize(
    "stored_bytes", [1, TAG_BYTES, STORED_CHUNK_BYTES + 1, STORED_CHUNK_BYTES + TAG_BYTES]
)
def test_impossible_sizes_are_refused(stored_bytes: int) -> None:
    """A chunk has at least one byte beside its tag."""
    with pytest.raises(ValueError, match="no sealed blob"):
        sealing.plain_size(stored_bytes)


def test_5_tib_are_counted_without_a_float() -> None:
    assert sealing.sealed_size(5 << 40) == (5 << 40) + 16 * (5 << 24)
    span = sealing.stored_span((5 << 40) - 1, 5 << 40, sealing.sealed_size(5 << 40))
    assert span.stop - span.start == STORED_CHUNK_BYTES
    assert span.skip == CHUNK_BYTES - 1


@given(st.data())
def test_every_range_opens_from_its_span(data: st.DataObject) -> None:
    """And from no more than the chunks it touches."""
    size = data.draw(st.sampled_from([1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(PLAIN)]))
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    stored = _sealed(PLAIN[:size])
    span = sealing.stored_span(start, stop, len(stored))
    opened = Opener(KEY, SEAL, len(stored)).open(span.chunk, stored[span.start : span.stop])
    assert opened[span.skip : span.skip + stop - start] == PLAIN[start:stop]
    assert len(opened) < stop - start + 2 * CHUNK_BYTES


def test_it_is_the_same_in_one_call_and_in_many() -> None:
    sealer = Sealer(KEY, SEAL, len(PLAIN))
    cut: list[Buffer] = [
        PLAIN[:CHUNK_BYTES],
        memoryview(PLAIN)[CHUNK_BYTES : 2 * CHUNK_BYTES],
        PLAIN[2 * CHUNK_BYTES :],
    ]
    assert b"".join(sealer.seal(piece) for piece in cut) == _sealed(PLAIN)


def test_an_empty_plaintext_is_stored_as_nothing() -> None:
    assert _sealed(b"") == b""
    assert _opened(b"") == b""


@pytest.mark.parametrize("at", [0, CHUNK_BYTES, STORED_CHUNK_BYTES, STORED_CHUNK_BYTES * 2 + 7, -1])
def test_s24_a_flipped_bit_does_not_open(at: int) -> None:
    """Of text and of tag, in the first chunk and the last."""
    stored = bytearray(_sealed(PLAIN))
    stored[at] ^= 1
    with pytest.raises(NotAuthentic):
        _opened(bytes(stored))


def test_s24_chunks_that_changed_places_do_not_open() -> None:
    """Red when all chunks have one nonce."""
    stored = _sealed(PLAIN)
    first, second = stored[:STORED_CHUNK_BYTES], stored[STORED_CHUNK_BYTES : 2 * STORED_CHUNK_BYTES]
    with pytest.raises(NotAuthentic):
        _opened(second + first + stored[2 * STORED_CHUNK_BYTES :])


@pytest.mark.parametrize("chunks", [1, 2])
def test_s24_a_blob_cut_off_between_chunks_does_not_open(chunks: int) -> None:
    """Also when the catalog agrees that it is so short. Red when the last chunk's nonce has no mark."""
    with pytest.raises(NotAuthentic, match=f"chunk {chunks - 1}"):
        _opened(_sealed(PLAIN)[: chunks * STORED_CHUNK_BYTES])


def test_s24_a_longer_blob_does_not_open() -> None:
    """A whole blob with another's chunk behind it."""
    plain = PLAIN[: 2 * CHUNK_BYTES]
    with pytest.raises(NotAuthentic, match="chunk 1"):
        _opened(_sealed(plain) + _sealed(PLAIN)[2 * STORED_CHUNK_BYTES :])


@pytest.mark.parametrize(("key", "seal"), [(bytes(32), SEAL), (KEY, bytes(16))])
def test_s24_another_key_and_another_seal_open_nothing(key: bytes, seal: bytes) -> None:
    """The second: a blob's bytes handed out as another's of the same object. Red when the key of a blob does not
    depend on its seal."""
    with pytest.raises(NotAuthentic):
        _opened(_sealed(PLAIN), key, seal)


def test_blobs_under_one_data_key_have_nothing_in_common() -> None:
    """Equal parts of one upload: with the same key and nonces their XOR would be the XOR of the texts."""
    assert _sealed(PLAIN)[:64] != _sealed(PLAIN, seal=bytes(16))[:64]


def test_keys_are_not_shown() -> None:
    """Red when `__repr__` tells what they hold: a traceback with locals would show it."""
    for keyed in (Sealer(KEY, SEAL, 1), Opener(KEY, SEAL, 17)):
        assert repr(keyed) in ("Sealer(…)", "Opener(…)")
