"""Answers cut at every byte, framed in every way that HTTP has, and broken ones."""

from __future__ import annotations

import pytest

from conformance.bench.answer import HEAD_BYTES_MAX, Answer, AnswerBroken

WHOLE = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: abc\r\n\r\nhello", 200, b"hello"),
    (b"HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", 404, b""),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n, world!!!\r\n0\r\n\r\n",
        200,
        b"hello, world!!!",
    ),
    (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\nx-trailer: 1\r\n\r\n",
        200,
        b"x",
    ),
]


def fed(answer: Answer, *pieces: bytes) -> bytes:
    return b"".join(bytes(answer.feed(memoryview(piece))) for piece in pieces)


@pytest.mark.parametrize(("raw", "status", "body"), WHOLE)
def test_an_answer_is_the_same_wherever_it_is_cut(raw: bytes, status: int, body: bytes) -> None:
    """Red when the rest of a line is forgotten between two pieces, in heads or between chunks."""
    answer = Answer()
    for cut in range(len(raw) + 1):
        answer.begin(for_head=False)
        assert fed(answer, raw[:cut], raw[cut:]) == body, cut
        assert (answer.complete, answer.status) == (True, status), cut
    answer.begin(for_head=False)
    assert fed(answer, *(raw[at : at + 1] for at in range(len(raw)))) == body
    assert answer.complete


@pytest.mark.parametrize(("raw", "status", "body"), WHOLE)
def test_it_is_not_complete_before_its_last_byte(raw: bytes, status: int, body: bytes) -> None:
    answer = Answer()
    for cut in range(len(raw)):
        answer.begin(for_head=False)
        fed(answer, raw[:cut])
        assert not answer.complete, cut
        assert not answer.end(), cut


def test_an_answer_to_head_tells_a_length_and_has_no_body() -> None:
    answer = Answer()
    answer.begin(for_head=True)
    assert fed(answer, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n") == b""
    assert answer.complete
    assert not answer.closes


def test_without_a_length_the_connections_end_is_the_end() -> None:
    answer = Answer()
    assert fed(answer, b"HTTP/1.1 200 OK\r\n\r\nsome", b"thing") == b"something"
    assert not answer.complete
    assert answer.end()
    assert answer.closes


def test_headers_are_found_in_any_case() -> None:
    answer = Answer()
    fed(
        answer,
        b"HTTP/1.1 200 OK\r\nX-Amz-Version-Id:  Abc \r\nCONNECTION: Close\r\nContent-Length: 0\r\n\r\n",
    )
    assert answer.header(b"x-amz-version-id") == b"Abc"
    assert answer.header(b"version-id") == b""
    assert answer.closes


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc",
        b"HTTP/1.1 204 No Content\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * HEAD_BYTES_MAX,
    ],
)
def test_what_is_no_answer_is_broken(raw: bytes) -> None:
    with pytest.raises(AnswerBroken):
        fed(Answer(), raw)
