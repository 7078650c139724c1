"""What a write sees: the writer's connection between two savepoints, and what its batch knows."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from catalog import schema
from catalog.model import Meta
from catalog.statement import Cursor, Parameters, Reader, Statement, constant
from catalog.usage_changes import UsageChanges

_META = Statement(
    sa.select(
        schema.meta.c.catalog_id,
        schema.meta.c.cluster_id,
        schema.meta.c.term,
        schema.meta.c.upload_epoch,
        schema.meta.c.collect_horizon,
        schema.meta.c.config_generation,
        schema.meta.c.orphans_allowed,
        schema.meta.c.clock_ms,
    )
)
_RAISE_GENERATION = Statement(
    sa.update(schema.meta).values(config_generation=schema.meta.c.config_generation + constant("1"))
)

_REMOVED = Statement(sa.select(schema.nodes.c.number).where(schema.nodes.c.state == constant("'removed'")))


def read_meta(reader: Reader) -> Meta:
    """The catalog's own row."""
    row = reader.row(_META)
    assert row is not None, "the catalog has no meta row"
    catalog_id, cluster_id, term, epoch, horizon, generation, allowed, clock_ms = row
    return Meta(catalog_id, cluster_id, term, epoch, horizon, generation, bool(allowed), clock_ms)


class PlacementNumbers:
    """The process's copy of `placements`, which only grows: both ways, never stale."""

    __slots__ = ("nodes_by_number", "number_by_nodes")

    def __init__(self) -> None:
        self.nodes_by_number: dict[int, tuple[int, ...]] = {0: ()}
        self.number_by_nodes: dict[tuple[int, ...], int] = {(): 0}

    def learn(self, number: int, nodes: tuple[int, ...]) -> None:
        """Remember a committed placement."""
        self.nodes_by_number[number] = nodes
        self.number_by_nodes[nodes] = number


class Transaction(Reader):
    """Reads and writes of one request inside its batch's transaction (S12). Functions that get one must not
    await, keep it, or start and end transactions; what they raise rolls their own writes back."""

    __slots__ = (
        "_meta",
        "_removed_nodes",
        "day_ms",
        "grace_ms",
        "new_placements",
        "now_ms",
        "placements",
        "random",
        "usage",
    )

    def __init__(
        self,
        cursor: Cursor,
        dialect: Dialect,
        *,
        now_ms: int,
        grace_ms: int,
        day_ms: int,
        random: Callable[[int], bytes],
        placements: PlacementNumbers,
    ) -> None:
        super().__init__(cursor, dialect)
        self.now_ms = now_ms
        self.grace_ms = grace_ms
        self.day_ms = day_ms
        self.random = random
        self.placements = placements
        self.new_placements: dict[tuple[int, ...], int] = {}
        self.usage = UsageChanges()
        self._meta: Meta | None = None
        self._removed_nodes: frozenset[int] | None = None

    def execute(self, statement: Statement, parameters: Parameters = ()) -> int:
        """Run a statement without rows; the number of rows it changed."""
        cursor = self._cursor
        cursor.execute(statement.text(self._dialect), parameters)
        return cursor.rowcount

    @property
    def meta(self) -> Meta:
        """The meta row as this transaction sees it."""
        if self._meta is None:
            self._meta = read_meta(self)
        return self._meta

    @property
    def removed_nodes(self) -> frozenset[int]:
        """Nodes that are no longer part of the store, as this transaction sees it."""
        if self._removed_nodes is None:
            self._removed_nodes = frozenset(number for (number,) in self.rows(_REMOVED))
        return self._removed_nodes

    def meta_changed(self) -> None:
        """To be called by whoever wrote the meta row."""
        self._meta = None

    def touch_configuration(self) -> None:
        """Make every process read its cached buckets, nodes and epoch again (S16)."""
        self.execute(_RAISE_GENERATION)
        self._meta = None
        self._removed_nodes = None

    def kept(self) -> None:
        """A request of the batch stands."""
        self.usage.keep()

    def rolled_back(self) -> None:
        """A request of the batch was undone: forget what may have been learned from it."""
        self._meta = None
        self._removed_nodes = None
        self.new_placements.clear()
        self.usage.undo()

    def before_commit(self) -> None:
        """The batch is complete: write what is written once a batch."""
        self.usage.write(self)

    def committed(self) -> None:
        """The batch is durable: what it learned is true for the process."""
        for nodes, number in self.new_placements.items():
            self.placements.learn(number, nodes)
