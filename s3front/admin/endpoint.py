"""What one endpoint of the admin API is: a row of a table, from which routes, checks and the OpenAPI document come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from s3front.admin.services import AdminServices


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters, or an empty answer."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked: `query` and `body` are of the types that the endpoint asks for."""

    access_key: str
    """Of the caller, who is proved and may do this."""
    path: Mapping[str, str]
    """The parameters in the path, decoded."""
    query: Any
    body: Any


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer with headers of its own (``location``)."""

    value: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Download:
    """An answer that is not one JSON value: `pieces` are `size` bytes in all; `close` is called at the end in any
    case."""

    content_type: str
    size: int
    pieces: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[AdminServices, Call], Awaitable[Any]]
"""Returns the answer, of the type that the endpoint promises, or Answered or Download with it. Raises Problem;
MembershipRefused becomes 409, CatalogErrors and ClusterErrors become 503."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path` stands below ``/-/admin/v1`` and has parameters in braces: ``{node}`` is one part of the path,
    ``{id:int}`` a whole number, ``{key:path}`` (at the end only) all that is left, slashes too. `name` is the
    operationId, in camel case; `summary` one sentence. `query` and `body` are Structs that forbid unknown fields;
    limits stand in their types (msgspec.Meta). `answers`: the type of the answer; Nothing with status 204 is no body.
    A body whose fields all have defaults may be left out."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    answers: Any
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] | None = None
    status: int = 200
    downloads: tuple[str, ...] = ()
    """Other content types that the answer can have."""
    refusals: tuple[int, ...] = ()
    """Statuses of problems that are this endpoint's own; 404 and 400 follow from parameters and inputs."""

    @property
    def parts(self) -> tuple[PathPart, ...]:
        """Of `path`, from left to right."""
        return tuple(_part(text) for text in self.path.removeprefix("/").split("/"))


@dataclass(frozen=True, slots=True)
class PathPart:
    """`text` is a parameter's name unless `kind` is literal."""

    text: str
    kind: Literal["literal", "str", "int", "path"]


def _part(text: str) -> PathPart:
    if not text.startswith("{"):
        return PathPart(text, "literal")
    name, _, kind = text[1:-1].partition(":")
    if kind == "int":
        return PathPart(name, "int")
    if kind == "path":
        return PathPart(name, "path")
    assert not kind, f"{text}: no such kind of parameter"
    return PathPart(name, "str")
