"""An object as an operator looks at it: its versions, what is known of it, and where its blobs lie."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

import msgspec

from catalog import blobs, buckets, usedby
from catalog.engine import Catalog
from catalog.errors import NoSuchBucket, NoSuchKey
from catalog.model import BlobRow, Checksum, PartRef
from catalog.statement import Reader
from catalog.usedby import VersionRow
from cluster.reports.blob_whereabouts import BlobReport, Checking, blobs_looked_at, sample
from cluster.reports.blocks import NodeAsker
from cluster.reports.moments import iso_at
from cluster.reports.survival import Survival, least

VERSIONS_MAX: Final = 100


class PartReport(msgspec.Struct, frozen=True):
    """One part of a multipart object. `blob` is None if it was deleted while we looked."""

    number: int
    size_bytes: int
    etag: str
    checksum: str | None
    blob: BlobReport | None


class ChecksumReport(msgspec.Struct, frozen=True):
    """`type` is FULL_OBJECT or COMPOSITE, `value` base64 as S3 shows it."""

    algorithm: str
    type: str
    value: str


class VersionReport(msgspec.Struct, frozen=True):
    """A version of an object, or a delete marker. `version_id` is None for one that was written without versioning."""

    version_id: str | None
    current: bool
    delete_marker: bool
    size_bytes: int
    etag: str
    modified_at: str
    content_type: str
    storage_class: str
    checksum: ChecksumReport | None


class ObjectReport(msgspec.Struct, frozen=True):
    """`version` is the one that was looked at; `versions` has the newest, `more_versions` when there are others.
    Either `blob` or `parts` (the first of which, the last and others by chance, when `parts_total` is more) says
    where it lies; a delete marker lies nowhere. `survives`: what was looked at, taken together."""

    bucket: str
    key: str
    version: VersionReport
    versions: list[VersionReport]
    more_versions: bool
    blob: BlobReport | None
    parts: list[PartReport]
    parts_total: int
    survives: Survival | None


async def object_report(
    catalog: Catalog,
    asker: NodeAsker,
    bucket: str,
    key: bytes,
    *,
    version_id: str | None = None,
    checking: Checking = Checking(),  # noqa: B008 - frozen
    chance: random.Random | None = None,
) -> ObjectReport:
    """`version_id`: None is the current version, "null" the one without an id. Raises NoSuchBucket, NoSuchKey (also
    for an unknown version), and other CatalogErrors; never because of nodes."""
    known = await buckets.get(catalog, bucket)
    if known is None:
        raise NoSuchBucket(f"there is no bucket {bucket}")
    bucket_id, chance = known.id, chance or random.Random()  # noqa: S311 - a sample, no secret

    def read(reader: Reader) -> _Stored:
        version, versions = _versions(reader, bucket_id, key, version_id)
        manifest = None if version.blob_id is None else usedby.manifest_of(reader, version.blob_id)
        parts = () if manifest is None else _some(manifest, checking.parts_max, chance)
        wanted = [version.blob_id] if manifest is None else [part.blob_id for part in parts]
        rows = blobs.by_ids(reader, catalog.placements, {blob_id for blob_id in wanted if blob_id})
        return _Stored(version, versions, None if manifest is None else len(manifest), parts, rows)

    stored = await catalog.read(read)
    looked = await blobs_looked_at(catalog, asker, stored.rows, checking, chance)
    return _object_report(bucket, key, stored, looked)


class _Stored(msgspec.Struct, frozen=True):
    """An object as of one moment; `parts` are those of `parts_total` that are looked at."""

    version: VersionRow
    versions: list[VersionRow]
    parts_total: int | None
    parts: tuple[PartRef, ...]
    rows: dict[bytes, BlobRow]


def _versions(
    reader: Reader, bucket_id: int, key: bytes, version_id: str | None
) -> tuple[VersionRow, list[VersionRow]]:
    """The version asked for, and the newest. Raises NoSuchKey."""
    newest = usedby.versions_of(reader, bucket_id, key, limit=VERSIONS_MAX + 1)
    if version_id is None:
        version = newest[0] if newest else None
    else:
        version = usedby.version_of(reader, bucket_id, key, version_id)
    if version is None:
        wanted = "" if version_id is None else f" in version {version_id}"
        raise NoSuchKey(f"there is no object {key_text(key)}{wanted}")
    return version, newest


def key_text(key: bytes) -> str:
    """A key for people and for JSON; keys are UTF-8."""
    return key.decode("utf-8", "backslashreplace")


def _some(parts: tuple[PartRef, ...], parts_max: int | None, chance: random.Random) -> tuple[PartRef, ...]:
    return tuple(parts[at] for at in sample(range(len(parts)), parts_max, chance))


def _object_report(
    bucket: str, key: bytes, stored: _Stored, looked: Mapping[bytes, BlobReport]
) -> ObjectReport:
    parts = [
        PartReport(part.number, part.size, part.etag, part.checksum, looked.get(part.blob_id))
        for part in stored.parts
    ]
    whole = stored.version.blob_id if stored.parts_total is None else None
    return ObjectReport(
        bucket=bucket,
        key=key_text(key),
        version=_version_report(stored.version),
        versions=[_version_report(row) for row in stored.versions[:VERSIONS_MAX]],
        more_versions=len(stored.versions) > VERSIONS_MAX,
        blob=None if whole is None else looked.get(whole),
        parts=parts,
        parts_total=stored.parts_total or 0,
        survives=least(one.survives for one in looked.values() if one.survives is not None),
    )


def _checksum_report(checksum: Checksum | None) -> ChecksumReport | None:
    if checksum is None:
        return None
    return ChecksumReport(checksum.algorithm, checksum.type, checksum.value)


def _version_report(row: VersionRow) -> VersionReport:
    return VersionReport(
        version_id=row.version_id,
        current=row.current,
        delete_marker=row.delete_marker,
        size_bytes=row.size,
        etag=row.etag,
        modified_at=iso_at(row.modified_ms),
        content_type=row.content_type,
        storage_class=row.attributes.storage_class,
        checksum=_checksum_report(row.attributes.checksum),
    )
