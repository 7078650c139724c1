"""What this release is: its number, and the formats that it reads and writes."""

from __future__ import annotations

from typing import TypedDict

from cluster.version import VERSION


class Formats(TypedDict):
    """Data of a newer format is refused; an older catalog is migrated at the start."""

    catalog_schema: str
    segment_format: int
    wire_oldest: int
    wire_newest: int


class Release(TypedDict):
    release: str
    formats: Formats


def release() -> Release:
    from catalog.schema import HEAD_REVISION
    from cluster.wire import VERSION_MAX, VERSION_MIN
    from codec.block import FORMAT

    return Release(
        release=VERSION,
        formats=Formats(
            catalog_schema=HEAD_REVISION,
            segment_format=FORMAT,
            wire_oldest=VERSION_MIN,
            wire_newest=VERSION_MAX,
        ),
    )


def in_words(this: Release) -> str:
    formats = this["formats"]
    return (
        f"trivet {this['release']}\n"
        f"catalog schema {formats['catalog_schema']}, segment format {formats['segment_format']}, "
        f"wire protocol {formats['wire_oldest']} to {formats['wire_newest']}"
    )
