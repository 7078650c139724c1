"""The nodes of a store as the catalog knows them, with the free space of their disks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from catalog import nodes, placements
from catalog.model import NodeRow
from catalog.statement import Reader
from cluster.membership import NodeHomes, blobs_left, present


def node_report(reader: Reader, homes: NodeHomes) -> list[dict[str, Any]]:
    """One entry a node that is not removed, by number. A draining one also has `blobs_left`, and `empty`, which
    is true once it may be removed: deleted blobs lie there for as long as somebody may still read them.
    `free_bytes` are those of its disk; None when there is no such directory.
    """
    return [_entry(reader, homes, row) for row in present(nodes.list_nodes(reader))]


def _entry(reader: Reader, homes: NodeHomes, row: NodeRow) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": row.name,
        "number": row.number,
        "node_id": row.node_id.hex(),
        "state": row.state,
        "region": row.region,
        "zone": row.zone,
        "directory": str(homes.home(row.directory)) if row.directory is not None else "",
        "free_bytes": _free(homes.home(row.directory)) if row.directory is not None else None,
    }
    if row.state == nodes.DRAINING:
        entry["blobs_left"] = blobs_left(reader, row.number)
        entry["empty"] = not placements.node_in_use(reader, row.number)
    return entry


def _free(directory: Path) -> int | None:
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return None
