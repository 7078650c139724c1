"""What a row of the table of operations is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from s3front.request import Request
from s3front.response import Response
from s3front.services import FrontServices

Handler = Callable[[FrontServices, Request], Awaitable[Response]]
Target = Literal["service", "bucket", "object"]
Support = Literal["done", "stored", "refused"]
"""`done`: it does what it says. `stored`: a configuration that is kept and handed back, but not acted on.
`refused`: answered with an error of AWS's."""

_ACTIONS = ("s3:", "s3express:", "s3-object-lambda:")


@dataclass(frozen=True, slots=True)
class Operation:
    """One S3 operation.

    `subresource` is the query parameter that tells it from others of the same method and target ("" for none);
    `header` or `parameter`, one more header or query parameter that it has and its likeness has not. `note` says what
    the support leaves out, or why it is refused. `old_name`: what AWS's model calls an earlier form of the request.
    """

    name: str
    method: str
    target: Target
    action: str
    handler: Handler
    subresource: str = ""
    header: str = ""
    parameter: str = ""
    support: Support = "done"
    note: str = ""
    old_name: str = ""

    def __post_init__(self) -> None:
        assert self.action.startswith(_ACTIONS), f"{self.name} needs an action"
        assert self.note or self.support == "done", f"{self.name} needs a note"

    def is_meant(self, request: Request) -> bool:
        """Whether the request has what tells this operation from its likeness."""
        return (not self.header or self.header in request.headers) and (
            not self.parameter or self.parameter in request.query
        )
