"""``trivet catalog …``: the catalog's backup and its way back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from compose.cli.catalog_migrate import migrate
from compose.cli.store_access import KILLED_WAIT_S, AsJson, Data, answer, settings_of
from compose.data_dir import DataDir
from compose.refusal import CommandRefused, StartRefused
from compose.settings import Settings

catalog_app = typer.Typer(
    no_args_is_help=True, help="Back up, restore or move the catalog, which says what exists."
)
catalog_app.command()(migrate)


@catalog_app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="must not be there yet")],
    *,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Write one consistent state of the catalog to FILE, while the store runs or not."""
    from catalog.backup import backup as copy

    settings = settings_of(data)
    with _errors_told():
        copy(DataDir(settings.data).catalog, target)
    nbytes = target.stat().st_size
    answer(
        {"file": str(target), "bytes": nbytes},
        f"{target} holds the catalog as of now ({nbytes:,} bytes)",
        as_json=as_json,
    )


@catalog_app.command()
def restore(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="what `trivet catalog backup` wrote", show_default=False),
    ] = None,
    *,
    from_nodes: Annotated[
        bool, typer.Option("--from-nodes", help="from what the storage nodes hold of it, instead of a file")
    ] = False,
    node_dir: Annotated[
        list[Path] | None,
        typer.Option(
            "--node-dir", metavar="DIR", help="a node's directory [default: those in the data directory]"
        ),
    ] = None,
    past_gaps: Annotated[
        bool,
        typer.Option(
            "--past-gaps", help="leave out what does not follow from the rest, if it is lost for good"
        ),
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of a lost catalog, or make it again from any two of three nodes, while the store does
    not run.

    What was written after a backup is not in it; from the nodes everything comes back that was ever answered. Blocks
    that the catalog does not know stay on the nodes until `trivet orphans allow`.
    """
    if (source is None) != from_nodes or (node_dir and not from_nodes):
        raise CommandRefused("name the FILE of a backup, or --from-nodes with the --node-dir of each node")
    settings = Settings.read(os.environ, {"data": data})
    place = DataDir(settings.data)
    if place.catalog.exists():
        raise CommandRefused(
            f"{place.catalog} is there. To put another in its place nevertheless, stop the store and move that file "
            "away, with those whose names begin with it"
        )
    with _errors_told():
        lock = place.hold(KILLED_WAIT_S)
        try:
            if source is None:
                directories = node_dir or sorted(place.root.glob("node-*"))
                copies = max(1, settings.catalog_copies)
                facts, words = _from_nodes(place, directories, copies=copies, past_gaps=past_gaps)
            else:
                facts, words = _from_file(place, source)
        finally:
            os.close(lock)
    answer({"catalog": str(place.catalog), **facts}, f"{place.catalog} {words}", as_json=as_json)


@catalog_app.command()
def restored(*, data: Data = None, as_json: AsJson = False) -> None:
    """Say that the PostgreSQL database was put back from a dump, or comes from a standby that lagged, while nothing of
    the store runs.

    Nodes then obey it and refuse the one that it replaces. Blocks that it does not know stay on the nodes until
    `trivet orphans allow`.
    """
    import asyncio

    from catalog.postgres_restored import succeed_restored
    from compose.catalog_place import catalog_of, describe

    where = catalog_of(settings_of(data))
    if isinstance(where, Path):
        raise CommandRefused(
            "this store has the embedded catalog: `trivet catalog restore` puts a backup of it in its place"
        )
    with _errors_told():
        term = asyncio.run(succeed_restored(where))
    answer(
        {"catalog": describe(where), "term": term},
        f"{describe(where)} is the store's catalog from now on, with term {term}. Nodes that came after the dump are "
        f"not known to it: trivet node add DIR. {_THEN}",
        as_json=as_json,
    )


_THEN = (
    "Start the store, see that all is there (trivet node list, trivet repair status), then let it delete what this "
    "catalog does not know: trivet orphans allow"
)


def _from_file(place: DataDir, source: Path) -> tuple[dict[str, Any], str]:
    from catalog.backup import restore as put_back

    put_back(source, place.catalog)
    words = (
        f"is restored from {source}. Nodes that came after the backup are not known to it: trivet node add DIR, or "
        f"trivet node replace NAME for one in the place of another, takes them with their data. {_THEN}"
    )
    return {"source": str(source)}, words


def _from_nodes(
    place: DataDir, directories: list[Path], *, copies: int, past_gaps: bool
) -> tuple[dict[str, Any], str]:
    from catalog.replay import restore_from_log
    from cluster.catalog_log_source import DirectoryLogSource

    if not directories:
        raise CommandRefused(f"there is no node's directory in {place.root}: name each with --node-dir DIR")
    with ExitStack() as stack:
        sources = [stack.enter_context(DirectoryLogSource(directory)) for directory in directories]
        report = restore_from_log(sources, place.catalog, copies=copies, past_gaps=past_gaps)
    base = f"the snapshot of batch {report.snapshot_batch}" if report.snapshot_batch else "its creation"
    last = "" if report.last_ms is None else f", the last of {_time(report.last_ms)}"
    unreadable = f" {len(report.unreadable)} entries could not be read on one of the nodes." * bool(
        report.unreadable
    )
    waits = " Some of it was found on one of them alone: writes wait until the steward has put a snapshot on the nodes."
    words = (
        f"is restored from {len(sources)} nodes: {base} and {report.batches} group commits after it, up to number "
        f"{report.batch} of term {report.term}{last}.{unreadable}{waits * report.needs_snapshot} {_THEN}"
    )
    return {"nodes": [str(directory) for directory in directories], **msgspec.structs.asdict(report)}, words


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


@contextmanager
def _errors_told() -> Iterator[None]:
    from catalog.errors import CatalogError
    from cluster.node.identity import NodeRefused

    try:
        yield
    except (CatalogError, NodeRefused, StartRefused) as error:
        raise CommandRefused(str(error)) from error
    except OSError as error:
        raise CommandRefused(f"{error.filename or 'a file'} can't be used: {error.strerror}") from error
