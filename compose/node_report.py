"""The nodes of a store as `trivet node list` shows them."""

from __future__ import annotations

from typing import Any

from catalog import nodes, placements
from catalog.model import NodeRow
from catalog.statement import Reader
from compose.data_dir import DataDir
from compose.membership import blobs_left, present


def node_report(reader: Reader, data: DataDir) -> list[dict[str, Any]]:
    """One entry a node that is not removed, by number. A draining one also has `blobs_left`, and `empty`, which
    is true once it may be removed: deleted blobs lie there for as long as somebody may still read them.
    """
    return [_entry(reader, data, row) for row in present(nodes.list_nodes(reader))]


def _entry(reader: Reader, data: DataDir, row: NodeRow) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": row.name,
        "number": row.number,
        "node_id": row.node_id.hex(),
        "state": row.state,
        "region": row.region,
        "zone": row.zone,
        "directory": str(data.home(row.directory)) if row.directory is not None else "",
    }
    if row.state == nodes.DRAINING:
        entry["blobs_left"] = blobs_left(reader, row.number)
        entry["empty"] = not placements.node_in_use(reader, row.number)
    return entry
