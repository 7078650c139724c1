"""``/objects`` and ``/blobs``: where things lie, and whether their blocks verify now."""

from __future__ import annotations

import re
import time
from typing import Annotated, Final

import msgspec

from catalog.errors import NoSuchBucket, NoSuchKey
from cluster.reports.blob_uses import UNKNOWN, BlobUsesReport, blob_uses
from cluster.reports.blob_whereabouts import Checking
from cluster.reports.blocks import NodeAsker
from cluster.reports.whereabouts import ObjectReport, object_report
from s3front.admin.endpoint import Call, Endpoint
from s3front.admin.problem import invalid, not_found
from s3front.admin.services import AdminServices

_BLOB_ID: Final = re.compile("[0-9a-f]{32}")
_SEARCH_S_MAX: Final = 20.0
_SEARCH_PAUSE_S: Final = 0.005
"""After each few milliseconds of a search: its thread must not keep the front from its clients."""
_DEADLINE_S: Final = 10.0
_REQUEST_BYTES_MAX: Final = 2 << 20
"""Read by a node for one request: our links serve clients too, and one that waits for long looks stuck to them."""

Verify = Annotated[
    bool, msgspec.Meta(description="have nodes read blocks from their disks: of a large object a sample")
]


class ObjectQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version, and how closely to look."""

    version_id: Annotated[
        str | None, msgspec.Meta(description="null is the version without an id; default: the current one")
    ] = None
    verify: Verify = True


class BlobQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How closely to look."""

    verify: Verify = True


async def _object(services: AdminServices, call: Call) -> ObjectReport:
    asked: ObjectQuery = call.query
    bucket, key = call.path["bucket"], call.path["key"]
    try:
        return await object_report(
            services.front.catalog,
            _asker(services),
            bucket,
            key.encode(),
            version_id=asked.version_id,
            checking=Checking(verify=asked.verify),
        )
    except NoSuchBucket:
        raise not_found("bucket", bucket) from None
    except NoSuchKey:
        version = "" if asked.version_id is None else f" in version {asked.version_id}"
        raise not_found("object", f"{bucket}/{key}{version}") from None


async def _blob(services: AdminServices, call: Call) -> BlobUsesReport:
    name = call.path["blob"].lower()
    if not _BLOB_ID.fullmatch(name):
        raise invalid("path.blob", "a blob is named by 32 hexadecimal digits")
    give_up_at = time.monotonic() + _SEARCH_S_MAX
    report = await blob_uses(
        services.front.catalog,
        _asker(services),
        bytes.fromhex(name),
        checking=Checking(verify=call.query.verify),
        goes_on=lambda _rows: time.monotonic() < give_up_at,
        pause_s=_SEARCH_PAUSE_S,
    )
    if report.state == UNKNOWN:
        raise not_found("blob", name)
    return report


def _asker(services: AdminServices) -> NodeAsker:
    return NodeAsker(services.front.nodes, deadline_s=_DEADLINE_S, request_bytes_max=_REQUEST_BYTES_MAX)


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "GET",
        "/objects/{bucket}/{key:path}",
        "getObject",
        "An object's versions, and where the one asked for lies: shard by shard, and whether its blocks verify now.",
        _object,
        ObjectReport,
        query=ObjectQuery,
    ),
    Endpoint(
        "GET",
        "/blobs/{blob}",
        "getBlob",
        "The objects that use a blob, which events name by its id, and where it lies. Reads many rows of the catalog.",
        _blob,
        BlobUsesReport,
        query=BlobQuery,
    ),
)
