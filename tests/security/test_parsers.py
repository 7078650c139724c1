"""What strangers can send to the parsers of the S3 front: nothing but an S3Error may come of it, and cheaply.

Where security failed elsewhere (FIELD.md) each case has its test here or is named with the test that holds it:
unsigned copy-source headers on presigned URLs are in tests/s3front/test_sigv4.py, entities in test_xml.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3front import errors
from s3front.auth.aws_chunked import ChunkedDecoder
from s3front.auth.payload import Payload
from s3front.auth.scope import parse_amz_date, parse_credential
from s3front.auth.sigv4 import Identity, authenticate
from s3front.wire import checksums, conditions, headers, ranges, xml
from tests.s3front.signing import ACCESS_KEY, NOW, SECRET_KEY, Wire, presigned, signed_by_header

SECRETS = {ACCESS_KEY: SECRET_KEY}
NO_CONDITIONS = conditions.Conditions(None, None, None, None)


def is_authenticated(
    raw_path: bytes, raw_query: bytes, header_list: list[tuple[bytes, bytes]], method: str = "PUT"
) -> bool:
    """Whether somebody was recognised; anything raised but S3Error fails the test."""
    try:
        identity = authenticate(
            method=method,
            raw_path=raw_path,
            raw_query=raw_query,
            headers=header_list,
            secret_of=SECRETS.get,
            now=NOW,
            region="us-east-1",
        )
    except errors.S3Error as error:
        shown = errors.render(error, resource="", request_id="", host_id="").decode()
        assert SECRET_KEY not in shown
        return False
    return identity is not None


# -- nobody gets in without a signature ------------------------------------------------------------------------

AUTHORIZATION_PIECES = st.lists(
    st.sampled_from(
        [
            b"AWS4-HMAC-SHA256",
            b" ",
            b",",
            b"=",
            b"Credential",
            b"SignedHeaders",
            b"Signature",
            b"/20261120/us-east-1/s3/aws4_request",
            ACCESS_KEY.encode(),
            b"host;x-amz-content-sha256;x-amz-date",
            b"host",
            b"0" * 64,
            b"\xff",
            b"\0",
        ]
    ),
    max_size=20,
).map(b"".join)


@given(AUTHORIZATION_PIECES | st.binary(max_size=100))
def test_no_authorization_header_of_a_stranger_is_accepted(value: bytes) -> None:
    sent = [
        (b"host", b"h"),
        (b"authorization", value),
        (b"x-amz-date", b"20261120T120000Z"),
        (b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"),
    ]
    assert not is_authenticated(b"/b/k", b"", sent)


QUERY_PIECES = st.lists(
    st.sampled_from(
        [
            b"&",
            b"=",
            b"%",
            b"+",
            b"X-Amz-Algorithm=AWS4-HMAC-SHA256",
            b"&X-Amz-Credential=" + ACCESS_KEY.encode() + b"%2F20261120%2Fus-east-1%2Fs3%2Faws4_request",
            b"&X-Amz-Date=20261120T120000Z",
            b"&X-Amz-Expires=60",
            b"&X-Amz-SignedHeaders=host",
            b"&X-Amz-Signature=" + b"0" * 64,
            b"&Signature=x",
            b"&AWSAccessKeyId=x",
            b"\xff",
        ]
    ),
    max_size=15,
).map(b"".join)


@given(QUERY_PIECES | st.binary(max_size=100), st.binary(max_size=30))
def test_no_query_of_a_stranger_is_accepted(raw_query: bytes, raw_path: bytes) -> None:
    assert not is_authenticated(raw_path, raw_query, [(b"host", b"h")])


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=60)), max_size=6))
def test_arbitrary_headers(header_list: list[tuple[bytes, bytes]]) -> None:
    assert not is_authenticated(b"/b/k", b"", header_list)


@given(st.data())
def test_one_changed_byte_anywhere_in_a_signed_request_is_noticed(data: st.DataObject) -> None:
    """Unless it means the same. Break tried: _is_signature returning True; this went red."""
    wire = data.draw(st.sampled_from([PRESIGNED, BY_HEADER]))
    signed = [(b"host", wire.headers["host"].encode())]
    if wire is BY_HEADER:
        names = ("authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-meta-a")
        signed += [(name.encode(), wire.headers[name].encode()) for name in names]
    parts = [wire.raw_path, wire.raw_query, *(value for _, value in signed)]
    target = data.draw(st.integers(0, len(parts) - 1))
    if not parts[target]:
        return
    position = data.draw(st.integers(0, len(parts[target]) - 1))
    changed = bytearray(parts[target])
    changed[position] = data.draw(st.integers(0, 255).filter(lambda byte: byte != changed[position]))
    parts[target] = bytes(changed)
    sent = [(name, value) for (name, _), value in zip(signed, parts[2:], strict=True)]
    if is_authenticated(parts[0], parts[1], sent):
        assert without_meaningless_differences(parts) == without_meaningless_differences(
            [wire.raw_path, wire.raw_query, *(value for _, value in signed)]
        )


def without_meaningless_differences(parts: list[bytes]) -> list[bytes]:
    """Case of hex escapes and SignedHeaders, white space around values and list items, empty parameters."""
    return [part.lower().strip().replace(b" ", b"").replace(b"\t", b"").strip(b"&") for part in parts]


PRESIGNED = presigned("PUT", "/bucket/dir/key%20one")
BY_HEADER = signed_by_header("PUT", "/bucket/dir/key%20one", "partNumber=1", {"x-amz-meta-a": "v"})


def test_both_baselines_are_accepted() -> None:
    assert PRESIGNED.verify() is not None
    assert BY_HEADER.verify() is not None


@pytest.mark.parametrize("payload", [p.value.decode() for p in Payload if p.is_chunked])
def test_framed_uploads_need_credentials(payload: str) -> None:
    """FIELD: unsigned-trailer uploads accepted without credentials (three CVEs in one store, two in another)."""
    headers_sent = {
        "host": "h",
        "x-amz-content-sha256": payload,
        "x-amz-decoded-content-length": "5",
        "x-amz-date": "20261120T120000Z",
    }
    anonymous = Wire("PUT", b"/bucket/key", b"", headers_sent)
    assert (
        anonymous.verify() is None
    )  # nobody: the pipeline refuses, and there is no decoder without an Identity
    forged = anonymous.with_header(
        "authorization",
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20261120/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length, Signature={'0' * 64}",
    )
    with pytest.raises(errors.SignatureDoesNotMatch):
        forged.verify()


# -- arbitrary input, S3 errors only ---------------------------------------------------------------------------

TEXT = st.text(st.characters(max_codepoint=0x2FF), max_size=60)
HEADER_NAMES = st.sampled_from(
    [
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "x-amz-copy-source-if-match",
        "x-amz-checksum-crc32",
        "x-amz-checksum-algorithm",
        "x-amz-checksum-type",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-trailer",
        "content-md5",
    ]
)


@given(st.dictionaries(HEADER_NAMES, TEXT))
def test_header_parsers(sent: dict[str, str]) -> None:
    parsers: list[Callable[[], object]] = [
        lambda: checksums.declared_checksum(sent),
        lambda: checksums.upload_checksum(sent),
        lambda: checksums.content_md5(sent),
        lambda: conditions.write_condition(sent),
        lambda: conditions.check_read(conditions.read_conditions(sent) or NO_CONDITIONS, "etag", 0),
        lambda: conditions.check_write_source(conditions.copy_conditions(sent) or NO_CONDITIONS, "etag", 0),
        lambda: headers.object_headers([(n.encode(), v.encode()) for n, v in sent.items()]),
        lambda: headers.response_overrides({f"response-{n}": v for n, v in sent.items()}),
    ]
    for parse in parsers:
        try:
            parse()
        except errors.S3Error as error:
            assert 304 <= error.status <= 501  # noqa: PT017


@given(st.binary(max_size=30))
def test_dates_and_credentials(raw: bytes) -> None:
    found = parse_amz_date(raw)
    assert found is None or found >= 0
    try:
        parse_credential(raw, "us-east-1")
    except Exception as fault:  # noqa: BLE001 - the point is which one it is
        assert type(fault).__name__ == "ScopeFault"  # noqa: PT017


# -- nothing is more expensive than it is long -----------------------------------------------------------------

MIB = 1 << 20


def _decoder(length: int) -> ChunkedDecoder:
    identity = Identity("A", Payload.UNSIGNED_CHUNKS_TRAILER, None, b"", b"", b"", b"")
    return ChunkedDecoder(identity, {"x-amz-decoded-content-length": str(length)})


def _refused(parse: Callable[[], object]) -> None:
    try:
        parse()
    except errors.S3Error:
        return


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(lambda n: ranges.parse_range("bytes=" + "0-0," * n, 10), id="many ranges"),
        pytest.param(lambda n: ranges.parse_range("bytes=" + "9" * n + "-", 10), id="long number in a range"),
        pytest.param(lambda n: headers.parse_http_date("9 " * n), id="long date"),
        pytest.param(lambda n: conditions.matches('"a",' * n, "b"), id="many etags"),
        pytest.param(lambda n: checksums.declared_checksum({"x-amz-trailer": "a," * n}), id="many trailers"),
        pytest.param(lambda n: checksums.content_md5({"content-md5": "A" * n}), id="long base64"),
        pytest.param(lambda n: xml.parse(b"<D>" + b"<a>" * n, root="D", max_bytes=64 * MIB), id="deep XML"),
        pytest.param(
            lambda n: xml.parse(
                b"<D " + b"".join(b"a%d='' " % i for i in range(n)) + b"/>", root="D", max_bytes=64 * MIB
            ),
            id="many attributes",
        ),
        pytest.param(
            lambda n: xml.parse(b"<D>" + b"&#97;" * n + b"</D>", root="D", max_bytes=64 * MIB),
            id="references",
        ),
        pytest.param(lambda n: _decoder(5).feed(b"0" * n), id="endless chunk header"),
        pytest.param(lambda n: _decoder(5).feed(b"5;" + b"\n" * n), id="line feeds in a chunk header"),
        pytest.param(lambda n: _decoder(0).feed(b"0\r\n" + b"a:b\r\n" * n), id="endless trailer"),
        pytest.param(
            lambda n: is_authenticated(b"/" + b"%" * n, b"&" * n, [(b"authorization", b"," * n)]),
            id="separators",
        ),
        pytest.param(
            lambda n: is_authenticated(
                b"/",
                b"X-Amz-Algorithm=AWS4-HMAC-SHA256&" + b"&".join(b"x-amz-%d=" % i for i in range(n // 8)),
                [(b"x-amz-%d" % i, b"") for i in range(n // 8)],
            ),
            id="many parameters and headers",
        ),
    ],
)
def test_cost_grows_no_faster_than_the_input(attack: Callable[[int], object]) -> None:
    """FIELD: Range headers in O(n²). 1 MiB of each must be dealt with in well under a second of CPU time."""
    began_s = time.process_time()
    _refused(lambda: attack(200_000))
    assert time.process_time() - began_s < 1.0


def test_chunk_by_chunk_overhead_is_bounded() -> None:
    """A body of one-byte chunks, in one-byte pieces: linear, and no memory is kept."""
    body = b"1\r\nx\r\n" * 20_000
    machine = _decoder(20_001)
    began_s = time.process_time()
    count = sum(len(machine.feed(body[i : i + 1])) for i in range(len(body)))
    assert count == 20_000
    assert time.process_time() - began_s < 2.0
    assert len(machine._line) == 0
    assert machine._held == []


def test_time_is_an_argument() -> None:
    assert PRESIGNED.verify(now=datetime(2026, 11, 20, 12, 30, tzinfo=UTC)) is not None
