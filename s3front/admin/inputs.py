"""What a client sends to the admin API, made into the types that endpoints ask for (sans-I/O).

Whatever does not fit becomes a Problem that names the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from s3front.admin.endpoint import PathPart
from s3front.admin.problem import Problem, invalid

BODY_BYTES_MAX = 64 << 10
JSON_CONTENT_TYPE = "application/json"
_SIGNATURE_PREFIX = "X-Amz-"
"""Of a presigned URL: the signature's parameters, checked where it is checked."""

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

_AT = re.compile(r"(?P<what>.*) - at `\$(?P<path>.*)`", re.DOTALL)
_NAMED = re.compile(r"(?P<what>.* field) `(?P<name>[^`]*)`.*", re.DOTALL)


def path_values(parts: tuple[PathPart, ...], raw: list[bytes]) -> dict[str, str] | None:
    """The parameters when the raw path, cut at its slashes, is one of this template; else None.

    Raises Problem for a parameter that is not UTF-8, or no whole number where one belongs.
    """
    found = _fitting(parts, raw)
    if found is None:
        return None
    values: dict[str, str] = {}
    for part, value in found:
        field = f"path.{part.text}"
        values[part.text] = _decoded(value, field)
        if part.kind == "int":
            _check_number(values[part.text], field)
    return values


def _fitting(parts: tuple[PathPart, ...], raw: list[bytes]) -> list[tuple[PathPart, bytes]] | None:
    """The parameters, still encoded, none of them empty."""
    if len(raw) < len(parts) or (len(raw) > len(parts) and parts[-1].kind != "path"):
        return None
    if parts[-1].kind == "path":
        raw = [*raw[: len(parts) - 1], b"/".join(raw[len(parts) - 1 :])]
    found: list[tuple[PathPart, bytes]] = []
    for part, value in zip(parts, raw, strict=True):
        if not value or (part.kind == "literal" and value != part.text.encode()):
            return None
        if part.kind != "literal":
            found.append((part, value))
    return found


def _check_number(text: str, field: str) -> None:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise invalid(field, "must be a whole number")


def _decoded(raw: bytes, field: str) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise invalid(field, "must be UTF-8") from None


def query_of(kind: type[S], raw: bytes) -> S:
    """The query string as a `kind`; numbers and booleans are converted. Raises Problem."""
    values: dict[str, str] = {}
    for pair in raw.split(b"&"):
        if not pair or pair.startswith(_SIGNATURE_PREFIX.encode()):
            continue
        raw_name, _, raw_value = pair.replace(b"+", b" ").partition(b"=")
        name = _decoded(raw_name, "query")
        if name in values:
            raise invalid(f"query.{name}", "must be given once")
        values[name] = _decoded(raw_value, f"query.{name}")
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _problem("query", error, kind) from None


def body_of(kind: type[S], data: bytes, headers: Mapping[str, str]) -> S:
    """The JSON body as a `kind`. Raises Problem: 415 for another content type, 400 for what does not fit."""
    if data:
        sent = headers.get("content-type", "")
        if sent.partition(";")[0].strip().lower() != JSON_CONTENT_TYPE:
            raise Problem(
                415,
                "unsupported-content-type",
                "Only JSON is understood",
                f"content-type must be {JSON_CONTENT_TYPE}, not {sent!r}",
            )
    elif not needs_body(kind):
        data = b"{}"
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _problem("body", error, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid("body", f"is not JSON: {error}") from None


def refuse_body(data: bytes) -> None:
    """Raises Problem unless it is empty: what nobody looks at should not seem to be obeyed."""
    if data:
        raise invalid("body", "this request takes no body")


def needs_body(kind: type[msgspec.Struct]) -> bool:
    """Whether a `kind` has fields that must be given."""
    return any(field.required for field in msgspec.structs.fields(kind))


def _problem(where: str, error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> Problem:
    """msgspec says where in words: ``Expected `int` - at `$.limit` ``."""
    text = str(error)
    path = ""
    found = _AT.fullmatch(text)
    if found is not None:
        text, path = found["what"], found["path"]
    named = _NAMED.fullmatch(text)
    if named is not None:
        path = f"{path}.{named['name']}"
        text = "is not known here" if "unknown" in named["what"] else "must be given"
    elif text.startswith("Invalid enum value") and (words := _choices(kind, path.removeprefix("."))):
        text = f"must be one of {words}"
    return invalid(where + path, _in_words(text))


def _choices(kind: type[msgspec.Struct], name: str) -> str:
    """The values that the field may have, if these are all that there are."""
    for field in msgspec.structs.fields(kind):
        if field.encode_name == name:
            info = msgspec.inspect.type_info(field.type)
            kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
            values = [each.values for each in kinds if isinstance(each, msgspec.inspect.LiteralType)]
            return ", ".join(str(value) for several in values for value in several)
    return ""


_EXPECTED = re.compile(r"Expected (?P<wanted>.*?)(, got .*)?", re.DOTALL)


def _in_words(text: str) -> str:
    found = _EXPECTED.fullmatch(text)
    return f"must be {found['wanted'].replace('`', '')}" if found is not None else text.replace("`", "")
