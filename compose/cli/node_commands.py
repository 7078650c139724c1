"""``trivet node …``: the storage nodes of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from compose.cli.operation_watch import Watch, follow, plain
from compose.cli.store_access import (
    AsJson,
    Data,
    print_json,
    read_catalog,
    refresh,
    settings_of,
    write_catalog,
)
from compose.data_dir import DataDir
from compose.refusal import CommandRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.model import NodeRow
    from catalog.transaction import Transaction
    from cluster.membership import Membership
    from cluster.operations import Operation
    from compose.settings import Settings

T = TypeVar("T")

nodes_app = typer.Typer(
    no_args_is_help=True,
    help="List, add, drain, remove, recover and replace storage nodes, while the store runs.",
)

_DIRECTORY_HELP = "empty, or not there yet, or, after a restore, of a node that the catalog does not know"
Name = Annotated[str, typer.Argument(metavar="NAME", help="as `trivet node list` shows it")]


@nodes_app.command("list")
def list_nodes(*, data: Data = None, as_json: AsJson = False) -> None:
    """Show the nodes: state, region, zone, directory, free space of its disk, and how many blobs a draining one
    still holds.
    """
    from cluster.reports.nodes import node_report

    settings = settings_of(data)

    report = read_catalog(settings, lambda reader: node_report(reader, DataDir(settings.data)))
    if as_json:
        print_json(report)
    else:
        _print_table(report)
        if not DataDir(settings.data).control.exists():
            print("The store does not run: these are the states in which it stopped.")


def _print_table(report: list[dict[str, Any]]) -> None:
    from rich.console import Console

    from compose.cli.figures import size_text
    from compose.cli.tables import folding_table

    table = folding_table("name", "state", "region", "zone", "free", "directory")
    for node in report:
        free = "gone" if node["free_bytes"] is None else size_text(node["free_bytes"])
        table.add_row(node["name"], _state(node), node["region"], node["zone"], free, node["directory"])
    Console().print(table)


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
    """Add a node with its data in DIR. Existing objects are spread over it in the background."""
    _change(
        data,
        as_json,
        lambda members: members.add(directory.absolute(), name=name, region=region, zone=zone),
        "{name} is added, with its data in {directory}",
    )


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
    _change(data, as_json, lambda members: members.undrain(name), "{name} takes new objects again")


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
        data,
        as_json,
        lambda members: members.remove(name, lost=lost),
        "{name} is no longer part of the store; nothing needs {directory} any more",
        name=name,
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
        data,
        as_json,
        lambda members: members.replace(name, directory.absolute() if directory else None),
        "another node takes the place of {name}, with its data in {directory}; "
        "watch it: trivet repair status --watch",
    )


def _operate(
    data: Path | None,
    as_json: bool,
    name: str,
    start: Callable[[Transaction, DataDir, int], Operation],
    begun: str,
    *,
    watch: bool,
) -> None:
    """Starts a long operation on a node, tells the running store, and follows it if that is wanted; `begun` is the
    sentence about it.
    """
    from cluster.membership import Membership

    settings = settings_of(data)
    place = DataDir(settings.data)

    def write(tx: Transaction) -> tuple[Operation, NodeRow]:
        return start(tx, place, settings.width), Membership(place, tx, settings.width).row(name)

    operation, row = _written(settings, write)
    facts = _facts(settings, row, name)
    if not as_json:
        _say(facts, begun)
    elif not watch:
        print_json(facts | {"operation": plain(operation)})
    if watch:
        follow(settings, operation.id, as_json=as_json)


def _change(
    data: Path | None,
    as_json: bool,
    change: Callable[[Membership], NodeRow],
    done: str,
    *,
    name: str | None = None,
) -> None:
    """One transaction, then the running store is told; `done` is the sentence about it."""
    from cluster.membership import Membership

    settings = settings_of(data)
    row = _written(settings, lambda tx: change(Membership(DataDir(settings.data), tx, settings.width)))
    facts = _facts(settings, row, name or row.name)
    if as_json:
        print_json(facts)
    else:
        _say(facts, done)


def _written(settings: Settings, change: Callable[[Transaction], T]) -> T:
    """Raises CommandRefused."""
    from cluster.membership import MembershipRefused

    try:
        return write_catalog(settings, change)
    except MembershipRefused as refusal:
        raise CommandRefused(str(refusal)) from None


def _facts(settings: Settings, row: NodeRow, name: str) -> dict[str, Any]:
    """Of a node that was changed, after the running store was told of it."""
    notes = refresh(settings)
    directory = str(DataDir(settings.data).home(row.directory or ""))
    return {"name": name, "number": row.number, "directory": directory, "notes": notes, "state": row.state}


def _say(facts: dict[str, Any], sentence: str) -> None:
    print(sentence.format(name=facts["name"], directory=facts["directory"]))
    for note in facts["notes"]:
        print(f"note: {note}")
