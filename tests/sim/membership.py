"""What an operator does to the nodes of a store: add, drain, remove, replace. As cluster.membership decides it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

from catalog import leases, outbox, placements
from catalog import nodes as node_rows
from catalog.errors import CatalogError
from catalog.statement import Reader
from catalog.transaction import Transaction
from tests.sim.node import SimNode
from tests.sim.processes import SimFront

T = TypeVar("T")


class Membership:
    """Each command is repeated until it is done, through whichever front lives; so each can bear to be done twice.

    `begin` makes and starts the node of a number; `end` stops one that is no longer part of the store, for good.
    """

    def __init__(
        self,
        fronts: Sequence[SimFront],
        *,
        width: int,
        begin: Callable[[int], SimNode],
        end: Callable[[SimNode, bool], None],
        note: Callable[[str], None],
    ) -> None:
        """`end` is told whether its place was taken by another one; if not, it left."""
        self._fronts = fronts
        self._width = width
        self._begin = begin
        self._end = end
        self._note = note
        self._serials = itertools.count(1)

    async def add(self) -> SimNode:
        """`node add`."""
        serial = next(self._serials)
        number = await self._command(lambda tx: _register(tx, serial))
        self._note(f"node-{number} is added")
        return self._begin(number)

    async def replace(self, node: SimNode) -> SimNode:
        """`node replace`: the row is retired, another one begins (S23)."""
        serial = next(self._serials)

        def change(tx: Transaction) -> int:
            _retire(tx, node)
            return _register(tx, serial)

        number = await self._command(change)
        self._end(node, True)
        return self._begin(number)

    async def set_state(self, node: SimNode, state: str) -> None:
        """`node drain` and `node undrain`."""

        def change(tx: Transaction) -> None:
            if _state(tx, node) != node_rows.REMOVED:
                node_rows.set_state(tx, node.number, state)

        await self._command(change)
        self._note(f"{node.name} is {state}")

    async def undrain_all(self) -> None:
        """`node undrain`, of all that are being drained."""

        def change(tx: Transaction) -> None:
            for row in node_rows.list_nodes(tx):
                if row.state == node_rows.DRAINING:
                    node_rows.set_state(tx, row.number, node_rows.UP)

        await self._command(change)

    async def may_leave(self, node: SimNode) -> bool:
        """Whether enough others are up."""
        return await self._command(lambda tx: self._enough_without(tx, node))

    async def remove(self, node: SimNode) -> bool:
        """`node remove`; False when it can't be done yet."""

        def change(tx: Transaction) -> bool:
            state = _state(tx, node)
            if state == node_rows.REMOVED:
                return True
            if (
                state != node_rows.DRAINING
                or placements.node_in_use(tx, node.number)
                or not self._enough_without(tx, node)
            ):
                return False
            _retire(tx, node)
            return True

        removed = await self._command(change)
        if removed:
            self._note(f"{node.name} is removed")
            self._end(node, False)
        return removed

    async def allow_orphans(self) -> None:
        """`orphans allow`."""
        await self._command(leases.allow_orphans)

    async def want_snapshot(self) -> None:
        """Have the steward make a snapshot of the catalog now."""
        await self._command(lambda tx: outbox.want_snapshot(tx, outbox.position(tx).batch + 1))

    def _enough_without(self, reader: Reader, node: SimNode) -> bool:
        rows = node_rows.list_nodes(reader)
        staying = [row for row in rows if row.state == node_rows.UP and row.number != node.number]
        return len(staying) >= self._width

    async def _command(self, change: Callable[[Transaction], T]) -> T:
        while True:
            front = next((front for front in self._fronts if front.alive and not front.process.frozen), None)
            if front is not None:
                try:
                    return await front.call(front.catalog.write(change))
                except (ConnectionError, CatalogError):
                    pass
            await asyncio.sleep(0.5)


def _state(reader: Reader, node: SimNode) -> str:
    return next(row.state for row in node_rows.list_nodes(reader) if row.number == node.number)


def _retire(tx: Transaction, node: SimNode) -> None:
    if _state(tx, node) != node_rows.REMOVED:
        node_rows.rename(tx, node.number, f"{node.name}#{node.number}")
        node_rows.set_state(tx, node.number, node_rows.REMOVED)


def _register(tx: Transaction, serial: int) -> int:
    """The number of the new row, which its zone tells from all others."""
    rows = node_rows.list_nodes(tx)
    zone = f"zone-{serial}"
    for row in rows:
        if row.zone == zone:
            return row.number
    number = max(row.number for row in rows) + 1
    row = node_rows.register(
        tx,
        node_id=number.to_bytes(16, "big"),
        name=f"node-{number}",
        region=f"region-{number}",
        zone=zone,
        host=f"node-{number}",
        port=1,
    )
    assert row.number == number, "numbers are given in order"
    return number
