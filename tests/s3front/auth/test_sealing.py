"""Secrets of access keys at rest: the format, and that nothing but the right seal opens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3front.auth.sealing import NONCE_BYTES, Sealer, Unsealable

CLUSTER_SECRET = bytes(range(32))
ACCESS_KEY = "TKTESTKEY"
SECRET = "s3cret-of-a-test-with-forty-characters.."

GOLDEN = (
    "016e6f6e63652d6f662d746573a39990d5b70c71c211954a90639d24026fe0009275e19728d8b75f"
    "5b3a0783864c588045419d6afdb33e435d63bef02538c0180f8f60f229"
)

secrets = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=128)


def test_golden() -> None:
    """Format 1, made from the byte diagram by another implementation (RFC 5869 by hmac, GCM over openssl's AES-ECB
    by hand): what one release wrote every later one reads. Red when label, nonce, associated data or order change."""
    sealed = bytes.fromhex(GOLDEN)
    assert Sealer(CLUSTER_SECRET, random=lambda n: b"nonce-of-test"[:n]).seal(ACCESS_KEY, SECRET) == sealed
    assert Sealer(CLUSTER_SECRET).unseal(ACCESS_KEY, sealed) == SECRET


@given(secret=secrets, cluster_secret=st.binary(min_size=32, max_size=32))
def test_what_was_sealed_comes_back(secret: str, cluster_secret: bytes) -> None:
    """Any secret that a key may have; the sealed text does not hold it and is never the same twice."""
    sealer = Sealer(cluster_secret)
    sealed = sealer.seal(ACCESS_KEY, secret)
    assert Sealer(cluster_secret).unseal(ACCESS_KEY, sealed) == secret
    assert secret.encode() not in sealed
    assert sealer.seal(ACCESS_KEY, secret) != sealed


def test_only_its_own_cluster_and_key_open_it() -> None:
    """A catalog beside another cluster secret, and a row that was copied to another key. Red when the access key is
    not part of what is authenticated."""
    sealed = Sealer(CLUSTER_SECRET).seal(ACCESS_KEY, SECRET)
    with pytest.raises(Unsealable, match="another cluster secret"):
        Sealer(bytes(32)).unseal(ACCESS_KEY, sealed)
    with pytest.raises(Unsealable):
        Sealer(CLUSTER_SECRET).unseal("TKADMIN", sealed)


def test_damage_anywhere_is_noticed() -> None:
    """Every flipped byte, every length. Red when the version is not looked at."""
    sealer = Sealer(CLUSTER_SECRET)
    sealed = sealer.seal(ACCESS_KEY, SECRET)
    for index in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[index] ^= 0x01
        with pytest.raises(Unsealable):
            sealer.unseal(ACCESS_KEY, bytes(damaged))
    for length in range(len(sealed)):
        with pytest.raises(Unsealable):
            sealer.unseal(ACCESS_KEY, sealed[:length])
    with pytest.raises(Unsealable, match="version 02"):
        sealer.unseal(ACCESS_KEY, b"\x02" + sealed[1:])


def test_nothing_secret_is_printed() -> None:
    """Objects end in log lines and tracebacks."""
    sealer = Sealer(CLUSTER_SECRET)
    assert CLUSTER_SECRET.hex() not in repr(sealer)
    with pytest.raises(Unsealable) as caught:
        Sealer(bytes(32)).unseal(ACCESS_KEY, sealer.seal(ACCESS_KEY, SECRET))
    assert SECRET not in str(caught.value)
    assert NONCE_BYTES == 12
