"""What the admin API works with, beyond what S3 requests need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from cluster.membership import NodeHomes
from s3front.services import FrontServices


class SettingInForce(msgspec.Struct, frozen=True):
    """`value` and `default` as the variable `env` would be written."""

    name: str
    env: str
    value: str
    default: str
    help: str


@dataclass(frozen=True, slots=True)
class AdminServices:
    """What compose hands in: where nodes lie on this machine, and who starts and stops them."""

    front: FrontServices
    homes: NodeHomes
    settle_nodes: Callable[[], Awaitable[list[str]]]
    """Has the supervisor run the nodes that the catalog has now; what a person should know of it."""
    supervised: Callable[[], bool]
    """Whether there is a supervisor here, which starts and stops nodes."""
    settings: tuple[SettingInForce, ...]
    width: int
    """k + m of new objects."""
    release: str
