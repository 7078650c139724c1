"""What all listings share: integer parameters, opaque tokens, and ``encoding-type``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from urllib.parse import quote

from s3front.errors import InvalidArgument
from s3front.request import Request


def integer_parameter(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    """A query parameter as a number, capped at `most`. Raises InvalidArgument below `least` or when it is none."""
    return _integer(request.query.get(name), name, default=default, least=least, most=most)


def integer_header(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    """A header as a number, like `integer_parameter`."""
    return _integer(request.headers.get(name), name, default=default, least=least, most=most)


def _integer(value: str | None, name: str, *, default: int, least: int, most: int) -> int:
    if value is None or value == "":
        return default
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 10:
        raise InvalidArgument(
            f"Provided {name} not an integer or within integer range", ArgumentName=name, ArgumentValue=value
        )
    if int(value) < least:
        raise InvalidArgument(
            f"Argument {name} must be an integer between {least} and 2147483647",
            ArgumentName=name,
            ArgumentValue=value,
        )
    return min(int(value), most)


def encode_token(after: bytes) -> str:
    """An opaque continuation token; it holds the last key or prefix of the page before."""
    return base64.urlsafe_b64encode(after).decode()


def decode_token(token: str) -> bytes:
    """The inverse of `encode_token`. Raises InvalidArgument for what it can't have made."""
    try:
        after = base64.b64decode(token.encode("ascii", "replace"), altchars=b"-_", validate=True)
        after.decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidArgument(
            "The continuation token provided is incorrect", ArgumentName="continuation-token"
        ) from None
    return after


def key_encoder(request: Request) -> Callable[[bytes], str]:
    """How this listing writes keys: as they are, or percent-encoded when ``encoding-type=url`` was asked for."""
    encoding = request.query.get("encoding-type")
    if encoding is None:
        return bytes.decode
    if encoding != "url":
        raise InvalidArgument(
            "Invalid Encoding Method specified in Request",
            ArgumentName="encoding-type",
            ArgumentValue=encoding,
        )
    return quote
