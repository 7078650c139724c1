"""What an access key may do: its role, which is all there is to decide by."""

from __future__ import annotations

from typing import Literal

Role = Literal["admin", "readwrite", "readonly"]
"""`admin`: S3 and the admin API. `readwrite`: all of S3. `readonly`: the actions of S3 that only read."""

ADMIN: Role = "admin"
READWRITE: Role = "readwrite"
READONLY: Role = "readonly"

_READING = ("s3:Get", "s3:List")
"""How the actions that only read begin; a HEAD needs the same action as the GET or the list beside it."""


def may(role: str, action: str) -> bool:
    """Whether a key of this role may do what needs the S3 action. An unknown role, as a later release might write
    one, may nothing."""
    if role in (ADMIN, READWRITE):
        return True
    return role == READONLY and action.startswith(_READING)


def may_administrate(role: str) -> bool:
    """Whether a key of this role may use the admin API."""
    return role == ADMIN
