"""What the roles allow, over the table of all operations."""

from __future__ import annotations

import pytest

from s3front.auth.keys import Caller
from s3front.auth.payload import Payload
from s3front.auth.roles import may, may_administrate
from s3front.auth.sigv4 import Identity
from s3front.errors import AccessDenied
from s3front.operation import Operation
from s3front.operations import OPERATIONS
from s3front.pipeline import authorise

IDENTITY = Identity("KEY", Payload.UNSIGNED, None, b"", b"", b"", b"")


def allowed(role: str, operation: Operation) -> bool:
    try:
        authorise(Caller(IDENTITY, role), operation)
    except AccessDenied:
        return False
    return True


def test_readonly_reads_and_nothing_else() -> None:
    """Every operation of the table that only reads is a GET or HEAD and no other is: so the actions and the methods
    prove each other. Red when an operation that writes gets an action that begins with s3:Get or s3:List. What is
    refused changes nothing, whoever asks."""
    for operation in OPERATIONS:
        if operation.support == "refused":
            continue
        assert allowed("readonly", operation) == (operation.method in ("GET", "HEAD")), operation.name


@pytest.mark.parametrize("role", ["admin", "readwrite"])
def test_the_others_may_do_all_of_s3(role: str) -> None:
    """Whatever is in the table."""
    assert all(allowed(role, operation) for operation in OPERATIONS)


@pytest.mark.parametrize("role", ["", "root", "Admin", "readonly ", "owner"])
def test_an_unknown_role_may_nothing(role: str) -> None:
    """A later release may write roles that this one does not know. Red when the default is to allow."""
    assert not any(allowed(role, operation) for operation in OPERATIONS)
    assert not may_administrate(role)


def test_only_admins_administrate() -> None:
    """The admin API can make keys: whoever may use it may do everything."""
    assert [may_administrate(role) for role in ("admin", "readwrite", "readonly")] == [True, False, False]
    assert not may("readonly", "s3:PutObject")
