"""``/cluster/nodes``: the storage nodes, one by one; more of them, and fewer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from catalog import nodes, placements
from catalog.engine import Catalog
from catalog.model import NodeRow
from catalog.statement import Reader
from catalog.transaction import Transaction
from cluster.membership import Membership, NodeHomes, blobs_left, present
from cluster.reports.cluster import NodeState, node_statuses
from cluster.topology import NodeSet
from cluster.wire import NodeStatus
from codec import histogram
from s3front.admin.disks import Directory, check_answers
from s3front.admin.endpoint import Answered, Call, Endpoint
from s3front.admin.problem import not_found
from s3front.admin.services import AdminServices

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class Distribution(msgspec.Struct, frozen=True):
    """Of values since the node's start; the percentiles are off by a few percent."""

    count: int
    p50: float
    p99: float
    max: float


class NodeFigures(msgspec.Struct, frozen=True):
    """What a node says of itself, sizes in bytes. `read_only`: its disk is full. `failing`: its last write or sync had
    an error. `damage`: by kind, since its start. `capacity_bytes`: of its file system; `queued_bytes`: received and
    not yet answered; `peers`: connections. `stored_…`, `read_…`, `scrubbed_bytes`, `scrub_passes` and
    `reclaimed_bytes` count since its start. `sync_us`: microseconds of each sync; `group_writes`: requests that one
    append served."""

    release: str
    uptime_s: float
    read_only: bool
    failing: bool
    capacity_bytes: int
    free_bytes: int
    segment_bytes: int
    live_bytes: int
    segments: int
    blocks: int
    damaged_blocks: int
    damage: dict[str, int]
    queued_bytes: int
    peers: int
    stored_blocks: int
    stored_bytes: int
    read_blocks: int
    read_bytes: int
    scrubbed_bytes: int
    scrub_passes: int
    reclaimed_bytes: int
    sync_us: Distribution
    group_writes: Distribution


class NodeAnswer(msgspec.Struct, frozen=True):
    """A node. `state`: joining, up, suspect, down, draining or removed. `directory`: on its machine; null when it is
    not ours to start. `answers`: it does, now; `figures` are null where it does not. Of a draining one, `blobs_left`
    counts what still lies there, and `empty` says that it may be removed. `notes`: what a person should know of a
    change."""

    name: str
    number: int
    node_id: str
    state: str
    region: str
    zone: str
    directory: str | None
    answers: bool
    blobs_left: int | None
    empty: bool | None
    figures: NodeFigures | None
    notes: list[str] = []


class NodesAnswer(msgspec.Struct, frozen=True):
    """All that are not removed, by number."""

    nodes: list[NodeAnswer]


class NodeAddition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`name`: the next `node-N` where none is given; `region`: the one with the fewest nodes; `zone`: the region's name
    and an a."""

    directory: Directory
    name: Name | None = None
    region: Name | None = None
    zone: Name | None = None


class RemovalQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How."""

    lost: Annotated[
        bool, msgspec.Meta(description="it is dead for good: what it held is rebuilt on the others")
    ] = False


def node_row(reader: Reader, name: str) -> NodeRow:
    """The node of that name. Raises Problem (404)."""
    for row in present(nodes.list_nodes(reader)):
        if row.name == name:
            return row
    raise not_found("node", name)


async def check_disk_of(services: AdminServices, name: str) -> None:
    """Raises Problem: 404 for an unknown node, 503 when its disk does not answer."""
    row = await services.front.catalog.read(lambda reader: node_row(reader, name))
    if row.directory is not None:
        await check_answers(services.homes.home(row.directory))


async def _list(services: AdminServices, _call: Call) -> NodesAnswer:
    return NodesAnswer(await _answers(services))


async def _get(services: AdminServices, call: Call) -> NodeAnswer:
    name = call.path["node"]
    for answer in await _answers(services):
        if answer.name == name:
            return answer
    raise not_found("node", name)


async def _answers(services: AdminServices) -> list[NodeAnswer]:
    return await node_answers(services.front.catalog, services.front.nodes, services.homes)


async def node_answers(catalog: Catalog, node_set: NodeSet, homes: NodeHomes) -> list[NodeAnswer]:
    """All that are not removed, by number, asked at the same time. Raises CatalogErrors."""
    states = await node_statuses(catalog, node_set)
    draining = [state.row.number for state in states if state.row.state == nodes.DRAINING]
    left = await catalog.read(lambda reader: _left(reader, draining)) if draining else {}
    return [_answer(homes, state, left.get(state.row.number, (None, None))) for state in states]


def _left(reader: Reader, numbers: list[int]) -> dict[int, tuple[int, bool]]:
    return {
        number: (blobs_left(reader, number), not placements.node_in_use(reader, number)) for number in numbers
    }


def _answer(
    homes: NodeHomes,
    state: NodeState,
    left: tuple[int | None, bool | None] = (None, None),
    notes: list[str] | None = None,
) -> NodeAnswer:
    row, status = state.row, state.status
    blobs, empty = left
    return NodeAnswer(
        name=row.name,
        number=row.number,
        node_id=row.node_id.hex(),
        state=row.state,
        region=row.region,
        zone=row.zone,
        directory=str(homes.home(row.directory)) if row.directory is not None else None,
        answers=status is not None,
        blobs_left=blobs,
        empty=empty,
        figures=None if status is None else _figures(status),
        notes=notes or [],
    )


_SAME = [field.name for field in msgspec.structs.fields(NodeFigures) if field.type is not Distribution]


def _figures(status: NodeStatus) -> NodeFigures:
    same: dict[str, Any] = {name: getattr(status, name) for name in _SAME}
    return NodeFigures(
        **same,
        sync_us=_distribution(status.sync_us),
        group_writes=_distribution(status.group_writes),
    )


def _distribution(counts: dict[int, int]) -> Distribution:
    percentile = histogram.percentile
    return Distribution(
        sum(counts.values()), percentile(counts, 0.5), percentile(counts, 0.99), percentile(counts, 1.0)
    )


async def _add(services: AdminServices, call: Call) -> Answered:
    asked: NodeAddition = call.body
    directory = Path(asked.directory)
    await check_answers(directory)
    supervised = services.supervised()

    def add(tx: Transaction) -> NodeRow:
        members = Membership(services.homes, tx, services.width)
        return members.add(
            directory, supervised=supervised, name=asked.name, region=asked.region, zone=asked.zone
        )

    row = await services.front.catalog.write(add)
    notes = await services.settle_nodes()
    answer = _answer(services.homes, NodeState(row, None), notes=notes)
    return Answered(answer, {"location": f"/-/admin/v1/cluster/nodes/{row.name}"})


async def _remove(services: AdminServices, call: Call) -> NodeAnswer:
    name = call.path["node"]
    asked: RemovalQuery = call.query
    await check_disk_of(services, name)

    def remove(tx: Transaction) -> NodeRow:
        node_row(tx, name)
        return Membership(services.homes, tx, services.width).remove(name, lost=asked.lost)

    row = await services.front.catalog.write(remove)
    return _answer(services.homes, NodeState(row, None), notes=await services.settle_nodes())


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/cluster/nodes", "listNodes", "The storage nodes as they are now.", _list, NodesAnswer),
    Endpoint(
        "POST",
        "/cluster/nodes",
        "addNode",
        "Add a node; existing objects are spread over it in the background.",
        _add,
        NodeAnswer,
        body=NodeAddition,
        status=201,
    ),
    Endpoint("GET", "/cluster/nodes/{node}", "getNode", "One storage node as it is now.", _get, NodeAnswer),
    Endpoint(
        "DELETE",
        "/cluster/nodes/{node}",
        "removeNode",
        "Remove a node that was drained, or that is lost; its directory is left as it is.",
        _remove,
        NodeAnswer,
        query=RemovalQuery,
    ),
)
