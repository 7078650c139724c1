"""What the catalog does with a node's announcement (see cluster.announcement): one transaction.

The id says who a node is. An id that the catalog knows may come from another address; a name that it knows never
comes with another id, for that would be an empty directory in the place of a full one (S23).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from catalog import nodes, work
from catalog.model import NodeRow
from catalog.transaction import Transaction
from cluster.announcement import Announcement
from cluster.membership import MembershipRefused, name_problem


def settled(rows: Iterable[NodeRow], announced: Announcement) -> NodeRow | None:
    """The node's row when the catalog has nothing to change; most announcements are repetitions."""
    row = _known(rows, announced)
    if row is None or row.state == nodes.REMOVED or (row.host, row.port) != _address(announced):
        return None
    return row


def join(tx: Transaction, announced: Announcement, answers: Callable[[NodeRow], bool]) -> NodeRow:
    """The node's row, new or moved to where it is now. `answers`: whether the node is heard at the address that
    the catalog has. Raises MembershipRefused, and then changes nothing.
    """
    rows = nodes.list_nodes(tx)
    row = _known(rows, announced)
    if row is None:
        return _register(tx, rows, announced, answers)
    if row.state == nodes.REMOVED:
        raise MembershipRefused(
            f"{announced.name} was removed from the store, and what it holds is out of date: give it an empty directory"
        )
    if not nodes.stands_alone(row):
        raise MembershipRefused(f"{row.name} is run by `trivet up`: stop one of the two")
    if (row.host, row.port) == _address(announced):
        return row
    if answers(row):
        raise MembershipRefused(
            f"{row.name} answers at {row.host}:{row.port}: this is a second process with its id (a copied directory?)"
        )
    nodes.move(tx, row.number, host=announced.host, port=announced.port)
    where = f"from {row.host}:{row.port} to {announced.host}:{announced.port}"
    work.record_event(tx, "node-moved", node=row.number, detail=f"{row.name} {where}")
    return _again(tx, row)


def _again(tx: Transaction, row: NodeRow) -> NodeRow:
    return next(now for now in nodes.list_nodes(tx) if now.number == row.number)


def _known(rows: Iterable[NodeRow], announced: Announcement) -> NodeRow | None:
    return next((row for row in rows if row.node_id.hex() == announced.node_id), None)


def _address(announced: Announcement) -> tuple[str, int]:
    return announced.host, announced.port


def _register(
    tx: Transaction, rows: Iterable[NodeRow], announced: Announcement, answers: Callable[[NodeRow], bool]
) -> NodeRow:
    """A new node, or the one that a joining row waits for."""
    namesake = next((row for row in rows if row.name == announced.name), None)
    if namesake is not None:
        return _take_over(tx, namesake, announced, answers)
    problem = name_problem(announced.name)
    if problem:
        raise MembershipRefused(problem)
    row = nodes.register(
        tx,
        node_id=bytes.fromhex(announced.node_id),
        name=announced.name,
        region=announced.region,
        zone=announced.zone,
        host=announced.host,
        port=announced.port,
    )
    detail = f"{row.name} at {row.host}:{row.port}"
    work.record_event(tx, "node-added", node=row.number, detail=detail)
    return row


def _take_over(
    tx: Transaction, row: NodeRow, announced: Announcement, answers: Callable[[NodeRow], bool]
) -> NodeRow:
    """What was never up holds nothing: the successor that `trivet node replace` made room for, or a first start that
    did not come to its end.
    """
    if row.state != nodes.JOINING or not nodes.stands_alone(row) or answers(row):
        raise MembershipRefused(
            f"the store knows {row.name} with other data than this node's: is its disk mounted? If that data is "
            f"lost: trivet node replace {row.name}; else take another name"
        )
    nodes.adopt(
        tx,
        row.number,
        node_id=bytes.fromhex(announced.node_id),
        region=announced.region,
        zone=announced.zone,
        host=announced.host,
        port=announced.port,
    )
    return _again(tx, row)
