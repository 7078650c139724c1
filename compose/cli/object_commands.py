"""``trivet object …``: where objects and blobs lie."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli.asking import refuse_silence, searching
from compose.cli.store_access import AsJson, Data, print_json, settings_of, with_store
from compose.refusal import EXIT_NOT_DONE, CommandRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.engine import Catalog
    from cluster.reports.blob_uses import BlobUsesReport
    from cluster.reports.blob_whereabouts import BlobReport, Checking
    from cluster.reports.whereabouts import ObjectReport
    from cluster.topology import NodeSet

object_app = typer.Typer(no_args_is_help=True, help="Where an object lies, and whether its blocks verify.")

NoVerify = Annotated[
    bool, typer.Option("--no-verify", help="only what the catalog says: no node reads from its disk")
]
All = Annotated[
    bool, typer.Option("--all", help="verify every block of every part; otherwise a sample of 64 MiB")
]


@object_app.command()
def where(
    name: Annotated[str, typer.Argument(metavar="BUCKET/KEY", help="s3://BUCKET/KEY is understood too")],
    *,
    version_id: Annotated[
        str | None, typer.Option("--version-id", metavar="ID", help="default: the current version")
    ] = None,
    no_verify: NoVerify = False,
    everything: All = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Draw where an object's shards are, and whether each block verifies now. Exit code 1: it is not whole."""
    from catalog.errors import NoSuchBucket, NoSuchKey
    from cluster.reports.blocks import NodeAsker
    from cluster.reports.whereabouts import object_report

    bucket, key = _bucket_and_key(name)
    checking = _checking(no_verify=no_verify, everything=everything)

    async def ask(catalog: Catalog, node_set: NodeSet) -> ObjectReport:
        if checking.verify:
            refuse_silence(node_set)
        try:
            return await object_report(
                catalog, NodeAsker(node_set), bucket, key, version_id=version_id, checking=checking
            )
        except NoSuchBucket:
            raise CommandRefused(
                f"there is no bucket {bucket}: trivet bucket list shows those there are"
            ) from None
        except NoSuchKey:
            version = "" if version_id is None else f" in version {version_id}"
            shown = key.decode("utf-8", "replace")
            raise CommandRefused(f"there is no object {shown}{version} in the bucket {bucket}") from None

    report = with_store(settings_of(data), ask)
    if as_json:
        print_json(_plain(report))
    else:
        from compose.cli.object_view import object_drawing

        _print(object_drawing(report))
    if not all(_verifies(blob) for blob in _blobs(report)):
        raise typer.Exit(EXIT_NOT_DONE)


@object_app.command()
def of(
    blob: Annotated[str, typer.Argument(metavar="BLOB", help="its 32 hexadecimal digits, as events name it")],
    *,
    no_verify: NoVerify = False,
    everything: All = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show which objects use a blob, and where it lies. Reads many rows of the catalog.

    Exit code 1: it is not whole.
    """
    from cluster.reports.blob_uses import UNKNOWN, blob_uses
    from cluster.reports.blocks import NodeAsker

    name = blob.strip().lower()
    if not re.fullmatch("[0-9a-f]{32}", name):
        raise CommandRefused(
            f"{blob} is no blob: they are named by 32 hexadecimal digits (see trivet events)"
        )
    checking = _checking(no_verify=no_verify, everything=everything)

    async def ask(catalog: Catalog, node_set: NodeSet) -> BlobUsesReport:
        with searching(quiet=as_json) as rows_read:
            return await blob_uses(
                catalog, NodeAsker(node_set), bytes.fromhex(name), checking=checking, goes_on=rows_read
            )

    report = with_store(settings_of(data), ask)
    if report.state == UNKNOWN:
        raise CommandRefused(f"the catalog knows no blob {name}: it was deleted, and its blocks too")
    if as_json:
        print_json(_plain(report))
    else:
        from compose.cli.object_view import blob_drawing

        _print(blob_drawing(report))
    if report.lies is not None and not _verifies(report.lies):
        raise typer.Exit(EXIT_NOT_DONE)


def _bucket_and_key(name: str) -> tuple[str, bytes]:
    bucket, _, key = name.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise CommandRefused(f"{name} names no object: write it as BUCKET/KEY")
    return bucket, key.encode("utf-8", "surrogateescape")


def _checking(*, no_verify: bool, everything: bool) -> Checking:
    from cluster.reports.blob_whereabouts import Checking

    if no_verify and everything:
        raise CommandRefused("--all and --no-verify contradict each other")
    if everything:
        return Checking(bytes_max=None, parts_max=None)
    return Checking(verify=not no_verify)


def _blobs(report: ObjectReport) -> Iterator[BlobReport]:
    if report.blob is not None:
        yield report.blob
    for part in report.parts:
        if part.blob is not None:
            yield part.blob


def _verifies(blob: BlobReport) -> bool:
    """No block that was looked at lacks anything."""
    return not any(
        copy.missing or copy.corrupt or copy.unanswered for run in blob.runs for copy in run.copies
    )


def _plain(report: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(report)


def _print(drawing: Any) -> None:
    from rich.console import Console

    Console().print(drawing)
