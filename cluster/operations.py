"""Long work that an operator asks for and can follow: recover a node, drain one, scrub everything.

The work itself is the steward's. An operation only says that it was asked for, how far it is and how it ended;
the steward writes that down about once a second, so without one nothing moves here either. All functions run in one
transaction or read. Those that change something raise MembershipRefused, and then changed nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, cast

import msgspec

from catalog import nodes, operations, placements, work
from catalog.model import NodeRow
from catalog.operations import CANCELLED, RUNNING, OperationRow
from catalog.statement import Reader
from catalog.transaction import Transaction
from cluster.headway import (
    DRAIN,
    RECOVERY,
    SCRUB,
    Look,
    Memo,
    blobs_naming,
    blobs_stored,
    look,
    memo_of,
    pack,
)
from cluster.membership import Membership, MembershipRefused, NodeHomes
from cluster.steward import progress
from cluster.steward.progress import PAUSE_MS_MAX, RepairPause, ScrubProgress, ScrubRequest

Kind = Literal["recovery", "drain", "scrub"]
State = Literal["running", "done", "failed", "cancelled"]

_AWAY: Final = (nodes.SUSPECT, nodes.DOWN)


class NoSuchOperation(LookupError):
    """No operation has that number, or it was forgotten: only the last ones are kept."""


class Operation(msgspec.Struct, frozen=True):
    """`node`: the name of the node that it is about. `total` and `done` count blobs, each of an object or a part of
    one; a blob with several layouts counts for each of them that is concerned. `total` is 0 while they are not counted
    yet. `detail` is for a person: what it waits for, or how it ended. `nodes_changed`: the caller has the supervisor
    start and stop nodes as the catalog says now."""

    id: int
    kind: Kind
    node: str | None
    state: State
    started_ms: int
    finished_ms: int | None
    total: int
    done: int
    unit: Literal["blobs"] = "blobs"
    detail: str = ""
    nodes_changed: bool = False


def start_drain(tx: Transaction, homes: NodeHomes, width: int, name: str) -> Operation:
    """Move what a node holds to the others. It is done when the node may be removed; cancelling takes the drain
    back. One that is going on is not begun again."""
    row = Membership(homes, tx, width).drain(name)
    known = _running(tx, DRAIN, row.number)
    if known is not None:
        return _operation(known)
    memo = Memo(name=name, total=blobs_naming(tx, (row.number,)))
    return _begin(tx, DRAIN, row.number, memo, nodes_changed=True)


def start_recovery(
    tx: Transaction,
    homes: NodeHomes,
    width: int,
    name: str,
    *,
    lost: bool = False,
    directory: Path | None = None,
) -> Operation:
    """Have a node hold again, now, what it should.

    When its data is gone, or `lost` is said, another node takes its place (as `Membership.replace`, in `directory`
    if one is given) and the steward rebuilds the data at once. When it is up, every block is read and compared,
    and what is missing or bad is repaired. When it is down with its data, it has to be started: refused. So is one
    whose data is not to be seen while the others can't give all of it back: its disk may only not be mounted, and a
    replaced node does not come back. One that is going on is not begun again; a pause of repair ends in any case.
    """
    members = Membership(homes, tx, width)
    row = members.row(name)
    if lost:
        operation = _rebuild_lost(tx, members, row, directory)
    elif _is_gone(members, row):
        _refuse_needed(members, homes, row)
        operation = _rebuild_lost(tx, members, row, directory)
    elif directory is not None:
        raise MembershipRefused(
            f"{name} is {row.state} and has its data: a directory is for one that lost it"
        )
    elif row.state in _AWAY:
        home = homes.home(row.directory) if row.directory is not None else "its place"
        raise MembershipRefused(
            f"{name} is {row.state}, but its data is in {home}: start its process, and see its log for why it does "
            f"not answer; if it is lost for good: trivet node recover {name} --lost"
        )
    else:
        operation = _recover_present(tx, row)
    resume_repair(tx)
    return operation


def _is_gone(members: Membership, row: NodeRow) -> bool:
    """Whether its data is certainly gone: of a node on another machine we can't see that."""
    return row.directory is not None and row.state != nodes.JOINING and not members.has_data(row)


def _refuse_needed(members: Membership, homes: NodeHomes, row: NodeRow) -> None:
    if members.is_needed_now(row):
        home = homes.home(row.directory) if row.directory is not None else "its place"
        raise MembershipRefused(
            f"the data of {row.name} is not in {home}, and some objects can't be read without it, because other nodes "
            "are down or not yet rebuilt: mount its disk, or start the others and wait until they are rebuilt; "
            f"if it is lost for good, and with it those objects: trivet node recover {row.name} --lost"
        )


def _rebuild_lost(tx: Transaction, members: Membership, row: NodeRow, directory: Path | None) -> Operation:
    if row.state == nodes.JOINING:
        return _recover_present(tx, row)
    successor = members.replace(row.name, directory)
    return _rebuild(tx, successor, nodes_changed=True)


def _recover_present(tx: Transaction, row: NodeRow) -> Operation:
    known = _running(tx, RECOVERY, row.number)
    if known is not None:
        return _operation(known)
    if _predecessors(tx, row.name):
        return _rebuild(tx, row)
    if row.state == nodes.JOINING:
        raise MembershipRefused(f"{row.name} was never up and holds nothing: there is nothing to recover")
    request = _ask_for_scrub(tx)
    return _begin(
        tx,
        RECOVERY,
        row.number,
        Memo(name=row.name, request=request, total=blobs_stored(tx)),
        nodes_changed=False,
    )


def _rebuild(tx: Transaction, row: NodeRow, *, nodes_changed: bool = False) -> Operation:
    """What the nodes of that name held that are gone now."""
    gone = _predecessors(tx, row.name)
    memo = Memo(name=row.name, gone=gone, total=blobs_naming(tx, gone))
    return _begin(tx, RECOVERY, row.number, memo, nodes_changed=nodes_changed)


def _predecessors(reader: Reader, name: str) -> tuple[int, ...]:
    """Removed nodes that had this name, and that blobs still name."""
    return tuple(
        row.number
        for row in nodes.list_nodes(reader)
        if row.state == nodes.REMOVED
        and row.name == f"{name}#{row.number}"
        and placements.node_in_use(reader, row.number)
    )


def start_scrub(tx: Transaction) -> Operation:
    """Read and compare everything; what is missing or bad is repaired. One that has not begun is not asked for
    twice; one that is under way begins again, for it has looked at some places already."""
    begun = (progress.read(tx, ScrubProgress) or ScrubProgress()).request
    for row in operations.running(tx):
        if row.kind == SCRUB and memo_of(row).request > begun:
            return _operation(row)
    memo = Memo(request=_ask_for_scrub(tx), total=blobs_stored(tx))
    return _begin(tx, SCRUB, None, memo, nodes_changed=False)


def _ask_for_scrub(tx: Transaction) -> int:
    """The number of a new request; they rise whatever the clock does."""
    asked = progress.read(tx, ScrubRequest)
    done = progress.read(tx, ScrubProgress)
    number = 1 + max(tx.now_ms, asked.number if asked else 0, done.request if done else 0)
    progress.write(tx, ScrubRequest(number))
    return number


def cancel(tx: Transaction, number: int) -> Operation:
    """End it. A drain is taken back. Of a rebuild nothing is taken back, for objects need it: repair only pauses, for
    an hour at most, and not when another node goes down. A scrub ends, unless another operation waits for it. Raises
    NoSuchOperation."""
    row = operations.get(tx, number)
    if row is None:
        raise NoSuchOperation(f"there is no operation {number}")
    if row.state != RUNNING:
        raise MembershipRefused(f"operation {number} is over: it is {row.state}")
    memo = memo_of(row)
    if row.kind == DRAIN:
        _undrain(tx, row.node or 0, memo.name or "")
    elif memo.request:
        _end_scrub(tx, row)
    else:
        _pause_repair(tx)
    changed = _write(tx, Look(row, CANCELLED, msgspec.structs.replace(memo, detail="by an operator")))
    return _operation(changed, nodes_changed=row.kind == DRAIN)


def _undrain(tx: Transaction, number: int, name: str) -> None:
    if any(row.number == number and row.state == nodes.DRAINING for row in nodes.list_nodes(tx)):
        nodes.set_state(tx, number, nodes.UP)
        work.record_event(tx, "node-undrained", node=number, detail=name)


def _end_scrub(tx: Transaction, row: OperationRow) -> None:
    """Of several requests one pass serves all; it goes on as long as one of them wants it."""
    if any(memo_of(other).request for other in operations.running(tx) if other.number != row.number):
        return
    state = progress.read(tx, ScrubProgress) or ScrubProgress()
    request = memo_of(row).request
    if state.request < request:
        progress.write(tx, msgspec.structs.replace(state, request=request))
    elif state.active:
        progress.write(
            tx, msgspec.structs.replace(state, active=False, after=b"", finished_ms=tx.now_ms, cancelled=True)
        )


def _pause_repair(tx: Transaction) -> None:
    progress.write(tx, RepairPause(tx.now_ms + PAUSE_MS_MAX))
    work.record_event(tx, "repair-paused", detail=f"for {PAUSE_MS_MAX // 60_000} minutes")


def resume_repair(tx: Transaction) -> bool:
    """End a pause of repair; whether there was one."""
    if progress.paused_until(tx, tx.now_ms) is None:
        return False
    progress.write(tx, RepairPause(0))
    work.record_event(tx, "repair-resumed")
    return True


def get(reader: Reader, number: int) -> Operation:
    """As it stands. Raises NoSuchOperation."""
    row = operations.get(reader, number)
    if row is None:
        raise NoSuchOperation(f"there is no operation {number}")
    return _operation(row)


def listed(reader: Reader, limit: int, node: str | None = None) -> list[Operation]:
    """The latest first; `node`: only those about the node of that name."""
    if node is None:
        return [_operation(row) for row in operations.listed(reader, limit)]
    rows = operations.listed(reader, operations.KEPT)
    return [_operation(row) for row in rows if memo_of(row).name == node][:limit]


def finish_due(tx: Transaction, seen: list[Look] | None = None) -> list[Operation]:
    """Write down how far all are, as `seen` by `headway.look` in a read before; returns those that are over now.
    Without `seen` it looks itself, which may take too long for a transaction."""
    over = []
    for each in look(tx, tx.now_ms) if seen is None else seen:
        row = operations.get(tx, each.row.number)
        if row is not None and row.state == RUNNING and each.is_news:
            changed = _write(tx, each)
            if changed.state != RUNNING:
                over.append(_operation(changed))
    return over


def _begin(tx: Transaction, kind: Kind, node: int | None, memo: Memo, *, nodes_changed: bool) -> Operation:
    row = operations.begin(tx, kind, node, pack(memo))
    work.record_event(tx, f"{kind}-started", node=node, detail=f"operation {row.number}")
    return _operation(row, nodes_changed=nodes_changed)


def _write(tx: Transaction, seen: Look) -> OperationRow:
    row = operations.update(tx, seen.row, state=seen.state, memo=pack(seen.memo))
    if row.state != RUNNING:
        took_s = max(0, (row.finished_ms or 0) - row.started_ms) / 1000
        detail = f"operation {row.number}, {took_s:.1f} s, {seen.memo.done} blobs"
        if seen.memo.detail:
            detail = f"{detail}: {seen.memo.detail}"
        work.record_event(tx, f"{row.kind}-{row.state}", node=row.node, detail=detail)
    return row


def _running(reader: Reader, kind: Kind, node: int) -> OperationRow | None:
    for row in operations.running(reader):
        if (row.kind, row.node) == (kind, node):
            return row
    return None


def _operation(row: OperationRow, *, nodes_changed: bool = False) -> Operation:
    memo = memo_of(row)
    return Operation(
        id=row.number,
        kind=cast("Kind", row.kind),
        node=memo.name,
        state=cast("State", row.state),
        started_ms=row.started_ms,
        finished_ms=row.finished_ms,
        total=memo.total or 0,
        done=memo.done,
        detail=memo.detail,
        nodes_changed=nodes_changed,
    )
