"""Which nodes a store has: the decisions of an operator, each one transaction.

They change the catalog only; whoever calls them then has the supervisor start and stop processes, fronts and
steward follow by themselves, and the steward moves and rebuilds data. All functions raise MembershipRefused and
change nothing then.

A node's life: `joining` (add) → `up` ⇄ `suspect`, `down` → `draining` (drain) → `removed` (remove). A node that
lost its data is replaced: its row becomes `removed` and another one takes its name (S23). So what has to be
rebuilt are the blobs whose layout names a removed node.

A restored catalog knows the nodes of its time. Later ones come back by `add` and `replace` with their data: a
directory that a node of this cluster left, one of which the catalog knows nothing, is taken with its id. The
steward finds there what it misses elsewhere.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from catalog import nodes, placements, work
from catalog.model import NodeRow
from catalog.statement import Reader
from catalog.transaction import Transaction, read_meta
from cluster.node.files import RealFiles
from cluster.node.identity import NodeIdentity, NodeRefused, is_initialised, read_identity
from cluster.placement import REGIONS, copies

ID_BYTES = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_TAKEN_NAMES = re.compile(r"supervisor|steward|control|lock|front-[0-9]+")
"""Of other files in DIR/run."""
_NOT_DATA = {"lost+found"}
_SILENT = ("suspect", "down")
_EMPTY_NEEDED = "a new node needs an empty directory (or one that does not exist yet)"


class MembershipRefused(Exception):
    """Not in the store's present state; nothing was changed. The message is for a person, and says what to do."""


class NodeHomes(Protocol):
    """Where the nodes of this machine have their data and their sockets."""

    def stored(self, directory: Path) -> str:
        """A node's directory as the catalog keeps it."""

    def home(self, stored: str) -> Path:
        """The inverse of `stored`."""

    def node_socket(self, process: str) -> Path:
        """Where the node of that name listens."""


class Membership:
    """What one transaction may do to the nodes. `width_min` is k + m as far as the caller's settings know; what
    is stored may need more nodes.
    """

    def __init__(self, homes: NodeHomes, tx: Transaction, width_min: int) -> None:
        self._homes = homes
        self._tx = tx
        self._all = nodes.list_nodes(tx)
        self._present = [row for row in self._all if row.state != nodes.REMOVED]
        self._width = max(width_min, stored_width(tx))

    def add(
        self,
        directory: Path,
        *,
        supervised: bool = True,
        name: str | None = None,
        region: str | None = None,
        zone: str | None = None,
    ) -> NodeRow:
        """One more node with its data in `directory`, which must be empty or missing, or that of a node which
        an older catalog does not know. New objects use it as soon as it is up, and the steward moves some of
        the old ones there. `supervised`: whether a `trivet up` runs here, which would start it.
        """
        if not supervised and self._present and all(map(nodes.stands_alone, self._present)):
            raise MembershipRefused(
                "the nodes of this store run by themselves, so nobody would start this one. Start it where its disk "
                f"is: trivet node --dir {directory} --listen HOST:PORT --node-name NAME --join URL"
            )
        self._refuse_taken_directory(directory)
        unknown = self._unknown_node(directory)
        if unknown is not None:
            region, zone = region or unknown.region, zone or unknown.zone
        name = name or self._free_name()
        region = region or self._thinnest_region()
        self._refuse_name(name)
        row = self._register(name, region, zone or f"{region}a", directory, unknown)
        detail = f"{name} in {directory}" + (", with what lies there" if unknown is not None else "")
        work.record_event(self._tx, "node-added", node=row.number, detail=detail)
        return row

    def drain(self, name: str) -> NodeRow:
        """Nothing new goes to the node, and the steward moves what it holds to others."""
        row = self.row(name)
        if row.state == nodes.DRAINING:
            return row
        if row.state == nodes.JOINING:
            raise MembershipRefused(f"{name} holds nothing yet: trivet node remove {name}")
        self._refuse_too_few(row, "drained")
        return self._become(row, nodes.DRAINING, "node-draining")

    def undrain(self, name: str) -> NodeRow:
        """Take a `drain` back."""
        row = self.row(name)
        if row.state != nodes.DRAINING:
            raise MembershipRefused(f"{name} is not being drained: it is {row.state}")
        return self._become(row, nodes.UP, "node-undrained")

    def remove(self, name: str, *, lost: bool = False) -> NodeRow:
        """The node is no longer part of the store. Without `lost` it must hold nothing that is needed; with
        it, what it held is rebuilt on the others.
        """
        row = self.row(name)
        if row.state == nodes.JOINING:  # it was never up, so it holds nothing
            return self._retire(row, "node-removed")
        if lost:
            self._refuse_not_lost(row)
        elif row.state != nodes.DRAINING:
            raise MembershipRefused(
                f"{name} is {row.state}: first move its data away (trivet node drain {name}); if it is dead for "
                f"good: trivet node remove {name} --lost, or trivet node replace {name}"
            )
        elif placements.node_in_use(self._tx, row.number):
            left = blobs_left(self._tx, row.number)
            raise MembershipRefused(
                f"{name} still holds {left:,} objects: wait until it is drained (trivet node list)"
                if left
                else f"{name} still holds objects that were deleted or replaced lately, for requests that read them: "
                "wait until the grace period is over (trivet node list)"
            )
        self._refuse_too_few(row, "removed")
        return self._retire(row, "node-removed")

    def replace(self, name: str, directory: Path | None = None) -> NodeRow:
        """A new, empty node takes the place of one that lost its data (S23); the steward rebuilds the data.

        `directory` (default: the old one) is as in `add`. Of a node that is started by itself the place is kept
        until a process with that name and an empty directory announces itself.
        """
        row = self.row(name)
        if nodes.stands_alone(row):
            return self._replace_elsewhere(row, directory)
        directory = directory or self._homes.home(row.directory or "")
        self._refuse_not_lost(row)
        self._refuse_taken_directory(directory, but=row)
        unknown = self._unknown_node(directory)
        self._retire(row, "node-replaced")
        return self._register(row.name, row.region, row.zone, directory, unknown)

    def _replace_elsewhere(self, row: NodeRow, directory: Path | None) -> NodeRow:
        if directory is not None:
            raise MembershipRefused(
                f"{row.name} is started by itself: start it there with an empty directory, and give none here"
            )
        self._refuse_not_lost(row)
        self._retire(row, "node-replaced")
        return nodes.register(
            self._tx,
            node_id=os.urandom(ID_BYTES),  # until the true one is told
            name=row.name,
            region=row.region,
            zone=row.zone,
            host=row.host,
            port=row.port,
        )

    def row(self, name: str) -> NodeRow:
        """The node of that name that is part of the store."""
        for row in self._present:
            if row.name == name:
                return row
        names = ", ".join(row.name for row in self._present)
        raise MembershipRefused(f"there is no node {name}; this store has {names}")

    def _register(
        self, name: str, region: str, zone: str, directory: Path, unknown: NodeIdentity | None
    ) -> NodeRow:
        _make(directory)
        return nodes.register(
            self._tx,
            node_id=unknown.node_id if unknown is not None else os.urandom(ID_BYTES),
            name=name,
            region=region,
            zone=zone,
            host=str(self._homes.node_socket(name)),  # the supervisor writes down the true one
            port=0,
            directory=self._homes.stored(directory),
        )

    def _become(self, row: NodeRow, state: str, event: str) -> NodeRow:
        nodes.set_state(self._tx, row.number, state)
        work.record_event(self._tx, event, node=row.number, detail=row.name)
        return self._again(row)

    def _retire(self, row: NodeRow, event: str) -> NodeRow:
        """Gives the name free as well."""
        nodes.rename(self._tx, row.number, f"{row.name}#{row.number}")
        return self._become(row, nodes.REMOVED, event)

    def _again(self, row: NodeRow) -> NodeRow:
        return next(now for now in nodes.list_nodes(self._tx) if now.number == row.number)

    def _free_name(self) -> str:
        names = {row.name for row in self._present}
        return next(name for number in range(1, len(names) + 2) if (name := f"node-{number}") not in names)

    def _thinnest_region(self) -> str:
        """So that shards find a region each, as far as there are enough."""
        count = Counter(row.region for row in self._present)
        return min((*REGIONS, *count), key=lambda region: count[region])

    def _refuse_name(self, name: str) -> None:
        problem = name_problem(name)
        if problem:
            raise MembershipRefused(problem)
        if any(row.name == name for row in self._present):
            raise MembershipRefused(f"there is a node {name} already: give another --name")

    def _unknown_node(self, directory: Path) -> NodeIdentity | None:
        """The node that left its data there, when it is of this cluster and of a time that the catalog does
        not know; None for an empty directory. A removed node's data is out of date, and a copy of a present
        one's is no second node.
        """
        if not is_initialised(directory):
            _refuse_content(directory)
            return None
        try:
            found = read_identity(directory, RealFiles(), cluster_id=read_meta(self._tx).cluster_id)
        except (NodeRefused, OSError) as error:
            raise MembershipRefused(f"{directory} is not empty ({error}): {_EMPTY_NEEDED}") from None
        for row in self._all:
            if row.node_id == found.node_id:
                raise MembershipRefused(
                    f"{directory} is not empty (it holds data of {row.name}): {_EMPTY_NEEDED}"
                )
        return found

    def _refuse_taken_directory(self, directory: Path, but: NodeRow | None = None) -> None:
        stored = self._homes.stored(directory)
        for row in self._present:
            if row.directory == stored and row is not but:
                raise MembershipRefused(f"{directory} is the directory of {row.name}: give another one")

    def _refuse_too_few(self, leaving: NodeRow, what: str) -> None:
        staying = [row for row in self._present if row is not leaving and row.state == nodes.UP]
        if len(staying) < self._width:
            raise MembershipRefused(
                f"{leaving.name} can't be {what}: objects need {self._width} nodes, and without it there would "
                f"be {len(staying)} that are up; add one first (trivet node add DIR), or put another in its place "
                f"(trivet node replace {leaving.name})"
            )

    def _refuse_not_lost(self, row: NodeRow) -> None:
        """Lost is what has been silent, or whose data is gone. An unmounted disk is not an empty node, but that
        one is silent, and only an operator can tell them apart.
        """
        if row.state == nodes.JOINING:
            return
        if nodes.stands_alone(row):  # its directory can't be seen from here
            if row.state not in _SILENT:
                raise MembershipRefused(
                    f"{row.name} is {row.state}, so it is not lost: stop its process first, or drain it (trivet node "
                    f"drain {row.name})"
                )
            return
        has_data = self.has_data(row)
        home = self._homes.home(row.directory or "")
        if has_data and row.state not in _SILENT:
            raise MembershipRefused(
                f"{row.name} is {row.state} and its data is in {home}, so it is not lost: trivet node drain "
                f"{row.name} moves its data away; only a node that is down can be given up"
            )
        if has_data and self._holds_last_copies(row):
            raise MembershipRefused(
                f"{row.name} is {row.state}, but some objects can't be read without the data in {home}, "
                "because other nodes are not yet rebuilt: wait for that (trivet repair status --watch)"
            )

    def has_data(self, row: NodeRow) -> bool:
        """Whether its directory, on this machine, is there and its own."""
        return row.directory is not None and _is_home_of(self._homes.home(row.directory), row.node_id)

    def is_needed_now(self, row: NodeRow) -> bool:
        """Whether some blob can't be read from the other nodes that are there at this moment."""
        return self._holds_too_little(
            {other.number for other in self._others(row) if other.state not in _SILENT}
        )

    def _holds_last_copies(self, row: NodeRow) -> bool:
        """Whether the other nodes of the store hold too little of some blob to read it."""
        return self._holds_too_little({other.number for other in self._others(row)})

    def _others(self, row: NodeRow) -> list[NodeRow]:
        return [other for other in self._present if other is not row]

    def _holds_too_little(self, others: set[int]) -> bool:
        return any(
            len({shard for shard, node in copies(use.nodes, use.k + use.m) if node in others}) < use.k
            for use in placements.in_use(self._tx)
        )


def name_problem(name: str) -> str:
    """Why a node can't be called so; empty when it can."""
    if _TAKEN_NAMES.fullmatch(name):
        return f"{name!r} can't be a node's name: other processes are called so"
    if not _NAME.fullmatch(name):
        return f"{name!r} can't be a node's name: take up to 40 letters, digits, dots, dashes, underscores"
    return ""


def _make(directory: Path) -> None:
    """One that can't be made is refused before there is a node that never comes up."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise MembershipRefused(f"{directory} can't be made: {error.strerror}") from None


def _refuse_content(directory: Path) -> None:
    """An operator is told now what the node would refuse later (S23)."""
    try:
        content = set(os.listdir(directory)) - _NOT_DATA
    except FileNotFoundError:
        return
    except OSError as error:
        raise MembershipRefused(f"{directory} can't be used: {error.strerror}") from None
    if content:
        raise MembershipRefused(f"{directory} is not empty: {_EMPTY_NEEDED}")


def _is_home_of(directory: Path, node_id: bytes) -> bool:
    try:
        read_identity(directory, RealFiles(), node_id=node_id)
    except (NodeRefused, OSError):
        return False
    return True


def blobs_left(reader: Reader, number: int) -> int:
    """How many blobs that are not deleted have a shard on the node, by their layouts; takes its time where
    they are many.
    """
    uses = [use for use in placements.in_use(reader) if number in use.nodes]
    return sum(placements.count(reader, use.number)[0] for use in uses)


def stored_width(reader: Reader) -> int:
    """The largest k + m of what is stored; 0 when nothing is."""
    return max((use.k + use.m for use in placements.in_use(reader)), default=0)


def present(rows: Sequence[NodeRow]) -> list[NodeRow]:
    """Without the removed ones."""
    return [row for row in rows if row.state != nodes.REMOVED]
