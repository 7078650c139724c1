"""The command ``trivet bench``, also ``python -m conformance.bench``: which endpoint, which profile, what to write.

Imports are late: the command line lists this command without loading what it needs to run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

EXIT_FAILED = 1
"""An operation failed, a content differed, or the store did not recover."""
EXIT_CANNOT_RUN = 2
"""The options make no sense, or nothing answers."""

PROFILE_NAMES = ("failure", "small", "large", "mixed", "list", "delete", "versions", "budget")
_SIZES_HELP = "smallest and largest object, like 1KB-10KB or 4KiB; for budget: labels like '4 KiB,1 MiB'"
_FAILURE = "failure: upload, verify, lose a node, go on without it, recover, verify (a store of its own)"
_PROFILE_HELP = f"{_FAILURE}; {', '.join(PROFILE_NAMES[1:-1])}; budget: rates beside an empty application's"


def bench(
    *,
    profile: Annotated[str, typer.Option(metavar="NAME", help=_PROFILE_HELP)] = "failure",
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="any S3 endpoint; default: a store of its own, then removed"),
    ] = None,
    access_key: Annotated[str | None, typer.Option(metavar="KEY", help="[AWS_ACCESS_KEY_ID]")] = None,
    secret_key: Annotated[str | None, typer.Option(metavar="KEY", help="[AWS_SECRET_ACCESS_KEY]")] = None,
    region: Annotated[
        str | None, typer.Option(metavar="NAME", help="[AWS_REGION; default: us-east-1]")
    ] = None,
    bucket: Annotated[
        str | None, typer.Option(metavar="NAME", help="made for this run; default: a new name")
    ] = None,
    objects: Annotated[int | None, typer.Option(metavar="N", min=1, help="how many objects")] = None,
    sizes: Annotated[str | None, typer.Option(metavar="SIZES", help=_SIZES_HELP)] = None,
    seconds: Annotated[
        float | None,
        typer.Option(metavar="S", min=0, help="repeat what can be repeated for so long; default: once each"),
    ] = None,
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="clients at once")] = 1,
    seed: Annotated[int, typer.Option(metavar="N", help="sizes and contents come from it")] = 0,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="where the store of its own goes; default: the temporary one"),
    ] = None,
    fronts: Annotated[int, typer.Option(metavar="N", min=1, help="S3 fronts of the store of its own")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="write the figures; - for standard output")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="the same as a table")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="a report with charts, in one file")
    ] = None,
) -> None:
    """Measure a store: latencies and rates of each phase, every content verified. Exit code 1 when one operation
    failed or one byte differed.
    """
    if profile not in PROFILE_NAMES:
        _refuse(f"--profile {profile}: there are {', '.join(PROFILE_NAMES)}")
    if profile == "budget":
        if endpoint is not None:
            _refuse("--profile budget measures a store of its own: leave --endpoint out")
        from conformance.bench.run import measure

        measure(seconds=seconds or 5.0, sizes=sizes or "all", fronts=fronts, folder=data, json_file=json_file)
        return
    from conformance.bench.runner import Asked, CannotRun, run_profile

    asked = Asked(
        profile=profile,
        url=endpoint,
        access_key=access_key or os.environ.get("AWS_ACCESS_KEY_ID", ""),
        secret_key=secret_key or os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
        region=region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        bucket=bucket,
        objects=objects,
        sizes=sizes,
        seconds=seconds,
        clients=concurrency,
        seed=seed,
        folder=data,
        fronts=fronts,
    )
    try:
        run, broken = run_profile(asked)
    except CannotRun as refusal:
        _refuse(str(refusal))
    from conformance.bench.output import write

    write(run, json_file=json_file, csv_file=csv_file, html_file=html_file)
    if broken:
        print(f"trivet bench: {broken}", file=sys.stderr)
    if broken or run.failed:
        raise typer.Exit(EXIT_FAILED)


def _refuse(words: str) -> None:
    print(f"trivet bench: {words}", file=sys.stderr)
    raise typer.Exit(EXIT_CANNOT_RUN)


def main() -> None:
    """For ``python -m conformance.bench``."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(bench)
    app(prog_name="trivet bench")
