"""What the supervisor and the short-lived founding process tell each other, as JSON lines over pipes.

The supervisor sends a FoundingPlan, the other answers with the FoundedStore; then the supervisor listens for
the nodes that it is to run and sends their Addresses, which the other commits before it ends. Apart from
compose.founding, because the supervisor must not load SQL to speak with it.
"""

from __future__ import annotations

import msgspec


class PlannedNode(msgspec.Struct, frozen=True):
    """A storage node that a new store is to have."""

    name: str
    region: str
    zone: str
    directory: str


class FoundingPlan(msgspec.Struct, frozen=True):
    """`nodes` are for a store that has none yet; empty when the store must be there already.

    `given` are the directories that were named at this start, if any; `nodes_asked` the number of nodes that
    was, or 0; `width` how many nodes a stripe needs.
    """

    nodes: list[PlannedNode]
    given: list[str] = []
    nodes_asked: int = 0
    width: int = 0


class FoundedNode(msgspec.Struct, frozen=True):
    """A node of the store. One with a `problem` can't be started; the text says why."""

    number: int
    name: str
    node_id: str
    """Hexadecimal."""
    directory: str
    problem: str = ""


class FoundedStore(msgspec.Struct, frozen=True):
    cluster_id: str
    """Hexadecimal."""
    nodes: list[FoundedNode]
    nodes_elsewhere: int = 0
    """Those that are started by themselves."""


class NodeAddress(msgspec.Struct, frozen=True):
    """Where a node listens: `host` is the path of a Unix socket when `port` is 0."""

    number: int
    host: str
    port: int


class Addresses(msgspec.Struct, frozen=True):
    nodes: list[NodeAddress]
