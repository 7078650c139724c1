"""The checksums of S3's "Checking object integrity": which one a request declares, computing, combining.

One row an algorithm; everything else follows from the table. Values are base64 text, as S3 shows and stores them.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from awscrt import checksums as crt

from s3front.errors import BadDigest, InvalidDigest, InvalidRequest, MalformedTrailerError

if TYPE_CHECKING:
    from typing_extensions import Buffer

ChecksumType = Literal["COMPOSITE", "FULL_OBJECT"]


class Hasher(Protocol):
    """Bytes in, digest out. CRCs are too fast to leave the thread; hashlib releases the GIL for large buffers."""

    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, function: Callable[[Buffer, int], int], digest_bytes: int) -> None:
        self._function = function
        self._digest_bytes = digest_bytes
        self._crc = 0

    def update(self, data: Buffer, /) -> None:
        self._crc = self._function(data, self._crc)

    def digest(self) -> bytes:
        return self._crc.to_bytes(self._digest_bytes, "big")


class _XxHash:
    def __init__(self, state: crt.XXHash) -> None:
        self._state = state
        self.digest = state.finalize

    def update(self, data: Buffer, /) -> None:
        self._state.update(bytes(data))  # awscrt takes nothing else here; bytes() of bytes copies nothing


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One checksum algorithm and its names on the wire."""

    name: str
    """As in x-amz-checksum-algorithm."""
    digest_bytes: int
    new: Callable[[], Hasher]
    combine: Callable[[int, int, int], int] | None = None
    """crc(a), crc(b), len(b) to crc(a + b), where that is possible. Only then can parts make a FULL_OBJECT value."""
    is_composable: bool = True
    """Whether a multipart upload may have a COMPOSITE value."""

    @property
    def header(self) -> str:
        """Name of the header or trailer that carries a value."""
        return f"x-amz-checksum-{self.name.lower()}"

    @property
    def element(self) -> str:
        """Name of the XML element that carries a value."""
        return f"Checksum{self.name}"


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("CRC32", 4, lambda: _Crc(crt.crc32, 4), crt.combine_crc32),
        Algorithm("CRC32C", 4, lambda: _Crc(crt.crc32c, 4), crt.combine_crc32c),
        Algorithm("CRC64NVME", 8, lambda: _Crc(crt.crc64nvme, 8), crt.combine_crc64nvme, is_composable=False),
        Algorithm("SHA1", 20, lambda: hashlib.sha1(usedforsecurity=False)),
        Algorithm("SHA256", 32, hashlib.sha256),
        Algorithm("SHA512", 64, hashlib.sha512),
        Algorithm("MD5", 16, lambda: hashlib.md5(usedforsecurity=False)),
        Algorithm("XXHASH64", 8, lambda: _XxHash(crt.XXHash.new_xxhash64())),
        Algorithm("XXHASH3", 8, lambda: _XxHash(crt.XXHash.new_xxhash3_64())),
        Algorithm("XXHASH128", 16, lambda: _XxHash(crt.XXHash.new_xxhash3_128())),
    )
}
_BY_HEADER = {algorithm.header: algorithm for algorithm in ALGORITHMS.values()}
_NOT_VALUES = frozenset(("x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"))


def value_of(hasher: Hasher) -> str:
    """The digest as S3 writes it."""
    return b64encode(hasher.digest()).decode()


# -- what a request declares -----------------------------------------------------------------------------------


class Declared(NamedTuple):
    """The checksum a request says its body has."""

    algorithm: Algorithm
    value: str | None
    """From the header, well-formed; None when a trailer brings it."""

    def verify(self, hasher: Hasher, trailers: Mapping[str, str]) -> str:
        """The computed value, if it is what the header said or, now that it has come, the trailer says.

        Raises BadDigest, InvalidRequest for a malformed value, MalformedTrailerError for a missing trailer.
        """
        expected = self.value
        if expected is None:
            expected = trailers.get(self.algorithm.header)
            if expected is None:
                raise MalformedTrailerError
            _check_value(self.algorithm, expected)
        computed = value_of(hasher)
        if computed != expected:
            raise mismatch(self.algorithm)
        return computed


def declared_checksum(headers: Mapping[str, str], *, of_parts: bool = False) -> Declared | None:
    """The one checksum that headers or ``x-amz-trailer`` declare; None for none.

    With `of_parts` a value may end in ``-N``, as in CompleteMultipartUpload. Raises InvalidRequest, with AWS's
    texts, for two of them, unknown algorithms, malformed values and contradictions.
    """
    found = [
        _by_header(name, value, of_parts=of_parts)
        for name, value in headers.items()
        if name.startswith("x-amz-checksum-") and name not in _NOT_VALUES
    ]
    trailer = headers.get("x-amz-trailer")
    if trailer is not None:
        found += [_by_trailer(name) for name in trailer.split(",")]
    if len(found) > 1:
        raise InvalidRequest(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    declared = found[0] if found else None
    _check_sdk_algorithm(headers.get("x-amz-sdk-checksum-algorithm"), declared)
    return declared


def _by_header(name: str, value: str, *, of_parts: bool) -> Declared:
    algorithm = _BY_HEADER.get(name)
    if algorithm is None:
        raise InvalidRequest("The algorithm type you specified in x-amz-checksum- header is invalid.")
    digest, dash, count = value.partition("-")
    if dash and not (of_parts and count.isascii() and count.isdigit()):
        raise _invalid_value(algorithm)
    _check_value(algorithm, digest)
    return Declared(algorithm, value)


def _by_trailer(name: str) -> Declared:
    algorithm = _BY_HEADER.get(name.strip().lower())
    if algorithm is None:
        raise InvalidRequest("The value specified in the x-amz-trailer header is not supported")
    return Declared(algorithm, None)


def _check_sdk_algorithm(name: str | None, declared: Declared | None) -> None:
    if name is None:
        return
    if declared is None:
        raise InvalidRequest(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer "
            "headers were found."
        )
    if name.strip().upper() != declared.algorithm.name:
        raise InvalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid.")


def _check_value(algorithm: Algorithm, value: str) -> None:
    digest = _from_base64(value)
    if digest is None or len(digest) != algorithm.digest_bytes:
        raise _invalid_value(algorithm)


def _invalid_value(algorithm: Algorithm) -> BadDigest:
    """What can't be a value of the algorithm is that of no body."""
    return BadDigest(f"Value for {algorithm.header} header is invalid.")


def mismatch(algorithm: Algorithm) -> BadDigest:
    """What a client hears whose bytes are not the ones it announced."""
    return BadDigest(f"The {algorithm.name} you specified did not match the calculated checksum.")


def _from_base64(value: str) -> bytes | None:
    """Strictly: padded, no white space, no bits left over; None for anything else."""
    try:
        digest = b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if b64encode(digest).decode() == value else None


# -- copies and multipart uploads ------------------------------------------------------------------------------


class UploadChecksum(NamedTuple):
    """What a multipart upload was created with."""

    algorithm: Algorithm
    type: ChecksumType


def upload_checksum(headers: Mapping[str, str]) -> UploadChecksum | None:
    """From ``x-amz-checksum-algorithm`` and ``x-amz-checksum-type``; None without. Raises InvalidRequest."""
    algorithm = requested_algorithm(headers)
    type_name = headers.get("x-amz-checksum-type")
    if algorithm is not None:
        return UploadChecksum(algorithm, checksum_type(algorithm, type_name))
    if type_name is not None:
        raise InvalidRequest(
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
        )
    return None


def requested_algorithm(headers: Mapping[str, str]) -> Algorithm | None:
    """The algorithm that ``x-amz-checksum-algorithm`` names; None without. Raises InvalidRequest."""
    value = headers.get("x-amz-checksum-algorithm")
    if value is None:
        return None
    algorithm = ALGORITHMS.get(value.strip().upper())
    if algorithm is None:
        raise InvalidRequest(
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: "
            f"[{', '.join(ALGORITHMS)}]"
        )
    return algorithm


def checksum_type(algorithm: Algorithm, type_name: str | None) -> ChecksumType:
    """The type that ``x-amz-checksum-type`` names, or the algorithm's default. Raises InvalidRequest."""
    if type_name is None:
        return "COMPOSITE" if algorithm.is_composable else "FULL_OBJECT"
    kind = type_name.strip().upper()
    if kind == "FULL_OBJECT" and algorithm.combine is not None:
        return "FULL_OBJECT"
    if kind == "COMPOSITE" and algorithm.is_composable:
        return "COMPOSITE"
    if kind in ("FULL_OBJECT", "COMPOSITE"):
        raise InvalidRequest(
            f"The {kind} checksum type cannot be used with the {algorithm.name.lower()} checksum algorithm."
        )
    raise InvalidRequest("Value for x-amz-checksum-type header is invalid.")


def check_part_algorithm(upload: UploadChecksum | None, declared: Declared | None) -> None:
    """Raise InvalidRequest when a part declares another algorithm than its upload asked for.

    For an upload that asked for none pass None: SDKs send a CRC32 with each part of such an upload.
    """
    if upload is not None and declared is not None and upload.algorithm is not declared.algorithm:
        raise InvalidRequest(
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm.name.lower()}, "
            f"actual checksum Type: {declared.algorithm.name.lower()}"
        )


def composite(algorithm: Algorithm, values: Sequence[str]) -> str:
    """The checksum of the parts' checksums, and their count: ``value-N``. `values` are well-formed."""
    hasher = algorithm.new()
    for value in values:
        hasher.update(b64decode(value))
    return f"{value_of(hasher)}-{len(values)}"


def full_object(algorithm: Algorithm, parts: Iterable[tuple[str, int]]) -> str:
    """The checksum of the whole from (value, bytes) of its parts, without reading a byte of them (P9)."""
    assert algorithm.combine is not None, f"{algorithm.name} values can't be combined"
    crc = 0
    for value, size in parts:
        crc = algorithm.combine(crc, int.from_bytes(b64decode(value), "big"), size)
    return b64encode(crc.to_bytes(algorithm.digest_bytes, "big")).decode()


# -- Content-MD5 -----------------------------------------------------------------------------------------------


def content_md5(headers: Mapping[str, str]) -> bytes | None:
    """The MD5 that Content-MD5 declares; None without the header. Raises InvalidDigest."""
    value = headers.get("content-md5")
    if value is None:
        return None
    digest = _from_base64(value.strip())
    if digest is None or len(digest) != 16:
        raise InvalidDigest(Content_MD5=value)
    return digest


def check_md5(expected: bytes | None, computed: bytes) -> None:
    """Raise BadDigest unless `expected` is None or what was computed."""
    if expected is not None and expected != computed:
        raise BadDigest(
            ExpectedDigest=b64encode(expected).decode(), CalculatedDigest=b64encode(computed).decode()
        )
