"""``trivet catalog …``: the catalog's backup and its way back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from compose.cli.store_access import AsJson, Data, answer, settings_of
from compose.data_dir import DataDir
from compose.refusal import CommandRefused, StartRefused
from compose.settings import Settings

catalog_app = typer.Typer(no_args_is_help=True, help="Back up the catalog, which says what exists.")


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
    source: Annotated[Path, typer.Argument(metavar="FILE", help="what `trivet catalog backup` wrote")],
    *,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of a lost catalog, while the store does not run.

    What was written after the backup is not in it. Its blocks stay on the nodes until `trivet orphans allow`.
    """
    from catalog.backup import restore as put_back

    place = DataDir(Settings.read(os.environ, {"data": data}).data)
    if place.catalog.exists():
        raise CommandRefused(
            f"{place.catalog} is there. To go back to the backup nevertheless, stop the store and move that file "
            "away, with those whose names begin with it"
        )
    with _errors_told():
        lock = place.hold(0.0)
        try:
            put_back(source, place.catalog)
        finally:
            os.close(lock)
    answer(
        {"catalog": str(place.catalog), "source": str(source)},
        f"{place.catalog} is restored from {source}. Nodes that came after the backup are not known to it: "
        "trivet node add DIR, or trivet node replace NAME for one in the place of another, takes them with "
        "their data. Start the store, see that all is there (trivet node list, trivet repair status), then let "
        "it delete what this catalog does not know: trivet orphans allow",
        as_json=as_json,
    )


@contextmanager
def _errors_told() -> Iterator[None]:
    from catalog.errors import CatalogError

    try:
        yield
    except (CatalogError, StartRefused) as error:
        raise CommandRefused(str(error)) from error
    except OSError as error:
        raise CommandRefused(f"{error.filename or 'a file'} can't be used: {error.strerror}") from error
