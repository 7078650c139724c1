"""Data keys and the keys of the ring as they are kept: golden forms, and that nothing else opens them."""

import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from catalog.model import Encryption
from s3front.encryption.data_keys import SSE_C, Sealing, WrongKey, new_data_key, unwrap, wrap
from s3front.encryption.ring_sealing import RingSealer, Unsealable

WRAPPING, DATA = bytes(range(32)), bytes(range(32, 64))
SECRET = b"the secret of a cluster"


def _salt(size: int) -> bytes:
    return bytes(range(200, 200 + size))


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 by hand, for one block."""
    return hmac.digest(hmac.digest(salt, secret, "sha256"), info + b"\x01", "sha256")


def test_a_wrapped_data_key_has_the_form_it_had() -> None:
    """Made once more by hand. Red when salt, info or associated data change: no object could be read any more."""
    wrapped = wrap(WRAPPING, DATA, b"AES256\n", _salt)
    cipher = AESGCM(_hkdf(WRAPPING, _salt(16), b"trivet data key 1"))
    assert wrapped == b"\x01" + _salt(16) + cipher.encrypt(bytes(12), DATA, b"AES256\n")
    assert unwrap(WRAPPING, wrapped, b"AES256\n") == DATA


@pytest.mark.parametrize(
    ("key", "belongs_to", "flip"),
    [
        (bytes(32), b"a", None),
        (WRAPPING, b"b", None),
        (WRAPPING, b"a", 0),
        (WRAPPING, b"a", 3),
        (WRAPPING, b"a", -1),
    ],
)
def test_nothing_else_unwraps_it(key: bytes, belongs_to: bytes, flip: int | None) -> None:
    """Another key, another use, a flipped bit. Red when `belongs_to` is left out of the associated data."""
    wrapped = bytearray(wrap(WRAPPING, DATA, b"a"))
    if flip is not None:
        wrapped[flip] ^= 1
    with pytest.raises(WrongKey):
        unwrap(key, bytes(wrapped), belongs_to)


@pytest.mark.parametrize("length", [0, 1, 16, 17, 32])
def test_what_is_too_short_does_not_unwrap(length: int) -> None:
    with pytest.raises(WrongKey):
        unwrap(WRAPPING, wrap(WRAPPING, DATA, b"a")[:length], b"a")


def test_a_data_key_is_wrapped_under_another_key_each_time() -> None:
    """The nonce is always zero: with one key for two texts their XOR would be known. Red when the salt is fixed."""
    assert wrap(WRAPPING, DATA, b"a")[1:] != wrap(WRAPPING, DATA, b"a")[1:]
    assert new_data_key() != new_data_key()


def test_a_key_of_the_ring_has_the_form_it_had() -> None:
    """Red when info or associated data change: the whole ring would be lost."""
    sealed = RingSealer(SECRET, _salt).seal("name", 7, DATA)
    cipher = AESGCM(_hkdf(SECRET, bytes(32), b"trivet encryption key v1"))
    assert sealed == b"\x01" + _salt(12) + cipher.encrypt(_salt(12), DATA, b"name/7")
    assert RingSealer(SECRET).unseal("name", 7, sealed) == DATA


@pytest.mark.parametrize(
    ("secret", "name", "version"), [(b"another", "name", 7), (SECRET, "other", 7), (SECRET, "name", 8)]
)
def test_nothing_else_unseals_it(secret: bytes, name: str, version: int) -> None:
    """Red when name or version are no part of it: whoever can write the catalog could swap keys."""
    with pytest.raises(Unsealable):
        RingSealer(secret).unseal(name, version, RingSealer(SECRET).seal("name", 7, DATA))


@pytest.mark.parametrize("sealed", [b"", b"\x02" + bytes(60), b"\x01", b"\x01" + bytes(20)])
def test_what_is_no_sealed_key_is_told(sealed: bytes) -> None:
    with pytest.raises(Unsealable):
        RingSealer(SECRET).unseal("name", 7, sealed)


def test_etags_tell_the_md5_only_where_they_may() -> None:
    """Red when SSE-KMS or SSE-C show the MD5 of the plaintext."""
    md5 = "9e107d9d372bb6826bd81d3542a419d6"
    assert Sealing(Encryption("AES256", b""), DATA).etag(md5) == md5
    for algorithm in (SSE_C, "aws:kms", "aws:kms:dsse"):
        sealing = Sealing(Encryption(algorithm, b""), DATA)
        assert sealing.etag(md5) == hmac.digest(DATA, md5.encode(), "sha256")[:16].hex()
        assert sealing.etag(f"{md5}-12") == sealing.etag(md5) + "-12"


def test_no_key_is_shown() -> None:
    """Red with the representation that a dataclass makes by itself."""
    shown = f"{Sealing(Encryption(SSE_C, b''), DATA)!r} {RingSealer(SECRET)!r}"
    for key in (DATA, SECRET):
        assert repr(key)[2:-1] not in shown
