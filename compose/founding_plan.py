"""What the supervisor and the short-lived founding process tell each other, as JSON over pipes.

Apart from compose.founding, because the supervisor must not load SQL to speak with it.
"""

from __future__ import annotations

import msgspec


class PlannedNode(msgspec.Struct, frozen=True):
    """A storage node as this start of the store has it: where its data lies and where it listens (`host`
    is the path of a Unix socket when `port` is 0).
    """

    name: str
    region: str
    zone: str
    directory: str
    host: str
    port: int


class FoundingPlan(msgspec.Struct, frozen=True):
    nodes: list[PlannedNode]


class FoundedNode(msgspec.Struct, frozen=True):
    name: str
    node_id: str
    """Hexadecimal."""


class FoundedStore(msgspec.Struct, frozen=True):
    cluster_id: str
    """Hexadecimal."""
    nodes: list[FoundedNode]
