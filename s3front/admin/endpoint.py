"""What one endpoint of the admin API is: a row of a table, from which routes, checks and the OpenAPI document come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

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


Handler = Callable[[AdminServices, Call], Awaitable[Any]]
"""Returns the answer, of the type that the endpoint promises. Raises Problem; CatalogErrors and ClusterErrors become
503."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path` stands below ``/-/admin/v1`` and has parameters in braces (``{key:path}`` takes slashes too). `name` is
    the operationId, in camel case; `summary` one sentence. `query` and `body` are Structs that forbid unknown fields;
    limits stand in their types (msgspec.Meta). `answers`: the type of the answer."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    answers: Any
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] | None = None
    status: int = 200
