"""Conditional requests with AWS's precedence (RFC 9110, 13.2.2; S3 user guide, "Conditional requests")."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from catalog.model import Condition
from s3front.errors import Header, InvalidArgument, NotModified, PreconditionFailed
from s3front.wire.headers import parse_http_date

_NAMES = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
COPY_SOURCE_PREFIX = "x-amz-copy-source-"
RENAME_SOURCE_PREFIX = "x-amz-rename-source-"


class Conditions(NamedTuple):
    """The four conditions a reader may set, as sent."""

    if_match: str | None
    if_none_match: str | None
    if_modified_since: str | None
    if_unmodified_since: str | None


def read_conditions(headers: Mapping[str, str]) -> Conditions | None:
    """The conditions of GET and HEAD; None when there are none."""
    return _conditions(headers, "")


def copy_conditions(headers: Mapping[str, str]) -> Conditions | None:
    """The conditions on the source of a copy; None when there are none."""
    return _conditions(headers, COPY_SOURCE_PREFIX)


def rename_conditions(headers: Mapping[str, str]) -> Conditions | None:
    """The conditions on the source of a rename; None when there are none."""
    return _conditions(headers, RENAME_SOURCE_PREFIX)


def _conditions(headers: Mapping[str, str], prefix: str) -> Conditions | None:
    found = Conditions(*(headers.get(prefix + name) for name in _NAMES))
    return None if found == (None, None, None, None) else found


def write_condition(headers: Mapping[str, str]) -> Condition | None:
    """What must be true of the current object for PutObject, CompleteMultipartUpload and the target of a copy or
    rename; None without If-Match and If-None-Match. Evaluated inside the catalog's transaction (P4).

    AWS takes nothing but ``*`` for If-None-Match; an ETag, which some others take too, means what it says.
    """
    if_match, if_none_match = headers.get("if-match"), headers.get("if-none-match")
    if if_match is None and if_none_match is None:
        return None
    return Condition(
        if_match=None if if_match is None else unquote_etag(if_match),
        if_none_match=None if if_none_match is None else unquote_etag(if_none_match),
    )


def delete_condition(etag: str | None, modified: str | None, size: str | None) -> Condition | None:
    """What must be true of the version that a delete removes or hides: If-Match or its ETag element,
    ``x-amz-if-match-last-modified-time`` and ``x-amz-if-match-size`` or the elements for them; None without any.

    Raises InvalidArgument for what is no time or size.
    """
    if etag is None and modified is None and size is None:
        return None
    return Condition(
        if_match=None if etag is None else unquote_etag(etag),
        if_match_modified_ms=None if modified is None else _modified_ms(modified),
        if_match_size=None if size is None else _size(size),
    )


def _modified_ms(value: str) -> int:
    second = parse_http_date(value)
    if second is not None:
        return second * 1000
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise InvalidArgument(
            "Invalid last modified time", ArgumentName="LastModifiedTime", ArgumentValue=value
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1000


def _size(value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise InvalidArgument("Invalid size", ArgumentName="Size", ArgumentValue=value)
    return int(value)


def check_read(conditions: Conditions, etag: str, modified_ms: int, headers: tuple[Header, ...] = ()) -> None:
    """Raise PreconditionFailed or NotModified unless GET and HEAD may answer with this object.

    `etag` has no quotes; `headers` (ETag, Last-Modified …) go with a 304.
    """
    failed = _failed_precondition(conditions, etag, modified_ms)
    if failed is not None:
        raise PreconditionFailed(Condition=failed)
    if _known_already(conditions, etag, modified_ms) is not None:
        raise NotModified(headers=headers)


def check_write_source(
    conditions: Conditions, etag: str, modified_ms: int, *, prefix: str = RENAME_SOURCE_PREFIX
) -> None:
    """Raise PreconditionFailed unless the object may be the source of a copy or rename; for these there is no 304."""
    failed = _failed_precondition(conditions, etag, modified_ms)
    failed = failed or _known_already(conditions, etag, modified_ms)
    if failed is not None:
        raise PreconditionFailed(Condition=prefix + failed)


def _failed_precondition(conditions: Conditions, etag: str, modified_ms: int) -> str | None:
    """The header that forbids reading, if one does. If-Match decides alone when it is there."""
    if conditions.if_match is not None:
        return None if matches(conditions.if_match, etag) else "If-Match"
    since = _second(conditions.if_unmodified_since)
    return "If-Unmodified-Since" if since is not None and modified_ms // 1000 > since else None


def _known_already(conditions: Conditions, etag: str, modified_ms: int) -> str | None:
    """The header that says the reader has this object, if one does. If-None-Match decides alone."""
    if conditions.if_none_match is not None:
        return "If-None-Match" if matches(conditions.if_none_match, etag) else None
    since = _second(conditions.if_modified_since)
    return "If-Modified-Since" if since is not None and modified_ms // 1000 <= since else None


def _second(value: str | None) -> int | None:
    """Seconds since 1970; None without the header and for no date, which is ignored (RFC 9110, 13.1.3)."""
    return None if value is None else parse_http_date(value)


def matches(header: str, etag: str) -> bool:
    """Whether a list of ETags, quoted or not, weak or not, or ``*``, names `etag` (without quotes)."""
    return any(unquote_etag(candidate) in ("*", etag) for candidate in header.split(","))


def unquote_etag(value: str) -> str:
    """``"abc"`` and ``W/"abc"`` as ``abc``: clients send ETags with and without quotes, S3 takes both."""
    return value.strip().removeprefix("W/").removeprefix('"').removesuffix('"')
