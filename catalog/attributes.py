"""How the rarely read part of a version is packed into its row, and the numbers of its checksum's kind."""

from __future__ import annotations

import msgspec

from catalog.errors import RowDamaged
from catalog.model import Attributes

_CHECKSUM_TYPES = ("FULL_OBJECT", "COMPOSITE")
CHECKSUM_KINDS: tuple[tuple[str, str], ...] = (
    ("CRC32", "FULL_OBJECT"),
    ("CRC32", "COMPOSITE"),
    ("CRC32C", "FULL_OBJECT"),
    ("CRC32C", "COMPOSITE"),
    ("CRC64NVME", "FULL_OBJECT"),
    ("CRC64NVME", "COMPOSITE"),
    ("SHA1", "FULL_OBJECT"),
    ("SHA1", "COMPOSITE"),
    ("SHA256", "FULL_OBJECT"),
    ("SHA256", "COMPOSITE"),
    *(
        (name, kind)
        for name in ("SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128")
        for kind in _CHECKSUM_TYPES
    ),
)
"""Algorithm and type by `checksum_code`. Stored numbers: append only."""

_CODE_BY_KIND = {kind: code for code, kind in enumerate(CHECKSUM_KINDS)}
_DEFAULTS = Attributes()
_NOTHING = msgspec.msgpack.encode(_DEFAULTS)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Attributes)


def pack_attributes(attributes: Attributes) -> bytes | None:
    """Attributes as stored: None when there is nothing but defaults."""
    packed = _encoder.encode(attributes)
    return None if packed == _NOTHING else packed


def unpack_attributes(packed: bytes | None) -> Attributes:
    """The inverse of `pack_attributes`. Raises RowDamaged."""
    if packed is None:
        return _DEFAULTS
    try:
        return _decoder.decode(packed)
    except msgspec.MsgspecError as error:
        raise RowDamaged(f"the attributes of a version can't be read: {error}") from error


def checksum_code(attributes: Attributes) -> int | None:
    """The number of the checksum's kind, None without one. Raises KeyError for an unknown kind."""
    checksum = attributes.checksum
    return None if checksum is None else _CODE_BY_KIND[checksum.algorithm, checksum.type]
