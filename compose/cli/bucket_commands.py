"""``trivet bucket …``: what lies in the buckets, and how much may."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli.store_access import AsJson, Data, answer, print_json, read_catalog, settings_of, with_catalog
from compose.refusal import EXIT_NOT_DONE, CommandRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.engine import Catalog
    from catalog.usage import Recount
    from s3front.admin.buckets import BucketDetail, BucketInfo

bucket_app = typer.Typer(no_args_is_help=True, help="Buckets: what lies in them, and how much may.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="as `trivet bucket list` shows it")]

_PAGE_ROWS = 1000
_TRIES_MAX = 5
_UNITS: dict[str, int] = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgtp", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgtp", 1)},
}
_SIZE = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,9}))? ?([a-z]*)")


def bytes_of(text: str) -> int:
    """`10GiB` (1024), `10GB` (1000), `1.5 TiB`, `4096`; parts of a byte are dropped. Raises CommandRefused."""
    found = _SIZE.fullmatch(text.strip().lower())
    unit = _UNITS.get(found[3]) if found else None
    if found is None or unit is None:
        raise CommandRefused(f"{text!r} is not a size: write it like 10GiB, 500MB or 1048576, or none")
    fraction = found[2] or "0"
    parts: int = 10 ** len(fraction)
    return int(found[1]) * unit + int(fraction) * unit // parts


@bucket_app.command("list")
def list_buckets(*, data: Data = None, as_json: AsJson = False) -> None:
    """Show all buckets: objects, versions, bytes, quota."""
    found = with_catalog(settings_of(data), _all)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(found))
    elif found:
        _print_table(found)
    else:
        print("there are no buckets")


async def _all(catalog: Catalog) -> list[BucketInfo]:
    from catalog import usage
    from s3front.admin.buckets import bucket_info

    found: list[BucketInfo] = []
    after = ""
    while True:
        # As a value of its own: the reading happens in a thread.
        rows = await catalog.read(lambda reader, a=after: usage.listed(reader, after=a, limit=_PAGE_ROWS))  # type: ignore[misc]
        found += [bucket_info(row) for row in rows]
        if len(rows) < _PAGE_ROWS:
            return found
        after = rows[-1].name


def _print_table(found: list[BucketInfo]) -> None:
    from rich.console import Console

    from compose.cli.figures import size_text
    from compose.cli.tables import folding_table

    figures = ("objects", "versions", "size", "quota", "used")
    table = folding_table("name", *figures, "versioning", figures=figures)
    for one in found:
        quota = "none" if one.quota_bytes is None else size_text(one.quota_bytes)
        counted = (f"{one.objects:,}", f"{one.versions:,}", size_text(one.bytes))
        table.add_row(one.name, *counted, quota, _share(one), one.versioning)
    Console().print(table)


def _share(one: BucketInfo) -> str:
    """How much of the quota is used."""
    if one.quota_bytes is None:
        return ""
    if one.quota_bytes == 0:
        return "full"
    return f"{100 * one.bytes / one.quota_bytes:.0f} %"


@bucket_app.command()
def show(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Show one bucket: objects, versions, bytes, quota, open multipart uploads."""
    from s3front.admin.buckets import bucket_detail

    with _known(name):
        found = read_catalog(settings_of(data), lambda reader: bucket_detail(reader, name))
    _tell(found, as_json=as_json)


@contextmanager
def _known(name: str) -> Iterator[None]:
    """Raises CommandRefused when there is no such bucket."""
    from catalog.errors import NoSuchBucket

    try:
        yield
    except NoSuchBucket:
        raise CommandRefused(f"there is no bucket {name}: trivet bucket list shows those there are") from None


def _tell(one: BucketDetail, *, as_json: bool) -> None:
    import msgspec

    from compose.cli.figures import size_text

    def size(count: int) -> str:
        return f"{size_text(count)} ({count:,} bytes)" if count >= 1024 else f"{count:,} bytes"

    quota = "none"
    if one.quota_bytes is not None:
        quota = f"{size(one.quota_bytes)}, {_share(one)}{' used' if one.quota_bytes else ''}"
    words = [
        f"bucket        {one.name}",
        f"created       {one.created_at}",
        f"versioning    {one.versioning}",
        f"objects       {one.objects:,}",
        f"versions      {one.versions:,}",
        f"size          {size(one.bytes)}",
        f"quota         {quota}",
        f"open uploads  {one.open_uploads:,}",
    ]
    facts: dict[str, Any] = msgspec.to_builtins(one)
    answer(facts, "\n".join(words), as_json=as_json)


@bucket_app.command()
def quota(
    name: Name,
    size: Annotated[
        str | None,
        typer.Argument(
            metavar="[BYTES|none]", help="like 10GiB, 500MB or 1048576; `none` takes the limit away"
        ),
    ] = None,
    *,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Limit the bytes of all versions in a bucket, or show the limit.

    A limit below what lies there deletes nothing: it refuses whatever would make the bucket larger. Parts of multipart
    uploads count when the upload is completed.
    """
    if size is None:
        show(name, data=data, as_json=as_json)
        return
    from s3front.admin.buckets import QUOTA_BYTES_MAX, bucket_detail, change_quota

    wanted = None if size.strip().lower() == "none" else bytes_of(size)
    settings = settings_of(data)
    if wanted is not None and wanted > QUOTA_BYTES_MAX:
        raise CommandRefused(f"a quota has at most {QUOTA_BYTES_MAX} bytes; `none` takes the limit away")

    async def change(catalog: Catalog) -> BucketDetail:
        await catalog.write(lambda tx: change_quota(tx, name, wanted), frees=True)
        return await catalog.read(lambda reader: bucket_detail(reader, name))

    with _known(name):
        found = with_catalog(settings, change)
    _tell(found, as_json=as_json)


@bucket_app.command()
def recount(
    name: Name,
    check: Annotated[
        bool, typer.Option("--check", help="change nothing; exit code 1 when the books are wrong")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Count a bucket's objects anew, row by row, and put its figures right if they are wrong.

    They are kept exactly with every change, also through crashes. Only a program of another release that was still
    running while the catalog was brought up to date can have left them wrong.
    """

    async def count(catalog: Catalog) -> Recount:
        return await _recounted(catalog, name, correct=not check)

    with _known(name):
        found = with_catalog(settings_of(data), count)
    corrected = not found.agrees and not check
    _tell_recount(name, found, corrected=corrected, as_json=as_json)
    if not found.agrees and not corrected:
        raise typer.Exit(EXIT_NOT_DONE)


async def _recounted(catalog: Catalog, name: str, *, correct: bool) -> Recount:
    """Another correction meanwhile makes it count again. Raises NoSuchBucket."""
    from catalog import usage
    from catalog.errors import Changed

    for _ in range(_TRIES_MAX):
        found = await catalog.read(
            lambda reader: usage.recount(reader, usage.of_bucket(reader, name).id),
        )
        if found.agrees or not correct:
            return found
        try:
            await catalog.write(lambda tx, seen=found: usage.correct(tx, seen))  # type: ignore[misc]
        except Changed:
            continue
        return found
    raise CommandRefused("others correct these figures at the same time; try again")


def _tell_recount(name: str, found: Recount, *, corrected: bool, as_json: bool) -> None:
    import msgspec

    stored, counted = found.stored, found.counted
    facts = {
        "name": name,
        "agrees": found.agrees,
        "corrected": corrected,
        "stored": msgspec.to_builtins(stored),
        "counted": msgspec.to_builtins(counted),
    }
    words = (
        f"{name}: {counted.objects:,} objects, {counted.versions:,} versions, {counted.bytes:,} bytes counted"
    )
    if found.agrees:
        words += ", as the books say"
    else:
        words += f"\nthe books said {stored.objects:,}, {stored.versions:,} and {stored.bytes:,}: "
        words += "corrected" if corrected else f"wrong; to correct them: trivet bucket recount {name}"
    answer(facts, words, as_json=as_json)
