"""The cluster as a whole: what its nodes say of themselves now, what it holds, and whether all is well."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Literal
from weakref import WeakKeyDictionary

import msgspec

from catalog import leases, nodes, placements
from catalog.engine import Catalog
from catalog.model import Lease, NodeRow
from catalog.statement import Reader
from catalog.totals import Totals, totals
from catalog.transaction import read_meta
from cluster import wire
from cluster.errors import LinkError
from cluster.headway import unreadable_on
from cluster.membership import present
from cluster.reports.incidents import REDUNDANCY, Incident, ongoing
from cluster.reports.moments import At, iso_at_or_none, second_text
from cluster.reports.redundancy import RepairReport, repair_report
from cluster.steward.services import StewardSettings
from cluster.topology import NodeSet

_ASK: Final = wire.encode(wire.StatusRequest())
_DEADLINE_S: Final = 0.5
_TAKERS_MIN: Final = 2
"""With fewer nodes that take blocks no write survives the loss of one: writes answer 503 (S9)."""
_LEASE_EXPIRY_S: Final = StewardSettings().lease_expiry_s


class NodeState(msgspec.Struct, frozen=True):
    """A node as the catalog has it, and what it says of itself; `status` is None when it did not answer."""

    row: NodeRow
    status: wire.NodeStatus | None


class Code(msgspec.Struct, frozen=True):
    """k data and m parity shards."""

    k: int
    m: int


class ClusterFigures(msgspec.Struct, frozen=True):
    """Counts, and sizes in bytes.

    `nodes`: how many by state; `regions`: how many by region; `silent`: names of those that did not answer, whose
    figures are missing here. `capacity_…` and `free_bytes` are sums over the nodes: where several lie on one file
    system, each counts it. `used_bytes`: of the nodes' files, `live_bytes` of them of blocks that count.
    `logical_bytes`: of all versions as their owners count them; `overhead`: `used_bytes` for each of those, None
    without any and while nodes are silent. `codes`: of what is stored.
    """

    nodes: dict[str, int]
    regions: dict[str, int]
    silent: tuple[str, ...]
    capacity_bytes: int
    free_bytes: int
    used_bytes: int
    live_bytes: int
    stored_blocks: int
    damaged_blocks: int
    buckets: int
    objects: int
    versions: int
    logical_bytes: int
    overhead: float | None
    codes: tuple[Code, ...]


class ClusterStats(ClusterFigures, frozen=True):
    """With how whole all of it is."""

    redundancy: RepairReport


class Reason(msgspec.Struct, frozen=True):
    """Why not all is well: `what` it is, of which `node`, what to `do` next, since when if that is known. In words for
    a person, without addresses and directories."""

    what: str
    do: str
    node: str | None = None
    since_at: At | None = None
    critical: bool = False


class ClusterHealth(msgspec.Struct, frozen=True):
    """`critical`: objects can't be read or written, or are in danger; `degraded`: all can be, and something is to be
    done or waited for. `reasons`: the worst first, none when healthy."""

    status: Literal["healthy", "degraded", "critical"]
    reasons: tuple[Reason, ...]


async def node_statuses(catalog: Catalog, node_set: NodeSet) -> list[NodeState]:
    """All nodes of the store, asked at the same time; takes as long as the slowest of them, 0.5 s at most. Raises
    CatalogErrors."""
    rows = present(await nodes.current(catalog))
    answers = await asyncio.gather(*(_ask(node_set, row.number) for row in rows))
    return [NodeState(row, answer) for row, answer in zip(rows, answers, strict=True)]


async def _ask(node_set: NodeSet, number: int) -> wire.NodeStatus | None:
    link = node_set.link(number)
    if link is None:
        return None
    try:
        reply = await link.call(int(wire.Op.STATUS), _ASK, None, _DEADLINE_S)
        return wire.decode_node_status(reply.header)
    except (LinkError, msgspec.DecodeError):
        return None


async def cluster_stats(catalog: Catalog, node_set: NodeSet) -> ClusterStats:
    """As of now. Counting blobs below full redundancy takes its time where they are many. Raises CatalogErrors."""
    states = await node_statuses(catalog, node_set)
    told, codes, redundancy = await catalog.read(_stored)
    said = [state.status for state in states if state.status is not None]
    used_bytes = sum(status.segment_bytes for status in said)
    return ClusterStats(
        nodes=dict(Counter(state.row.state for state in states)),
        regions=dict(Counter(state.row.region for state in states)),
        silent=tuple(state.row.name for state in states if state.status is None),
        capacity_bytes=sum(status.capacity_bytes for status in said),
        free_bytes=sum(status.free_bytes for status in said),
        used_bytes=used_bytes,
        live_bytes=sum(status.live_bytes for status in said),
        stored_blocks=sum(status.blocks for status in said),
        damaged_blocks=sum(status.damaged_blocks for status in said),
        buckets=told.buckets,
        objects=told.objects,
        versions=told.versions,
        logical_bytes=told.size,
        overhead=used_bytes / told.size if told.size and len(said) == len(states) else None,
        codes=codes,
        redundancy=redundancy,
    )


def _stored(reader: Reader) -> tuple[Totals, tuple[Code, ...], RepairReport]:
    return totals(reader), _codes(reader), repair_report(reader)


def _codes(reader: Reader) -> tuple[Code, ...]:
    return tuple(Code(k, m) for k, m in sorted({(use.k, use.m) for use in placements.in_use(reader)}))


async def cluster_health(catalog: Catalog, node_set: NodeSet) -> ClusterHealth:
    """As of now, as far as this process sees it: that the steward's lease stands still shows only to one who has
    looked before, 10 s ago. Raises CatalogErrors."""
    states = await node_statuses(catalog, node_set)
    facts = await catalog.read(lambda reader: _facts(reader, states))
    reasons = [
        *_of_objects(facts),
        *_of_nodes(facts),
        *_of_steward(facts, _is_steward_absent(catalog, facts.lease)),
    ]
    reasons.sort(key=lambda reason: not reason.critical)
    if not reasons:
        return ClusterHealth("healthy", ())
    return ClusterHealth("critical" if reasons[0].critical else "degraded", tuple(reasons))


_watches: WeakKeyDictionary[Catalog, leases.LeaseWatch] = WeakKeyDictionary()
"""What this process has seen of the steward's lease, for each catalog that it has open: from one look alone nobody can
tell whether it stands still (S22)."""


def _is_steward_absent(catalog: Catalog, lease: Lease) -> bool:
    watch = _watches.get(catalog)
    if watch is None:
        watch = _watches[catalog] = leases.LeaseWatch(time.monotonic, _LEASE_EXPIRY_S)
    return watch.expired(lease)


class _Facts(msgspec.Struct, frozen=True):
    """What health is judged by."""

    states: Sequence[NodeState]
    codes: tuple[Code, ...]
    redundancy: RepairReport
    ongoing: list[Incident]
    lease: Lease
    orphans_allowed: bool
    stuck: dict[int, int]
    """Blobs that can't be read, by the number of a draining node that they lie on."""


def _facts(reader: Reader, states: Sequence[NodeState]) -> _Facts:
    return _Facts(
        states=states,
        codes=_codes(reader),
        redundancy=repair_report(reader),
        ongoing=ongoing(reader),
        lease=leases.read(reader),
        orphans_allowed=read_meta(reader).orphans_allowed,
        stuck={
            state.row.number: unreadable_on(reader, state.row.number)
            for state in states
            if state.row.state == nodes.DRAINING
        },
    )


def _of_objects(facts: _Facts) -> Iterator[Reason]:
    report = facts.redundancy
    answering = sum(state.status is not None for state in facts.states)
    needed = max((code.k for code in facts.codes), default=1)
    if answering < needed:
        what = f"{answering} of {len(facts.states)} nodes answer; objects need {needed} to be read"
        yield Reason(what, "start the missing nodes (trivet node list shows which)", critical=True)
    if report.unreadable_blobs:
        what = f"{report.unreadable_blobs:,} blobs can't be read: too many of their shards are bad or gone"
        do = "bring back the disk of a lost node, or write these objects anew (trivet events names the blobs)"
        yield Reason(what, do, critical=True)
    reduced = max(report.reduced_blobs, report.queued_blobs - report.unreadable_blobs)
    if reduced > 0:
        since_ms = next((each.began_ms for each in facts.ongoing if each.kind == REDUNDANCY), None)
        what = f"{reduced:,} blobs have less than full redundancy{_since(since_ms)}"
        yield Reason(
            what, "wait for their repair (trivet repair status --watch)", since_at=iso_at_or_none(since_ms)
        )


def _of_nodes(facts: _Facts) -> Iterator[Reason]:
    began_ms = {each.node: each.began_ms for each in facts.ongoing if each.kind != REDUNDANCY}
    no_writes = (
        sum(state.status is not None and not state.status.read_only for state in facts.states) < _TAKERS_MIN
    )
    for state in facts.states:
        name, status = state.row.name, state.status
        since_ms = began_ms.get(name)
        if status is None or state.row.state in {nodes.SUSPECT, nodes.DOWN}:
            yield _absent(name, state.row.state, since_ms, answers=status is not None)
        if status is not None and status.read_only:
            do = "make room on its disk, or add a node (trivet node add DIR)"
            what = f"the disk of {name} is full: it takes no new objects"
            yield Reason(
                f"{what}, and too few other nodes do" if no_writes else what, do, name, critical=no_writes
            )
        if status is not None and status.failing:
            do = f"look at its log and its disk; to move its data away: trivet node drain {name}"
            yield Reason(f"the disk of {name} fails: its last write or sync had an error", do, name)
        if stuck := facts.stuck.get(state.row.number):
            do = "write these objects anew or delete them (trivet events names the blobs)"
            yield Reason(f"{name} can't be drained: {stuck:,} blobs on it can't be read", do, name)


def _absent(name: str, state: str, since_ms: int | None, *, answers: bool) -> Reason:
    since_at = iso_at_or_none(since_ms)
    if answers:
        return Reason(
            f"{name} answers, and still counts as {state}", "wait for the steward to see it", name, since_at
        )
    if state == nodes.JOINING:
        return Reason(f"{name} has not joined yet", "wait; if it does not come up, look at its log", name)
    what = f"{name} is {state}" if state in {nodes.SUSPECT, nodes.DOWN} else f"{name} does not answer"
    do = f"start its process; if it is lost for good: trivet node recover {name} --lost"
    return Reason(f"{what}{_since(since_ms)}", do, name, since_at)


def _of_steward(facts: _Facts, absent: bool) -> Iterator[Reason]:
    if absent:
        do = "start one (trivet up does, or: trivet steward): without it nothing is repaired or deleted"
        yield Reason("no steward is at work", do)
    paused_until_ms = facts.redundancy.paused_until_ms
    if paused_until_ms is not None:
        what = f"repair is paused until {second_text(paused_until_ms)}"
        yield Reason(what, "to go on now: trivet repair resume")
    if not facts.orphans_allowed:
        what = "since the catalog was restored, blocks that it does not know are kept"
        yield Reason(what, "when nothing is missing: trivet orphans allow")


def _since(at_ms: int | None) -> str:
    return "" if at_ms is None else f" since {second_text(at_ms)}"
