"""What is answered to an admin request that can't be done: a problem document (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

PROBLEM_CONTENT_TYPE = "application/problem+json"


class FieldError(msgspec.Struct, frozen=True):
    """`field`: `query.limit`, `body.role`, `path.node`, as far as the request's own names go."""

    field: str
    detail: str


class Problem(Exception):
    """`kind` is the last part of the document's `type`, a word in lower case with dashes that programs can compare;
    `title` the same for every problem of that kind, `detail` for this one."""

    def __init__(
        self, status: int, kind: str, title: str, detail: str = "", *, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)


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
