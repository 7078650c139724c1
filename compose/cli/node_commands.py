"""``trivet node …``: the storage nodes of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from compose.cli import presence
from compose.cli.operation_watch import Watch, follow, plain
from compose.cli.store_access import (
    AsJson,
    Data,
    print_json,
    read_catalog,
    refresh,
    settings_of,
    with_store,
    write_catalog,
)
from compose.data_dir import DataDir
from compose.refusal import CommandRefused, StartRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.engine import Catalog
    from catalog.model import NodeRow
    from catalog.statement import Reader
    from catalog.transaction import Transaction
    from cluster.membership import Membership
    from cluster.operations import Operation
    from cluster.reports.cluster import NodeState
    from cluster.topology import NodeSet
    from compose.settings import Settings

T = TypeVar("T")

nodes_app = typer.Typer(
    no_args_is_help=True,
    help="List, add, drain, remove, recover and replace storage nodes, while the store runs.",
)

_START_ANEW = "start its process with an empty directory, under the same name: its place is kept for that one"
_DIRECTORY_HELP = "empty, or not there yet, or, after a restore, of a node that the catalog does not know"
Name = Annotated[str, typer.Argument(metavar="NAME", help="as `trivet node list` shows it")]


@nodes_app.command("list")
def list_nodes(*, data: Data = None, as_json: AsJson = False) -> None:
    """Show the nodes: state, region, zone, free space, place, and how many blobs a draining one still holds.

    The free space is what the node itself tells; of one that does not answer, that of its directory, if that is here.
    """
    settings = settings_of(data)
    report, why_not_asked = _asked(settings)
    homes = {node["node_id"]: node["directory"] for node in report}
    here = presence.is_of_this_host(settings, homes)
    if not here:
        _forget_disks(report)
    if as_json:
        print_json(report)
        return
    _print_table(report, here=here)
    if why_not_asked:
        print(f"The nodes can't be asked from here: {why_not_asked}")
    does_run = presence.runs(settings, homes, answering=any(node["answers"] for node in report))
    if does_run is False:
        print("The store does not run: these are the states in which it stopped.")
    elif does_run is None and not why_not_asked:
        print(presence.NOT_KNOWN)


def _asked(settings: Settings) -> tuple[list[dict[str, Any]], str]:
    """The nodes as the catalog has them and as they are heard now; without the cluster's secret, of which a word is
    returned then, as the catalog has them.
    """
    from cluster.reports.cluster import node_statuses
    from cluster.reports.nodes import node_report
    from compose.join_token import cluster_secret

    async def asked(catalog: Catalog, node_set: NodeSet) -> tuple[list[dict[str, Any]], list[NodeState]]:
        states = await node_statuses(catalog, node_set)
        return await catalog.read(report), states

    def report(reader: Reader) -> list[dict[str, Any]]:
        return node_report(reader, DataDir(settings.data))

    try:
        cluster_secret(settings)
    except StartRefused as refusal:
        return [_entry(entry, None) for entry in read_catalog(settings, report)], str(refusal)
    entries, states = with_store(settings, asked)
    by_number = {state.row.number: state for state in states}
    return [_entry(entry, by_number.get(entry["number"])) for entry in entries], ""


def _entry(entry: dict[str, Any], state: NodeState | None) -> dict[str, Any]:
    """With `answers`, None when it was not asked, and the `address` of one that runs by itself."""
    status = None if state is None else state.status
    free_bytes = entry["free_bytes"] if status is None else status.free_bytes
    return entry | {
        "free_bytes": free_bytes,
        "answers": None if state is None else status is not None,
        "address": "" if entry["directory"] or state is None else _address(state.row),
    }


def _forget_disks(report: list[dict[str, Any]]) -> None:
    """Of nodes that were not heard: what has the same name here is another machine's directory."""
    for entry in report:
        if not entry["answers"]:
            entry["free_bytes"] = None


def _address(row: NodeRow) -> str:
    return f"[{row.host}]:{row.port}" if ":" in row.host else f"{row.host}:{row.port}"


def _print_table(report: list[dict[str, Any]], *, here: bool) -> None:
    from rich.console import Console

    from compose.cli.tables import folding_table

    table = folding_table("name", "state", "region", "zone", "free", "directory or address")
    for node in report:
        where = node["directory"] or node["address"]
        table.add_row(node["name"], _state(node), node["region"], node["zone"], _free(node, here=here), where)
    Console().print(table)


def _free(node: dict[str, Any], *, here: bool) -> str:
    """`here`: the directories of nodes are on this host; "gone" is one that should be, and is not."""
    from compose.cli.figures import size_text

    if node["free_bytes"] is not None:
        return size_text(node["free_bytes"])
    return "gone" if here and node["directory"] else "not known"


def _state(node: dict[str, Any]) -> str:
    if "empty" not in node:
        return str(node["state"])
    if node["empty"]:
        return "draining: empty"
    left = node["blobs_left"]
    return f"draining: {left:,} blobs left" if left else "draining: only deleted blobs left"


@nodes_app.command()
def add(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help=_DIRECTORY_HELP)],
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="default: the next node-N")] = None,
    region: Annotated[
        str | None, typer.Option(metavar="NAME", help="default: the one with the fewest nodes")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="NAME", help="default: the region's name and an a")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Add a node with its data in DIR, which the `trivet up` of this host runs. Existing objects are spread over it in
    the background. A node that runs by itself joins by itself: trivet node --dir DIR --listen HOST:PORT --join URL.
    """
    settings = settings_of(data)

    def register(members: Membership, _tx: Transaction) -> NodeRow:
        supervised = presence.supervised(settings)
        return members.add(directory.absolute(), supervised=supervised, name=name, region=region, zone=zone)

    _change(settings, as_json, register, "{name} is added, with its data in {place}")


@nodes_app.command()
def drain(name: Name, *, watch: Watch = False, data: Data = None, as_json: AsJson = False) -> None:
    """Move a node's data to the others, so that it can be removed."""
    from cluster.operations import start_drain

    _operate(
        data,
        as_json,
        name,
        lambda tx, place, width: start_drain(tx, place, width, name),
        "{name} is being drained; it can be removed when it is empty (trivet node list)",
        watch=watch,
    )


@nodes_app.command()
def undrain(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Take a drain back."""
    _change(
        settings_of(data),
        as_json,
        lambda members, _tx: members.undrain(name),
        "{name} takes new objects again",
    )


@nodes_app.command()
def recover(
    name: Name,
    *,
    lost: Annotated[
        bool,
        typer.Option("--lost", help="it is down, and its data is given up: rebuild that from the others"),
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help=f"for one that lost its data: {_DIRECTORY_HELP}"),
    ] = None,
    watch: Watch = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Have a node hold again, now, what it should.

    One whose data is gone gets a new directory, and its data is rebuilt from the others; of one that is up every
    block is read, and what is missing or bad is repaired.
    """
    from cluster.operations import start_recovery

    _operate(
        data,
        as_json,
        name,
        lambda tx, place, width: start_recovery(
            tx, place, width, name, lost=lost, directory=directory.absolute() if directory else None
        ),
        "{name} is being recovered; watch it: trivet status --watch",
        watch=watch,
        to_do=_START_ANEW,
    )


@nodes_app.command()
def remove(
    name: Name,
    lost: Annotated[
        bool, typer.Option("--lost", help="it is dead for good: rebuild its data on the others")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Remove a drained node, or one that is lost. Its directory is left as it is."""
    _change(
        settings_of(data),
        as_json,
        lambda members, _tx: members.remove(name, lost=lost),
        "{name} is no longer part of the store; nothing needs {place} any more",
        name=name,
        to_do="stop its process: nobody does that from here",
    )


@nodes_app.command()
def replace(
    name: Name,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help=f"{_DIRECTORY_HELP}; default: the old one"),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Put another node in the place of one that lost its data, which is rebuilt from the others."""
    _change(
        settings_of(data),
        as_json,
        lambda members, _tx: members.replace(name, directory.absolute() if directory else None),
        "another node takes the place of {name}, with its data in {place}; watch it: trivet repair status --watch",
        to_do=_START_ANEW,
    )


def _operate(
    data: Path | None,
    as_json: bool,
    name: str,
    start: Callable[[Transaction, DataDir, int], Operation],
    begun: str,
    *,
    watch: bool,
    to_do: str = "",
) -> None:
    """Starts a long operation on a node, tells the running store, and follows it if that is wanted; `begun` is the
    sentence about it. `to_do`: by a person, when that exchanges a node that runs by itself.
    """
    from catalog import nodes
    from cluster.membership import Membership

    settings = settings_of(data)
    place = DataDir(settings.data)

    def write(tx: Transaction) -> tuple[Operation, NodeRow]:
        operation = start(tx, place, settings.width)
        return operation, Membership(place, tx, settings.width).row(name)

    operation, row = _written(settings, write)
    facts = _facts(settings, row, name, to_do if row.state == nodes.JOINING else "")
    if not as_json:
        _say(facts, row, begun)
    elif not watch:
        print_json(facts | {"operation": plain(operation)})
    if watch:
        follow(settings, operation.id, as_json=as_json)


def _change(
    settings: Settings,
    as_json: bool,
    change: Callable[[Membership, Transaction], NodeRow],
    done: str,
    *,
    name: str | None = None,
    to_do: str = "",
) -> None:
    """One transaction, then the running store is told; `done` is the sentence about it. `to_do`: by a person, with a
    node that runs by itself.
    """
    from cluster.membership import Membership

    place, width = DataDir(settings.data), settings.width
    row = _written(settings, lambda tx: change(Membership(place, tx, width), tx))
    facts = _facts(settings, row, name or row.name, to_do)
    if as_json:
        print_json(facts)
    else:
        _say(facts, row, done)


def _written(settings: Settings, change: Callable[[Transaction], T]) -> T:
    """Raises CommandRefused."""
    from cluster.membership import MembershipRefused

    try:
        return write_catalog(settings, change)
    except MembershipRefused as refusal:
        raise CommandRefused(str(refusal)) from None


def _facts(settings: Settings, row: NodeRow, name: str, to_do: str) -> dict[str, Any]:
    """Of a node that was changed, after the `trivet up` that runs it was told. Fronts and stewards follow the catalog
    by themselves, wherever they run; of a node that runs by itself a person hears what is left `to_do`.
    """
    from catalog import nodes

    if nodes.stands_alone(row):
        notes, directory = [to_do] if to_do else [], None
    else:
        notes, directory = refresh(settings), str(DataDir(settings.data).home(row.directory or ""))
    return {"name": name, "number": row.number, "directory": directory, "notes": notes, "state": row.state}


def _say(facts: dict[str, Any], row: NodeRow, sentence: str) -> None:
    place = facts["directory"] or f"the directory of the node at {_address(row)}"
    print(sentence.format(name=facts["name"], place=place))
    for note in facts["notes"]:
        print(f"note: {note}")
