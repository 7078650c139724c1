"""How far the long operations have come, by what the catalog says of blobs, nodes and scrub. Counting takes time in
proportion to what is left: the steward looks, about once a second, and others read what it wrote down."""

from __future__ import annotations

from typing import Final

import msgspec

from catalog import blobs, layouts, nodes, operations, placements, work
from catalog.model import NodeRow, RepairItem
from catalog.operations import CANCELLED, DONE, FAILED, RUNNING, OperationRow
from catalog.statement import Reader
from catalog.transaction import PlacementNumbers
from cluster.membership import blobs_left
from cluster.steward import progress
from cluster.steward.progress import ScrubProgress

DRAIN: Final = "drain"
RECOVERY: Final = "recovery"
SCRUB: Final = "scrub"

_FAR_MS: Final = 1 << 62
_QUEUE_LOOKED_AT: Final = 1000
_COUNTED_AT_ONCE: Final = 20_000
"""So many blobs a transaction may count, which holds up all writes for some 10 ms; of more the steward counts."""


class Memo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a row of the table `operations` remembers. `name`: the node's at that time. `gone`: numbers of removed
    nodes whose blobs are rebuilt. `request`: of the scrub that it waits for, 0 for none. `total` is None while it
    was not counted."""

    name: str | None = None
    gone: tuple[int, ...] = ()
    request: int = 0
    total: int | None = None
    done: int = 0
    detail: str = ""


def memo_of(row: OperationRow) -> Memo:
    """What the row remembers."""
    return msgspec.msgpack.decode(row.memo, type=Memo)


def pack(memo: Memo) -> bytes:
    """As it is stored."""
    return msgspec.msgpack.encode(memo)


class Look(msgspec.Struct, frozen=True):
    """What was seen of one running operation: its state and memo as they should be now."""

    row: OperationRow
    state: str
    memo: Memo

    @property
    def is_news(self) -> bool:
        """Whether something is to be written down."""
        return self.state != RUNNING or pack(self.memo) != self.row.memo


def look(reader: Reader, now_ms: int) -> list[Look]:
    """At all that run, as of one moment. Takes its time where many blobs are left."""
    running = operations.running(reader)
    if not running:
        return []
    glance = _Glance(reader, now_ms)
    return [glance.at(row) for row in running]


def blobs_naming(reader: Reader, numbers: tuple[int, ...]) -> int | None:
    """How many blobs have a shard on one of the nodes; None for more than may be counted in a transaction."""
    total = 0
    for use in placements.in_use(reader):
        if not set(numbers).isdisjoint(use.nodes):
            total += operations.blobs_at_most(reader, use.number, _COUNTED_AT_ONCE - total)
            if total >= _COUNTED_AT_ONCE:
                return None
    return total


def blobs_stored(reader: Reader) -> int | None:
    """How many blobs a scrub compares; None for more than may be counted in a transaction."""
    total = operations.stored_at_most(reader, _COUNTED_AT_ONCE)
    return total if total < _COUNTED_AT_ONCE else None


def unreadable_on(reader: Reader, node: int) -> int:
    """How many blobs that the steward gave up have a shard on the node by their layouts, as far as they are looked
    at."""
    return _Queue(reader, frozenset((node,))).unreadable


class _Glance:
    """The store at one moment."""

    def __init__(self, reader: Reader, now_ms: int) -> None:
        self._reader = reader
        self._nodes = {row.number: row for row in nodes.list_nodes(reader)}
        self._scrub = progress.read(reader, ScrubProgress) or ScrubProgress()
        paused = progress.paused_until(reader, now_ms) is not None
        self._paused = "repair is paused (trivet repair resume)" if paused else ""

    def at(self, row: OperationRow) -> Look:
        """One running operation."""
        memo = memo_of(row)
        if row.kind == DRAIN:
            return self._drain(row, memo, self._nodes[row.node or 0])
        if row.kind == RECOVERY:
            return self._recovery(row, memo, self._nodes[row.node or 0])
        return self._pass(row, memo)

    def _drain(self, row: OperationRow, memo: Memo, node: NodeRow) -> Look:
        empty = not placements.node_in_use(self._reader, node.number)
        left = 0 if empty else blobs_left(self._reader, node.number)
        memo = _counted(memo, left)
        if empty and node.state in {nodes.DRAINING, nodes.REMOVED}:
            return Look(row, DONE, _told(memo, f"{memo.name} is empty"))
        if node.state != nodes.DRAINING:
            return Look(row, CANCELLED, _told(memo, f"{memo.name} is {node.state}, and not drained any more"))
        if not left:
            return Look(row, RUNNING, _told(memo, "waiting for the grace period of what was deleted lately"))
        queue = _Queue(self._reader, frozenset((node.number,)))
        return Look(row, RUNNING, _told(memo, queue.stuck if left <= queue.unreadable else self._paused))

    def _recovery(self, row: OperationRow, memo: Memo, node: NodeRow) -> Look:
        if node.state == nodes.REMOVED:
            return Look(row, CANCELLED, _told(memo, f"{memo.name} was removed, or replaced again"))
        if memo.request:
            memo, left = self._followed(memo), int(not self._is_past(memo.request))
        else:
            left = sum(blobs_left(self._reader, number) for number in memo.gone)
            memo = _counted(memo, left)
        if not left and memo.request and self._scrub.cancelled:
            return Look(row, CANCELLED, _told(memo, "its scrub was cancelled"))
        if node.state not in {nodes.UP, nodes.DRAINING}:
            return Look(row, RUNNING, _told(memo, f"waiting for {memo.name}, which is {node.state}"))
        queue = _Queue(self._reader, frozenset((node.number, *memo.gone)))
        stuck = 0 if memo.request else queue.unreadable
        if left <= stuck and not queue.waiting:
            return Look(row, FAILED if queue.unreadable else DONE, _told(memo, queue.stuck))
        return Look(row, RUNNING, _told(memo, self._paused or queue.words))

    def _pass(self, row: OperationRow, memo: Memo) -> Look:
        memo = self._followed(memo)
        if not self._is_past(memo.request):
            return Look(row, RUNNING, memo)
        if self._scrub.cancelled:
            return Look(row, CANCELLED, memo)
        found = (
            f"{self._scrub.missing} blocks missing, {self._scrub.corrupt} bad, {self._scrub.extra} to spare"
        )
        return Look(row, DONE, _told(memo, found))

    def _followed(self, memo: Memo) -> Memo:
        """As far as the scrub pass that it waits for."""
        scrub = self._scrub
        if scrub.request < memo.request:
            return memo
        if self._is_past(memo.request):
            return msgspec.structs.replace(memo, total=scrub.blobs, done=scrub.blobs)
        total = memo.total
        if total is None:
            total = operations.stored_at_most(self._reader, _FAR_MS)
        return msgspec.structs.replace(memo, total=max(total, scrub.blobs), done=scrub.blobs)

    def _is_past(self, request: int) -> bool:
        return self._scrub.request >= request and not self._scrub.active


class _Queue:
    """What waits for repair because of faults on some nodes, as far as it is looked at. `waiting` counts those that
    can be repaired, and one for all that were not looked at."""

    def __init__(self, reader: Reader, numbers: frozenset[int]) -> None:
        items = work.due_repairs(reader, _FAR_MS, _QUEUE_LOOKED_AT)
        lost = [item for item in items if _is_given_up(item)]
        laid_out = blobs.by_ids(reader, PlacementNumbers(), [item.blob_id for item in lost])
        of_them = [
            blob for blob in laid_out.values() if not numbers.isdisjoint(layouts.named(blob.nodes, blob.runs))
        ]
        self.unreadable = len(of_them)
        self.waiting = sum(_names(item, numbers) for item in items if not _is_given_up(item))
        self.waiting += len(items) == _QUEUE_LOOKED_AT

    @property
    def stuck(self) -> str:
        """What an operator must know of those that can't be repaired; empty when there are none."""
        if not self.unreadable:
            return ""
        return f"{self.unreadable} blobs can't be rebuilt from what the nodes hold (trivet repair status)"

    @property
    def words(self) -> str:
        """What is waited for."""
        return f"{self.waiting} blobs are in the repair queue" if self.waiting else ""


def _names(item: RepairItem, numbers: frozenset[int]) -> bool:
    return any(fault.node in numbers for fault in item.faults)


def _is_given_up(item: RepairItem) -> bool:
    return any(not fault.node for fault in item.faults)


def _counted(memo: Memo, left: int) -> Memo:
    """`left` of all blobs are still to be done. What was done before the first count is not known."""
    total = max(left, memo.total if memo.total is not None else left)
    return msgspec.structs.replace(memo, total=total, done=total - left)


def _told(memo: Memo, detail: str) -> Memo:
    return msgspec.structs.replace(memo, detail=detail)
