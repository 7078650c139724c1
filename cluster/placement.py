"""Which nodes hold which shard of a blob: pure functions of the blob id and the nodes offered.

Weighted rendezvous hashing: each node draws a number from (blob id, node id), the highest draws win, so a
node that comes or goes moves only its own share. The result is stored with the blob; nothing is looked up
here twice.

A layout is a list of copies (shard, node), normally one copy a shard on k+m different nodes: *standard*. It
is stored as a tuple of node numbers, of which entry i belongs to shard i mod (k+m); 0 stands for nobody. A
degraded layout (S9) holds some shards twice and others not at all: shards 0 and 1 of 2+1, each on the nodes
7 and 8, are stored as (7, 8, 0, 8, 7).
"""

import math
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Protocol

Copy = tuple[int, int]
"""(shard, node number)"""

REGIONS = ("us-east-1", "us-west-1", "eu-west-1")
"""Nodes are spread over these unless they are told another region."""

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


def fresh_layout(blob_id: bytes, nodes: Sequence[Candidate], k: int, m: int) -> tuple[Copy, ...]:
    """Where new stripes go: standard with k+m nodes or more, else degraded. ValueError with fewer than two."""
    if len(nodes) >= k + m:
        return tuple(enumerate(place(blob_id, nodes, k + m)))
    return degraded_layout(k, m, place(blob_id, nodes, len(nodes)))


# -- layouts -------------------------------------------------------------------------------------------------


def copies(nodes: tuple[int, ...], width: int) -> list[Copy]:
    """(shard, node) of every copy in a stored layout of k+m = `width`, first copies first."""
    return [(i % width, node) for i, node in enumerate(nodes) if node]


def packed(layout: Iterable[Copy], width: int) -> tuple[int, ...]:
    """How a layout is stored: the inverse of `copies`, at least `width` long, without trailing 0s beyond it.

    The same for the same copies in any order, so that few distinct placements are stored. Where shards have
    several copies, the first copies (which are read first) are spread over the nodes.
    """
    holders: list[list[int]] = [[] for _ in range(width)]
    for shard, node in sorted(set(layout)):
        holders[shard].append(node)
    for shard, nodes in enumerate(holders):
        if nodes:
            first = shard % len(nodes)
            holders[shard] = nodes[first:] + nodes[:first]
    rows = max(map(len, holders), default=0)
    stored = [nodes[row] if row < len(nodes) else 0 for row in range(max(rows, 1)) for nodes in holders]
    while len(stored) > width and not stored[-1]:
        stored.pop()
    return tuple(stored)


def is_standard(nodes: tuple[int, ...], width: int) -> bool:
    """True for a stored layout of one copy of each shard, all on different nodes."""
    return len(nodes) == width and 0 not in nodes and len(set(nodes)) == width


def survives_any_loss(k: int, layout: Iterable[Copy], nodes_alive: Iterable[int]) -> bool:
    """True when k distinct shards remain on the nodes alive whichever one of them is lost (P2, S9).

    Copies on other nodes count for nothing.
    """
    held = _held(layout, nodes_alive)
    return bool(held) and all(len(_without(held, node)) >= k for node in held)


def missing_copies(
    k: int, m: int, layout: Iterable[Copy], alive: Sequence[int], targets: Iterable[int] | None = None
) -> list[Copy]:
    """What to add to the copies that lie on the nodes `alive` so that they survive the loss of any one.

    Empty when they do already. Nodes that hold nothing yet come first, in the order of `alive`, with shards
    that nobody holds: so the result may become standard. Then whatever helps most. No node gets more than k
    shards, unless it holds more already. Only nodes among `targets` (default: all) get any. ValueError with
    fewer than two nodes alive, or when the targets alone can't bring it about.
    """
    if len(set(alive)) < 2:
        raise ValueError("a stripe that shall survive the loss of a node needs two different ones")
    open_to_new = set(alive if targets is None else targets)
    held = _held(layout, alive)
    added: list[Copy] = []
    while True:
        # Those that can't be lost yet, with the shards that would be left.
        short = [(node, left) for node in alive if len(left := _without(held, node)) < k]
        if not short:
            return added
        room = [node for node in alive if node in open_to_new and len(held[node]) < k]
        best = max(
            ((shard, node) for node in room for shard in range(k + m)),
            key=lambda copy: _merit(copy, held, short),
            default=None,
        )
        if best is None or not _merit(best, held, short)[0]:
            raise ValueError("not to be had with copies on these nodes alone")
        held[best[1]].add(best[0])
        added.append(best)


def _merit(copy: Copy, held: dict[int, set[int]], short: list[tuple[int, set[int]]]) -> tuple[int, ...]:
    """How good it is to add a copy; of equally good ones the caller takes the first: data before parity.

    With all nodes to choose from the best one always helps: where the loss of a node leaves fewer than k
    shards, each other node has room for one that is not left.
    """
    shard, node = copy
    gain = sum(node != lost and shard not in left for lost, left in short)
    empty = not held[node]
    new = empty and all(shard not in shards for shards in held.values())
    return (gain > 0, empty, gain, new, -len(held[node]))


def _held(layout: Iterable[Copy], nodes: Iterable[int]) -> dict[int, set[int]]:
    """Shards by node, for those of `nodes`."""
    held: dict[int, set[int]] = {node: set() for node in nodes}
    for shard, node in layout:
        if node in held:
            held[node].add(shard)
    return held


def _without(held: dict[int, set[int]], lost: int) -> set[int]:
    """The shards left when one node is lost."""
    return set().union(*(shards for node, shards in held.items() if node != lost))


def retarget(
    blob_id: bytes, nodes: tuple[int, ...], candidates: Sequence[Candidate], k: int, m: int
) -> tuple[int, ...]:
    """The standard layout on `candidates` that is nearest to the present one.

    Its nodes are those that `place` chooses; each of them that holds a shard already keeps one (as many as
    possible do), the others get what is left. ValueError with fewer candidates than k+m.
    """
    width = k + m
    chosen = place(blob_id, candidates, width)
    shards_of = _held(copies(nodes, width), chosen)
    keeper: dict[int, int] = {}  # node by shard

    def give(node: int, seen: set[int]) -> bool:
        """Let `node` keep one of its shards, moving others to another one of theirs if need be."""
        for shard in sorted(shards_of[node] - seen):
            seen.add(shard)
            if shard not in keeper or give(keeper[shard], seen):
                keeper[shard] = node
                return True
        return False

    new = [node for node in chosen if not give(node, set())]
    return tuple([keeper[shard] if shard in keeper else new.pop(0) for shard in range(width)])
