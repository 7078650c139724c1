"""What is answered to an admin request that can't be done: a problem document (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

PROBLEM_CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:trivet:problem:"


class FieldError(msgspec.Struct, frozen=True):
    """`field`: `query.limit`, `body.role`, `path.node`, as far as the request's own names go."""

    field: str
    detail: str


class ProblemDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457. `type` is the same for all problems of a kind, for programs to compare; `request_id` is also in the
    log, with what happened."""

    type: Annotated[str, msgspec.Meta(pattern="^urn:trivet:problem:[a-z0-9-]+$")]
    title: str
    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    request_id: str = ""
    detail: str = ""
    errors: tuple[FieldError, ...] = ()


class Problem(Exception):
    """`kind` is the last part of the document's `type`, a word in lower case with dashes that programs can compare;
    `title` the same for every problem of that kind, `detail` for this one. `headers` go on the answer."""

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def document(self, request_id: str) -> bytes:
        """The body of the answer."""
        return msgspec.json.encode(
            ProblemDocument(
                type=TYPE_PREFIX + self.kind,
                title=self.title,
                status=self.status,
                request_id=request_id,
                detail=self.detail,
                errors=self.errors,
            )
        )


def not_found(what: str, name: str) -> Problem:
    """404: there is no `what` of that name."""
    return Problem(404, "not-found", f"There is no such {what}", f"there is no {what} {name}")


def invalid(field: str, detail: str) -> Problem:
    """400: the value of one field can't be used."""
    return Problem(
        400, "invalid-input", "The request can't be understood", detail, errors=(FieldError(field, detail),)
    )


def conflict(kind: str, title: str, detail: str) -> Problem:
    """409: not in the store's present state."""
    return Problem(409, kind, title, detail)


def unavailable(detail: str) -> Problem:
    """503: the catalog or the nodes can't do it now."""
    return Problem(
        503, "unavailable", "The store can't do this now; try again", detail, headers={"retry-after": "1"}
    )
