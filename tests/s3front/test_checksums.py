"""Checksums: computing, declaring, combining."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3front import errors
from s3front.wire.checksums import (
    ALGORITHMS,
    Algorithm,
    Declared,
    UploadChecksum,
    check_md5,
    check_part_algorithm,
    composite,
    content_md5,
    declared_checksum,
    full_object,
    requested_algorithm,
    upload_checksum,
    value_of,
)

CRCS = [algorithm for algorithm in ALGORITHMS.values() if algorithm.combine is not None]
CRC32, CRC32C, SHA256 = ALGORITHMS["CRC32"], ALGORITHMS["CRC32C"], ALGORITHMS["SHA256"]


def compute(algorithm: Algorithm, *pieces: bytes | bytearray | memoryview) -> str:
    hasher = algorithm.new()
    for piece in pieces:
        hasher.update(piece)
    return value_of(hasher)


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("CRC32", zlib.crc32(b"123456789").to_bytes(4, "big")),
        ("CRC32C", bytes.fromhex("e3069283")),
        ("CRC64NVME", bytes.fromhex("ae8b14860a799888")),
        ("SHA1", hashlib.sha1(b"123456789", usedforsecurity=False).digest()),
        ("SHA256", hashlib.sha256(b"123456789").digest()),
        ("SHA512", hashlib.sha512(b"123456789").digest()),
        ("MD5", hashlib.md5(b"123456789", usedforsecurity=False).digest()),
        ("XXHASH64", bytes.fromhex("8cb841db40e6ae83")),
    ],
)
def test_known_values(name: str, digest: bytes) -> None:
    assert compute(ALGORITHMS[name], b"123456789") == b64encode(digest).decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=lambda algorithm: algorithm.name)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=4))
def test_pieces_of_any_kind_give_the_value_of_the_whole(
    algorithm: Algorithm, data: bytes, cuts: list[int]
) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    view = memoryview(data)
    pieces = [view[start:stop] for start, stop in pairwise(edges)]
    value = compute(algorithm, data)
    assert compute(algorithm, *pieces) == value
    assert compute(algorithm, bytearray(data)) == value
    assert declared_checksum({algorithm.header: value}) == Declared(algorithm, value)


def test_value_may_be_asked_for_twice() -> None:
    for algorithm in ALGORITHMS.values():
        hasher = algorithm.new()
        hasher.update(b"x")
        assert value_of(hasher) == value_of(hasher)


# -- declaring -------------------------------------------------------------------------------------------------


def test_header_and_its_verification() -> None:
    value = compute(CRC32, b"body")
    declared = declared_checksum({"x-amz-checksum-crc32": value, "x-amz-checksum-mode": "ENABLED"})
    assert declared is not None
    hasher = CRC32.new()
    hasher.update(b"body")
    assert declared.verify(hasher, {}) == value
    hasher.update(b"!")
    with pytest.raises(errors.BadDigest) as caught:
        declared.verify(hasher, {})
    assert caught.value.message == "The CRC32 you specified did not match the calculated checksum."


def test_trailer_and_its_verification() -> None:
    declared = declared_checksum(
        {"x-amz-trailer": "X-Amz-Checksum-SHA256", "x-amz-sdk-checksum-algorithm": "SHA256"}
    )
    assert declared is not None
    assert (declared.algorithm, declared.value) == (SHA256, None)
    value = compute(SHA256, b"")
    assert declared.verify(SHA256.new(), {"x-amz-checksum-sha256": value}) == value
    for trailers, error in (
        ({}, errors.MalformedTrailerError),
        ({"x-amz-checksum-sha256": "short"}, errors.BadDigest),
        ({"x-amz-checksum-sha256": compute(SHA256, b"x")}, errors.BadDigest),
    ):
        with pytest.raises(error):
            declared.verify(SHA256.new(), trailers)


def test_nothing_declared() -> None:
    assert declared_checksum({"content-type": "a", "x-amz-checksum-algorithm": "CRC32"}) is None


GOOD = compute(CRC32, b"")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"x-amz-checksum-crc32": GOOD, "x-amz-checksum-crc32c": GOOD},
            "Expecting a single x-amz-checksum- header.",
        ),
        ({"x-amz-checksum-crc32": GOOD, "x-amz-trailer": "x-amz-checksum-crc32"}, "Expecting a single"),
        ({"x-amz-trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"}, "Expecting a single"),
        (
            {"x-amz-trailer": "x-amz-meta-a"},
            "The value specified in the x-amz-trailer header is not supported",
        ),
        ({"x-amz-trailer": ""}, "The value specified in the x-amz-trailer header is not supported"),
        (
            {"x-amz-checksum-crc99": GOOD},
            "The algorithm type you specified in x-amz-checksum- header is invalid.",
        ),
        (
            {"x-amz-checksum-crc32": GOOD, "x-amz-sdk-checksum-algorithm": "SHA1"},
            "Value for x-amz-sdk-checksum-algorithm header is invalid.",
        ),
        (
            {"x-amz-sdk-checksum-algorithm": "CRC32"},
            "x-amz-sdk-checksum-algorithm specified, but no corresponding",
        ),
    ],
)
def test_contradictions(headers: dict[str, str], message: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        declared_checksum(headers)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    "value", ["", "AAAA", "AAAAAA", "AAAAAB==", "AAAAAA==\n", "!!!!!!==", "AAAAAA==-1", "ÄAAAAA=="]
)
def test_malformed_values(value: str) -> None:
    with pytest.raises(errors.BadDigest) as caught:
        declared_checksum({"x-amz-checksum-crc32": value})
    assert caught.value.message == "Value for x-amz-checksum-crc32 header is invalid."


def test_values_of_parts_may_carry_their_count() -> None:
    headers = {"x-amz-checksum-crc32": GOOD + "-12"}
    assert declared_checksum(headers, of_parts=True) == (CRC32, GOOD + "-12")
    for value in (GOOD + "-", GOOD + "-x", "-3", GOOD + "-1-1"):
        with pytest.raises(errors.BadDigest):
            declared_checksum({"x-amz-checksum-crc32": value}, of_parts=True)


@given(
    st.dictionaries(st.sampled_from([*(a.header for a in ALGORITHMS.values()), "x-amz-trailer"]), st.text())
)
def test_any_headers_are_declared_or_refused(headers: dict[str, str]) -> None:
    try:
        declared_checksum(headers, of_parts=True)
    except (errors.InvalidRequest, errors.BadDigest) as error:
        assert error.message  # noqa: PT017


# -- multipart -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", CRCS, ids=lambda algorithm: algorithm.name)
@given(parts=st.lists(st.binary(max_size=200), max_size=6))
def test_full_object_value_from_parts(algorithm: Algorithm, parts: list[bytes]) -> None:
    combined = full_object(algorithm, [(compute(algorithm, part), len(part)) for part in parts])
    assert combined == compute(algorithm, b"".join(parts))


@pytest.mark.parametrize("algorithm", CRCS, ids=lambda algorithm: algorithm.name)
def test_full_object_value_of_parts_of_5_mib(algorithm: Algorithm) -> None:
    parts = [bytes([number]) * ((5 << 20) + number) for number in range(3)]
    combined = full_object(algorithm, [(compute(algorithm, part), len(part)) for part in parts])
    assert combined == compute(algorithm, *parts)


def test_composite_value() -> None:
    parts = [b"a" * 10, b"b"]
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    expected = b64encode(hashlib.sha256(digests).digest()).decode() + "-2"
    assert composite(SHA256, [compute(SHA256, part) for part in parts]) == expected


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("CRC32", None, "COMPOSITE"),
        ("crc32c", "FULL_OBJECT", "FULL_OBJECT"),
        ("CRC64NVME", None, "FULL_OBJECT"),
        ("SHA256", "composite", "COMPOSITE"),
    ],
)
def test_upload_checksum(name: str, kind: str | None, expected: str) -> None:
    headers = {"x-amz-checksum-algorithm": name} | ({"x-amz-checksum-type": kind} if kind else {})
    assert upload_checksum(headers) == (ALGORITHMS[name.upper()], expected)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        (
            "SHA1",
            "FULL_OBJECT",
            "The FULL_OBJECT checksum type cannot be used with the sha1 checksum algorithm.",
        ),
        (
            "CRC64NVME",
            "COMPOSITE",
            "The COMPOSITE checksum type cannot be used with the crc64nvme checksum algorithm.",
        ),
        ("CRC32", "OTHER", "Value for x-amz-checksum-type header is invalid."),
        (
            "CRC99",
            "COMPOSITE",
            "Checksum algorithm provided is unsupported. Please try again with any of the valid",
        ),
        (
            None,
            "COMPOSITE",
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm",
        ),
    ],
)
def test_upload_checksums_that_s3_has_not(name: str | None, kind: str, message: str) -> None:
    headers = {"x-amz-checksum-type": kind} | ({"x-amz-checksum-algorithm": name} if name else {})
    with pytest.raises(errors.InvalidRequest) as caught:
        upload_checksum(headers)
    assert caught.value.message.startswith(message)


def test_no_upload_checksum() -> None:
    assert upload_checksum({}) is None
    assert requested_algorithm({}) is None


def test_part_with_another_algorithm() -> None:
    declared = declared_checksum({"x-amz-checksum-crc32": GOOD})
    check_part_algorithm(None, declared)
    check_part_algorithm(UploadChecksum(CRC32, "COMPOSITE"), declared)
    check_part_algorithm(UploadChecksum(CRC32C, "COMPOSITE"), None)
    with pytest.raises(errors.InvalidRequest) as caught:
        check_part_algorithm(UploadChecksum(CRC32C, "COMPOSITE"), declared)
    assert caught.value.message == (
        "Checksum Type mismatch occurred, expected checksum Type: crc32c, actual checksum Type: crc32"
    )


# -- Content-MD5 -----------------------------------------------------------------------------------------------


def test_content_md5() -> None:
    digest = hashlib.md5(b"x", usedforsecurity=False).digest()
    assert content_md5({}) is None
    assert content_md5({"content-md5": b64encode(digest).decode()}) == digest
    check_md5(None, digest)
    check_md5(digest, digest)
    with pytest.raises(errors.BadDigest) as caught:
        check_md5(digest, b"\0" * 16)
    assert caught.value.elements["CalculatedDigest"] == "AAAAAAAAAAAAAAAAAAAAAA=="


@pytest.mark.parametrize(
    "value", ["", "x", "AAAA", "AAAAAAAAAAAAAAAAAAAAAB==", "ä" * 24, "d41d8cd98f00b204e9800998ecf8427e"]
)
def test_malformed_content_md5(value: str) -> None:
    with pytest.raises(errors.InvalidDigest):
        content_md5({"content-md5": value})
