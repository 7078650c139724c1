"""One S3 request, parsed from the raw ASGI scope: addressing, query, headers.

Keys and signatures come from ``raw_path`` and the raw query string: the decoded path has lost the difference between
``%2F`` and ``/`` and the router of a web framework would redirect double slashes away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from s3front.errors import InvalidArgument, InvalidBucketName, InvalidURI, KeyTooLongError
from s3front.limits import KEY_BYTES_MAX

if TYPE_CHECKING:
    from s3front.auth.sigv4 import Identity

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ADMIN_PREFIX = b"/-/"


class Request:
    """What the pipeline and the handlers know of a request; filled in as it walks down the pipeline.

    ``bucket`` is None for the service itself; ``key`` is None where the request names no object. ``key`` is the
    object's key as UTF-8 bytes, 1 to 1,024 of them.
    """

    __slots__ = (
        "body_consumed",
        "bucket",
        "header_list",
        "headers",
        "identity",
        "key",
        "method",
        "query",
        "raw_path",
        "raw_query",
        "receive",
        "request_id",
    )

    identity: Identity

    def __init__(self, scope: Scope, receive: Receive, request_id: str, domains: tuple[str, ...]) -> None:
        """Parse `scope`. Raises InvalidURI, InvalidArgument, KeyTooLongError, InvalidBucketName (all P10)."""
        self.request_id = request_id
        self.receive = receive
        self.body_consumed = False
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self.raw_query: bytes = scope["query_string"]
        self.header_list: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers = join_headers(self.header_list)
        self.query: Mapping[str, str] = parse_query(self.raw_query) if self.raw_query else {}
        self.bucket, self.key = address(self.raw_path, self.headers.get("host", ""), domains)

    def header(self, name: str) -> str | None:
        """The header's value, surrounding white space removed; several of one name are joined by commas."""
        return self.headers.get(name)

    def adopt_signed_query(self) -> None:
        """Take ``x-amz-…`` parameters of a presigned URL for headers, as S3 does: SDKs sign them in either place.

        Only after the signature has been verified, and never over a header that was sent.
        """
        for name, value in self.query.items():
            if name.startswith("x-amz-") and name not in self.headers:
                self.headers[name] = value
                self.header_list.append((name.encode(), value.encode()))

    @property
    def content_length(self) -> int | None:
        """Bytes of the body on the wire; None when the request does not say. Raises InvalidArgument."""
        value = self.headers.get("content-length")
        if value is None:
            return None
        if not (value.isascii() and value.isdigit()) or len(value) > 19:
            raise InvalidArgument(
                "Content-Length must be a non-negative integer.", ArgumentName="Content-Length"
            )
        return int(value)


def join_headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case names to values; values are Latin-1 text as HTTP has them (metadata decodes UTF-8 from it)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = raw_name.decode("latin-1")
        value = raw_value.decode("latin-1").strip()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def parse_query(raw: bytes) -> dict[str, str]:
    """Decoded query parameters; of several with one name the first counts. Raises InvalidURI on bad UTF-8.

    ``X-Amz-…`` belong to the signature, which is verified over the raw query: they are left as they are.
    """
    query: dict[str, str] = {}
    for pair in raw.decode("latin-1").split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        if ("%" in pair or "+" in pair or not pair.isascii()) and not pair.startswith("X-Amz-"):
            name, value = _decode_component(name), _decode_component(value)
        query.setdefault(name, value)
    return query


def _decode_component(text: str) -> str:
    try:
        return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise InvalidURI from None


def host_bucket(host: str, domains: tuple[str, ...]) -> str | None:
    """The bucket that a virtual-host-style Host names, or None for path style (S27)."""
    name = host.rsplit(":", 1)[0] if host[-1:] != "]" else host
    for domain in domains:
        if name.endswith(domain) and len(name) > len(domain) + 1 and name[-len(domain) - 1] == ".":
            return name[: -len(domain) - 1]
    return None


def address(raw_path: bytes, host: str, domains: tuple[str, ...]) -> tuple[str | None, bytes | None]:
    """Split a request into bucket and key (path style or virtual-host style).

    Raises InvalidURI, KeyTooLongError, InvalidBucketName.
    """
    bucket = host_bucket(host, domains)
    if bucket is not None:
        return bucket, _decode_key(raw_path[1:])
    raw_bucket, _, raw_key = raw_path[1:].partition(b"/")
    if not raw_bucket:
        if raw_key:
            raise InvalidURI
        return None, None
    try:
        return unquote_to_bytes(raw_bucket).decode(), _decode_key(raw_key)
    except UnicodeDecodeError:
        raise InvalidBucketName(BucketName=raw_bucket.decode("latin-1")) from None


def _decode_key(raw: bytes) -> bytes | None:
    if not raw:
        return None
    key = unquote_to_bytes(raw) if b"%" in raw else raw
    check_key(key)
    return key


def check_key(key: bytes) -> None:
    """Raise unless S3 accepts the key: UTF-8, 1 to 1,024 bytes, never climbing above its bucket by ``..``.

    Keys are otherwise opaque: ``//``, ``.`` and control characters are kept as they are ("Naming Amazon S3 objects").
    """
    try:
        key.decode()
    except UnicodeDecodeError:
        raise InvalidURI from None
    if len(key) > KEY_BYTES_MAX:
        raise KeyTooLongError(MaxSizeAllowed=KEY_BYTES_MAX, Size=len(key))
    if b".." in key and climbs_out(key):
        raise InvalidURI


def climbs_out(key: bytes) -> bool:
    """Whether, read from left to right, ``..`` segments ever outnumber the others (AWS refuses these keys)."""
    depth = 0
    for segment in key.split(b"/"):
        if segment == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif segment not in (b"", b"."):
            depth += 1
    return False
