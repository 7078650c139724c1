"""The canonical request of Signature Version 4, as S3 reads it (sans-I/O).

S3 signs path and query as they are on the wire, without normalising them. Clients that encode on the wire
otherwise than in their canonical request (a bare ``+`` or ``~``, lower-case hex, double spaces in a header)
verify too: each alternative form below means the same resource and the same parameters to the rest of the
front, so which of them was signed decides nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

SIGNATURE_PARAMETER = b"X-Amz-Signature"

Pair = tuple[bytes, bytes, bytes]
"""One query parameter as ``bytes.partition(b"=")`` gives it, still encoded."""


class RequestLine(NamedTuple):
    """What of a request is signed, beside its headers. `pairs` leave the signature itself out."""

    method: bytes
    raw_path: bytes
    pairs: list[Pair]


def split_query(raw_query: bytes) -> list[Pair]:
    """The query's parameters in the order sent; empty ones are dropped."""
    return [part.partition(b"=") for part in raw_query.split(b"&") if part]


def join_headers(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Lower-case names to values; several headers of one name are joined by commas."""
    by_name = dict(headers)
    if len(by_name) == len(headers):
        return by_name
    by_name = {}
    for name, value in headers:
        by_name[name] = by_name[name].strip() + b"," + value.strip() if name in by_name else value
    return by_name


def canonical_request(
    line: RequestLine, headers: Mapping[bytes, bytes], signed_names: Sequence[bytes], payload: bytes
) -> bytes:
    """The canonical request with path and query as they came over the wire: the form S3 expects."""
    head = (line.method, line.raw_path, _join(line.pairs), _wire_headers(headers, signed_names))
    return b"\n".join((*head, b";".join(signed_names), payload))


def equivalent_requests(
    line: RequestLine, headers: Mapping[bytes, bytes], signed_names: Sequence[bytes], payload: bytes
) -> Iterator[bytes]:
    """Every canonical request that a client may have signed for this very request, at most eight of them."""
    paths = _distinct(line.raw_path, _encode_path(line.raw_path))
    queries = _distinct(_join(line.pairs), _join(_encode_pairs(line.pairs)))
    blocks = _distinct(_wire_headers(headers, signed_names), _collapsed_headers(headers, signed_names))
    for form in product(paths, queries, blocks):
        yield b"\n".join((line.method, *form, b";".join(signed_names), payload))


def _distinct(*forms: bytes) -> list[bytes]:
    return list(dict.fromkeys(forms))


def _join(pairs: list[Pair]) -> bytes:
    """Sorted by encoded name, then by value ("Signature calculations: canonical query string")."""
    return b"&".join([name + b"=" + value for name, _, value in sorted(pairs)])


def _wire_headers(headers: Mapping[bytes, bytes], signed_names: Sequence[bytes]) -> bytes:
    """A line a signed header, absent ones empty, values trimmed."""
    return b"".join([name + b":" + headers.get(name, b"").strip() + b"\n" for name in signed_names])


def _collapsed_headers(headers: Mapping[bytes, bytes], signed_names: Sequence[bytes]) -> bytes:
    """The same with runs of white space as one space, as the SDKs sign them."""
    return b"".join(
        [name + b":" + b" ".join(headers.get(name, b"").split()) + b"\n" for name in signed_names]
    )


def _encode_path(raw_path: bytes) -> bytes:
    """Each segment decoded and encoded again, so that an escaped slash stays escaped."""
    return b"/".join([_encode(segment) for segment in raw_path.split(b"/")])


def _encode_pairs(pairs: list[Pair]) -> list[Pair]:
    """Parameters decoded, ``+`` as a space as the front reads it, and encoded again."""
    return [
        (_encode(name.replace(b"+", b" ")), b"=", _encode(value.replace(b"+", b" ")))
        for name, _, value in pairs
    ]


def _encode(raw: bytes) -> bytes:
    """Every byte but ``A-Za-z0-9-._~`` as an upper-case escape."""
    return quote_from_bytes(unquote_to_bytes(raw), safe="~").encode()
