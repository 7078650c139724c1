"""Which nodes hold which shard of a blob: pure functions of the blob id and the nodes offered.

Weighted rendezvous hashing: each node draws a number from (blob id, node id), the highest draws win, so a
node that comes or goes moves only its own share. The result is stored with the blob; nothing is looked up
here twice.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

_DRAWS = 1 << 64


class Candidate(Protocol):
    """What placement needs to know of a node; `topology.NodeInfo` is one."""

    @property
    def number(self) -> int: ...
    @property
    def node_id(self) -> bytes: ...
    @property
    def region(self) -> str: ...
    @property
    def zone(self) -> str: ...
    @property
    def weight(self) -> float: ...


def place(blob_id: bytes, nodes: Sequence[Candidate], width: int) -> tuple[int, ...]:
    """Numbers of `width` different nodes, by shard; the same for the same nodes in any order.

    One shard a region while there are regions without one, then one a zone, then one a node. Within that,
    nodes are taken in proportion to their weight. ValueError when there are fewer nodes than shards.
    """
    if width > len(nodes):
        raise ValueError(f"{width} shards do not fit on {len(nodes)} nodes")
    drawn = []
    for node in nodes:
        draw = int.from_bytes(blake2b(blob_id, digest_size=8, key=node.node_id).digest(), "big")
        # -ln(u)/w keeps shares proportional to weights; for weight 1 the order of u itself is the same.
        score = float(draw) if node.weight == 1.0 else _DRAWS * ((draw + 0.5) / _DRAWS) ** (1 / node.weight)
        drawn.append((-score, node.number, node))
    drawn.sort()
    if width == len(drawn):
        return tuple([number for _, number, _ in drawn])
    return _spread([node for _, _, node in drawn], width)


def _spread(ranked: list[Candidate], width: int) -> tuple[int, ...]:
    """The best `width` of `ranked` such that no region, then no zone, is used more than need be."""
    regions: dict[str, int] = {}
    zones: dict[tuple[str, str], int] = {}
    chosen: list[int] = []
    for _ in range(width):
        best = min(
            range(len(ranked)),
            key=lambda i: (
                regions.get(ranked[i].region, 0),
                zones.get((ranked[i].region, ranked[i].zone), 0),
                i,
            ),
        )
        node = ranked.pop(best)
        regions[node.region] = regions.get(node.region, 0) + 1
        zones[node.region, node.zone] = zones.get((node.region, node.zone), 0) + 1
        chosen.append(node.number)
    return tuple(chosen)


def degraded_layout(k: int, m: int, alive: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(shard, node number) pairs that survive the loss of any one of the nodes `alive` (S9).

    After the loss of any one node, k distinct shards remain; no node holds more than k. When the nodes can
    share the k+m shards with at most m on each, each shard is held once; with fewer nodes each data shard
    is held by two of them. ValueError with fewer than two nodes: nothing survives the loss of the only one.
    """
    nodes = len(alive)
    if nodes < 2 or len(set(alive)) != nodes:
        raise ValueError("a stripe that shall survive the loss of a node needs two different ones")
    if math.ceil((k + m) / nodes) <= min(k, m):
        return tuple((shard, alive[shard % nodes]) for shard in range(k + m))
    return tuple((shard, alive[(shard + copy) % nodes]) for shard in range(k) for copy in (0, 1))
