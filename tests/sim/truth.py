"""What is really on the disks, and the rules that must hold at each commit, each delete and at the end.

Redundancy is counted from the platters, past the page cache and whatever any process believes. What the schedule
itself destroyed (bit rot, spoiled writes) is known and excused; everything else is a violation.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from catalog.model import BlobRow, Run
from cluster.placement import copies
from cluster.steward.progress import RebalanceProgress
from codec.block import BlockKey, pack_key, unpack_key
from codec.geometry import Geometry
from tests.sim.grace import GraceWatch, Place
from tests.sim.node import SimNode

_NEVER_MS = 1 << 62
_LONG_DOWN_S = 8.0  # a node that is down for longer does not count as alive at a commit


class Violation(Exception):
    """A promise was broken."""


class Health(NamedTuple):
    """Of a blob's worst stripe: distinct good shards, and how many remain without the worst node."""

    shards: int
    without_one: int


class Truth:
    """Looks at the catalog's file and at the disks; changes nothing."""

    def __init__(self, connection: Any, nodes: Sequence[SimNode], grace: GraceWatch) -> None:
        self._cursor = connection.cursor()
        self._grace = grace
        self._nodes = {node.number: node for node in nodes}
        self.lost: dict[int, float] = {}  # nodes whose disks a schedule took away, and when
        self.removed: set[int] = set()  # nodes that left the store, empty as it was thought
        self._placements: dict[int, tuple[int, ...]] = {0: ()}
        self._seen: dict[bytes, tuple[int, tuple[tuple[int, int], ...]]] = {}
        self.blobs: dict[bytes, BlobRow] = {}
        self.excused: set[tuple[int, Path, int]] = set()  # (node, file, record offset) that a schedule broke
        self.born_bad: set[tuple[int, Path, int]] = set()  # the same, while they were written
        self._before: dict[tuple[int, bytes], Health] = {}
        self._present: list[bytes] = []  # of the keys that a delete names, those that were there before it
        self.commits = 0
        self.moves = 0
        self.counted_blobs = 0

    def add(self, node: SimNode) -> None:
        """A node more."""
        self._nodes[node.number] = node

    def lose(self, number: int, now: float) -> None:
        """Nothing on that node's disk counts any more."""
        self.lost[number] = now

    def remove(self, number: int) -> None:
        """That node is no longer part of the store, and nothing on it may be needed."""
        self.removed.add(number)

    # -- the catalog -----------------------------------------------------------------------------------------

    def catalog_gone(self) -> None:
        """Close the file: it is about to be removed."""
        self._cursor.connection.close()

    def catalog_back(self, connection: Any) -> None:
        """It was restored from what the nodes had. What nobody was told of may be gone, and its blocks with it, at any
        time; numbers of placements may name others."""
        self._cursor = connection.cursor()
        self._placements = {0: ()}
        self._seen = {}
        before = self.blobs
        self.look()
        self._grace.cut_short.update(before.keys() - self.blobs.keys())

    def _rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self._cursor.execute(query, parameters).fetchall()  # type: ignore[no-any-return]

    def _nodes_of(self, placement: int) -> tuple[int, ...]:
        known = self._placements.get(placement)
        if known is None:
            packed = self._rows("SELECT nodes FROM placements WHERE id = ?", placement)[0][0]
            known = self._placements[placement] = struct.unpack(f">{len(packed) // 4}I", packed)
        return known

    def look(self) -> tuple[list[BlobRow], list[tuple[BlobRow, BlobRow]]]:
        """Read the referenced blobs again: those that are new, and (old, new) of those that moved."""
        rows = self._rows(
            "SELECT id, placement_id, runs, size, k, m, stripe_bytes, codec, transform FROM blobs"
            " WHERE refs > 0 AND stripes > 0"
        )
        new: list[BlobRow] = []
        moved: list[tuple[BlobRow, BlobRow]] = []
        blobs: dict[bytes, BlobRow] = {}
        seen: dict[bytes, tuple[int, tuple[tuple[int, int], ...]]] = {}
        for blob_id, placement, runs, size, k, m, stripe_bytes, codec, transform in rows:
            later: tuple[tuple[int, int], ...] = ()
            if runs:
                later = tuple(
                    self._rows(
                        "SELECT first_stripe, placement_id FROM blob_runs WHERE blob_id = ? ORDER BY 1",
                        blob_id,
                    )
                )
            seen[blob_id] = (placement, later)
            if self._seen.get(blob_id) == seen[blob_id]:
                blobs[blob_id] = self.blobs[blob_id]
                continue
            blob = BlobRow(
                blob_id,
                size,
                k,
                m,
                stripe_bytes,
                codec,
                transform,
                self._nodes_of(placement),
                None,
                tuple(Run(first, self._nodes_of(number)) for first, number in later),
            )
            blobs[blob_id] = blob
            if blob_id in self._seen:
                moved.append((self.blobs[blob_id], blob))
            else:
                new.append(blob)
        gone = [blob for blob_id, blob in self.blobs.items() if blob_id not in blobs]
        self.blobs, self._seen = blobs, seen
        self._tell_grace(new, moved, gone)
        return new, moved

    def _tell_grace(
        self, new: Sequence[BlobRow], moved: Sequence[tuple[BlobRow, BlobRow]], gone: Sequence[BlobRow]
    ) -> None:
        for blob in (*new, *(after for _, after in moved)):
            self._grace.named(self._places(blob))
        for before, after in moved:
            self._grace.left(self._places(before) - self._places(after))
        for blob in gone:
            self._grace.left(self._places(blob))

    def _places(self, blob: BlobRow) -> set[Place]:
        return {
            (pack_key(BlockKey(blob.id, stripe, shard)), node) for stripe, shard, node in self._copies(blob)
        }

    def waiting(self, *tables: str) -> dict[str, int]:
        """Rows of these queues, where there are any."""
        counts = {table: self._rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables}
        return {table: count for table, count in counts.items() if count}

    def last_due_ms(self) -> int:
        """When the last of what waits for its deletion is due; what waits for a node is not in question."""
        tables = ("garbage", "extra_copies")
        due_ms: list[int] = [
            self._rows(f"SELECT coalesce(max(due_ms), 0) FROM {table} WHERE due_ms < ?", _NEVER_MS)[0][0]
            for table in tables
        ]
        return max(due_ms)

    def _is_rebalancing(self) -> bool:
        rows = self._rows("SELECT state FROM progress WHERE name = 'rebalance'")
        return bool(rows) and msgspec.msgpack.decode(rows[0][0], type=RebalanceProgress).active

    # -- the disks -------------------------------------------------------------------------------------------

    def health(self, blob: BlobRow, without: frozenset[int] = frozenset()) -> Health:
        """Counted over the copies that its layout names, on all nodes but those."""
        self.counted_blobs += 1
        geometry = Geometry(blob.k, blob.m, blob.stripe_bytes)
        shards = without_one = blob.k + blob.m
        for stripe in range(geometry.stripe_count(blob.size)):
            good = [
                (shard, node)
                for shard, node in copies(blob.nodes_at(stripe), blob.k + blob.m)
                if node not in without and self.is_good(blob.id, stripe, shard, node)
            ]
            shards = min(shards, len({shard for shard, _ in good}))
            for lost in {node for _, node in good}:
                without_one = min(without_one, len({shard for shard, node in good if node != lost}))
            without_one = min(without_one, shards)
        return Health(shards, without_one)

    def anywhere(self, blob: BlobRow, stripe: int) -> set[int]:
        """Shards of a stripe with a good copy on any node, named by the layout or not."""
        return {
            shard
            for shard in range(blob.k + blob.m)
            if any(self.is_good(blob.id, stripe, shard, number) for number in self._nodes)
        }

    def is_good(self, blob_id: bytes, stripe: int, shard: int, node: int) -> bool:
        """Whether that block is whole on that disk."""
        if node in self.lost or node in self.removed:
            return False
        return self._nodes[node].holds(pack_key(BlockKey(blob_id, stripe, shard)))

    def is_broken(self, blob_id: bytes, stripe: int, shard: int, node: int) -> bool:
        """Whether a schedule broke the copy that the node would read, though an older one may still be whole."""
        return self._is_excused(pack_key(BlockKey(blob_id, stripe, shard)), node)

    def lying_well(self, blob: BlobRow, stripe: int) -> list[tuple[int, int]]:
        """(shard, node) of the stripe's copies that are whole, as far as the layout names them, and were not broken."""
        return [
            (shard, node)
            for shard, node in copies(blob.nodes_at(stripe), blob.k + blob.m)
            if self.is_good(blob.id, stripe, shard, node) and not self.is_broken(blob.id, stripe, shard, node)
        ]

    def _excuse(self, key: bytes, node: int) -> tuple[int, Path, int] | None:
        entry = self._nodes[node].entry(key)
        return None if entry is None else (node, self._nodes[node].file_of(entry), entry.offset)

    def _is_excused(self, key: bytes, node: int) -> bool:
        if node in self.lost:
            return True
        place = self._excuse(key, node)
        return place is not None and place in self.excused

    # -- the rules -------------------------------------------------------------------------------------------

    def after_commit(self, now: float) -> None:
        """P1, P2: what a commit names is durable, and survives the loss of any one node. P7: a move does not
        lower redundancy, and what it adds was found good on the disk."""
        self.commits += 1
        new, moved = self.look()
        gone = frozenset(
            node.number
            for node in self._nodes.values()
            if (node.process.dead or node.process.frozen)
            and node.number not in self.lost
            and now - node.down_since > _LONG_DOWN_S
        )
        for blob in new:
            self._all_there(blob, "P1")
            health = self.health(blob, gone)
            if health.without_one < blob.k and not self._broken_by_us(blob):
                raise Violation(
                    f"P2: blob {blob.id.hex()} {_said(blob)} is committed with {health} on the nodes that live"
                )
        for old, blob in moved:
            self.moves += 1
            self._added_are_good(old, blob)
            before, after = self.health(old), self.health(blob)
            if after.shards < min(before.shards, blob.k) or after.without_one < min(
                before.without_one, blob.k
            ):
                raise Violation(
                    f"P7: blob {blob.id.hex()} moved from {_said(old)} {before} to {_said(blob)} {after}"
                )

    def _copies(self, blob: BlobRow) -> list[tuple[int, int, int]]:
        geometry = Geometry(blob.k, blob.m, blob.stripe_bytes)
        return [
            (stripe, shard, node)
            for stripe in range(geometry.stripe_count(blob.size))
            for shard, node in copies(blob.nodes_at(stripe), blob.k + blob.m)
        ]

    def _all_there(self, blob: BlobRow, promise: str) -> None:
        for stripe, shard, node in self._copies(blob):
            key = pack_key(BlockKey(blob.id, stripe, shard))
            if not self.is_good(blob.id, stripe, shard, node) and not self._is_excused(key, node):
                raise Violation(
                    f"{promise}: blob {blob.id.hex()} {_said(blob)} is committed, but stripe {stripe} shard {shard}"
                    f" is not durable on node {node}"
                )

    def _broken_by_us(self, blob: BlobRow) -> bool:
        return any(
            self._is_excused(pack_key(BlockKey(blob.id, stripe, shard)), node)
            for stripe, shard, node in self._copies(blob)
        )

    def _added_are_good(self, old: BlobRow, blob: BlobRow) -> None:
        for stripe, shard, node in set(self._copies(blob)) - set(self._copies(old)):
            if self.is_good(blob.id, stripe, shard, node):
                continue
            key = pack_key(BlockKey(blob.id, stripe, shard))
            place = self._excuse(key, node)
            if node in self.lost:
                continue
            if place is None or place not in self.excused or place in self.born_bad:
                raise Violation(
                    f"P7: blob {blob.id.hex()} moved from {_said(old)} to {_said(blob)}, but stripe {stripe} shard"
                    f" {shard} was never good on the disk of node {node}: {self._nodes[node].entry(key)}"
                )

    def before_delete(self, node: SimNode, keys: Sequence[bytes]) -> None:
        """Remember how the blobs are that a delete touches."""
        self._present = [key for key in keys if node.entry(key) is not None]
        for blob_id in {unpack_key(key).blob for key in keys}:
            blob = self.blobs.get(blob_id)
            if blob is not None:
                self._before[node.number, blob_id] = self.health(blob)

    def after_delete(self, node: SimNode, keys: Sequence[bytes]) -> None:
        """P6, P7: a delete takes nothing that a referenced blob needs; S21: nor what was needed lately."""
        for key in self._present:
            if node.entry(key) is None and (wrong := self._grace.deleted((key, node.number))):
                raise Violation(f"S21: {unpack_key(key)} was {wrong}")
        for blob_id in sorted({unpack_key(key).blob for key in keys}):
            before = self._before.pop((node.number, blob_id), None)
            if before is None:
                continue
            after = self.health(self.blobs[blob_id])
            if after.shards < before.shards or after.without_one < before.without_one:
                raise Violation(
                    f"P7: a delete on node {node.number} took blob {blob_id.hex()} {_said(self.blobs[blob_id])}"
                    f" from {before} to {after}"
                )

    def unprotected(self) -> str:
        """What is not yet as redundant as it should be after a quiet time, whatever clocks say; "" when all is.
        Call `look` before."""
        waiting = self.waiting("repairs")
        if waiting:
            return f"queues: {waiting}"
        for blob in self.blobs.values():
            for stripe, shard, node in self._copies(blob):
                if not self.is_good(blob.id, stripe, shard, node):
                    return f"blob {blob.id.hex()} {_said(blob)} lacks stripe {stripe} shard {shard} on node {node}"
            for nodes in (blob.nodes, *(run.nodes for run in blob.runs)):
                width = blob.k + blob.m
                if len(nodes) != width or len(set(nodes)) != width or 0 in nodes:
                    return f"blob {blob.id.hex()} lies on {_said(blob)}"
        return "the rebalancing goes on" if self._is_rebalancing() else ""

    def leftovers(self) -> str:
        """What should be gone after a quiet time and is not; "" when all is well. Call `look` before."""
        waiting = self.waiting("garbage", "extra_copies")
        if waiting:
            return f"queues: {waiting}"
        expected = {(node, key) for blob in self.blobs.values() for key, node in self._places(blob)}
        held = {
            (node.number, key)
            for node in self._nodes.values()
            if node.number not in self.lost and node.number not in self.removed
            for key in node.listed()
        }
        extra = held - expected
        if extra:
            node_number, key = min(extra)
            return f"{len(extra)} blocks that no row names, {unpack_key(key)} on node {node_number}"
        return ""


def _said(blob: BlobRow) -> str:
    runs = "".join(f", {run.first_stripe}+ {run.nodes}" for run in blob.runs)
    return f"{blob.nodes}{runs}"
