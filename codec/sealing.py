"""Encryption of a blob's bytes before they are cut into stripes (S24): chunks of AES-256-GCM. No I/O.

A sealed blob is, for the cluster, an ordinary blob of ciphertext: repair, scrub and moves need no key. As stored::

    chunk 0                                         65,536 bytes of plaintext, encrypted
                                                    16 bytes: GCM's tag
    chunk 1 …                                       the same; they follow one another without a gap
    last chunk                                      1 to 65,536 bytes of plaintext, encrypted
                                                    16 bytes: GCM's tag

An empty plaintext is stored as nothing. A chunk's nonce is 12 bytes::

    bit   0         1 in the last chunk, else 0: a blob that was cut off at a chunk's end does not open
    bits  1 to 95   number of the chunk, big-endian: chunks that changed places do not open

The AES key of a blob is HKDF-SHA256 (RFC 5869) of a data key, with the blob's seal (16 random bytes, kept with the
blob) as salt and the info ``trivet sealed blob 1``, 32 bytes. One data key may seal any number of blobs, as the parts
of an upload, and no nonce is used twice under one key. A change of any of this is another transform of the blob.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from codec.block import Buffer

TRANSFORM: Final = 1
"""What the catalog calls a blob that is stored like this."""
CHUNK_BYTES: Final = 64 << 10
TAG_BYTES: Final = 16
STORED_CHUNK_BYTES: Final = CHUNK_BYTES + TAG_BYTES
DATA_KEY_BYTES: Final = 32
SEAL_BYTES: Final = 16

_LAST: Final = 1 << 95
_INFO: Final = b"trivet sealed blob 1"


class NotAuthentic(Exception):
    """These bytes are not what was sealed, there, with this key. Nothing of them may be used."""


class StoredSpan(NamedTuple):
    """Stored bytes [start, stop), whole chunks from number `chunk` on, that a range of the plaintext needs; the range
    begins `skip` bytes into what they hold."""

    chunk: int
    start: int
    stop: int
    skip: int


def sealed_size(plain_bytes: int) -> int:
    """Bytes stored for so many of plaintext."""
    return plain_bytes + TAG_BYTES * -(-plain_bytes // CHUNK_BYTES)


def plain_size(stored_bytes: int) -> int:
    """Bytes of plaintext in so many stored ones. Raises ValueError when no plaintext is stored in just so many."""
    plain = stored_bytes - TAG_BYTES * -(-stored_bytes // STORED_CHUNK_BYTES)
    if plain < 0 or sealed_size(plain) != stored_bytes:
        raise ValueError(f"no sealed blob has {stored_bytes} bytes")
    return plain


def plain_within(stored_bytes: int) -> int:
    """Bytes of plaintext that can be stored in so many, sealed or not."""
    return stored_bytes - TAG_BYTES * -(-stored_bytes // STORED_CHUNK_BYTES)


def stored_span(start: int, stop: int, stored_bytes: int) -> StoredSpan:
    """What has to be read for the bytes [start, stop), `start < stop`, of the plaintext of a blob."""
    first, last = start // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES
    return StoredSpan(
        first,
        first * STORED_CHUNK_BYTES,
        min((last + 1) * STORED_CHUNK_BYTES, stored_bytes),
        start - first * CHUNK_BYTES,
    )


class _Keyed:
    """Holds a blob's key, and shows it to nobody."""

    def __init__(self, data_key: bytes, seal: bytes) -> None:
        assert len(data_key) == DATA_KEY_BYTES
        assert len(seal) == SEAL_BYTES
        self._data_key = data_key
        self._seal = seal

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    @cached_property
    def _cipher(self) -> AESGCM:
        # Late: the library takes 9 MiB and 20 ms, and a store without encryption needs none of it.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return AESGCM(HKDF(SHA256(), DATA_KEY_BYTES, self._seal, _INFO).derive(self._data_key))


def _nonce(chunk: int, *, last: bool) -> bytes:
    return (chunk | _LAST if last else chunk).to_bytes(12, "big")


class Sealer(_Keyed):
    """Seals one blob from its first byte to its last. For one thread at a time."""

    def __init__(self, data_key: bytes, seal: bytes, plain_bytes: int) -> None:
        """`plain_bytes`: how long the whole plaintext will be. `seal` must be fresh: never used for another blob."""
        super().__init__(data_key, seal)
        self._plain_bytes = plain_bytes
        self._done_bytes = 0

    def seal(self, plain: Buffer) -> bytes:
        """The next bytes as they are stored: whole chunks, and only at the end of the plaintext a shorter one."""
        view = memoryview(plain)
        sealed = []
        for at in range(0, len(view), CHUNK_BYTES):
            piece = view[at : at + CHUNK_BYTES]
            chunk, rest = divmod(self._done_bytes, CHUNK_BYTES)
            self._done_bytes += len(piece)
            last = self._done_bytes == self._plain_bytes
            assert rest == 0 and (last or len(piece) == CHUNK_BYTES), "whole chunks, but for the last"  # noqa: PT018
            sealed.append(self._cipher.encrypt(_nonce(chunk, last=last), piece, None))
        return sealed[0] if len(sealed) == 1 else b"".join(sealed)


class Opener(_Keyed):
    """Opens chunks of one blob, in any order. May be used by several threads."""

    def __init__(self, data_key: bytes, seal: bytes, stored_bytes: int) -> None:
        """`stored_bytes`: how long the whole blob is as stored."""
        super().__init__(data_key, seal)
        self._last_chunk = (stored_bytes - 1) // STORED_CHUNK_BYTES

    def open(self, chunk: int, stored: Buffer) -> bytes:
        """The plaintext of stored chunks from number `chunk` on, all of them verified. Raises NotAuthentic."""
        from cryptography.exceptions import InvalidTag

        view = memoryview(stored)
        opened = []
        try:
            for at in range(0, len(view), STORED_CHUNK_BYTES):
                nonce = _nonce(chunk, last=chunk == self._last_chunk)
                opened.append(self._cipher.decrypt(nonce, view[at : at + STORED_CHUNK_BYTES], None))
                chunk += 1
        except InvalidTag:
            raise NotAuthentic(f"chunk {chunk} of a sealed blob does not open") from None
        return opened[0] if len(opened) == 1 else b"".join(opened)
