"""Catalog, nodes, steward and redundancy: what only the store itself can tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.version import VERSION
from compose.checks import database
from compose.checks.disks import Homes
from compose.checks.finding import Finding, Subject, bad, ok, warn
from compose.refusal import CommandRefused

if TYPE_CHECKING:
    from catalog.engine import Catalog
    from catalog.examine import Examination
    from catalog.model import NodeRow
    from catalog.statement import Reader
    from cluster.topology import NodeSet

_READ_BYTES_MAX = 2 << 30
"""A larger catalog is not read: that takes minutes, in which its log can't be emptied."""
_FUTURE_S = 2.0
_RENEWAL_S_MAX = 6.0
"""A steward in office renews its lease every two seconds."""
_BUCKETS_RECOUNTED = 5
_VERSIONS_RECOUNTED_MAX = 100_000


@dataclass(frozen=True, slots=True)
class CatalogFound:
    """`usable`: other checks may open it without changing it."""

    findings: list[Finding] = field(default_factory=list)
    nodes: Sequence[NodeRow] = ()
    usable: bool = False


def catalog_of(subject: Subject) -> CatalogFound:
    """The catalog as it lies there: whole, of this release's schema, of a time that is not to come."""
    from catalog.errors import CatalogRefused
    from catalog.examine import examine

    if subject.settings.catalog:
        return catalog_in_database(subject.settings.catalog)
    path = subject.place.catalog
    lost = "if it stays so, move it away and put a backup in its place: trivet catalog restore FILE"
    try:
        seen = examine(path, read_bytes_max=_READ_BYTES_MAX)
    except CatalogRefused as refusal:
        return CatalogFound([bad("catalog", str(refusal), lost)])
    except OSError as error:
        return CatalogFound(
            [bad("catalog", f"{path} can't be read: {error.strerror}", "run this as its owner")]
        )
    if seen.faults:
        return CatalogFound([bad("catalog", f"{path} is damaged: {seen.faults[0]}", lost)], seen.nodes)
    if not seen.current:
        return CatalogFound([_of_another_release(seen)])
    findings = [ok("catalog", _about(seen)), *_of_time_to_come(seen.newest_ms)]
    return CatalogFound(findings, seen.nodes, usable=True)


def catalog_in_database(url: str) -> CatalogFound:
    """The same of one in PostgreSQL, as far as a client of the server can see."""
    from catalog.errors import CatalogBusy, CatalogRefused
    from catalog.postgres_examine import examine_database
    from catalog.schema import HEAD_REVISION
    from compose.catalog_place import describe

    try:
        seen = examine_database(url)
    except CatalogRefused as refusal:
        return CatalogFound(
            [bad("catalog", str(refusal), "name a database that it can be in: TRIVET_CATALOG")]
        )
    except CatalogBusy as error:
        cause = str(error.__cause__ or error).strip().partition("\n")[0]
        do = "see whether the server runs and takes this host's connections; until then requests get 503"
        return CatalogFound([bad("catalog", f"{describe(url)}: {cause}", do)])
    findings = database.findings_of(seen)
    findings += _of_time_to_come(seen.newest_ms)
    return CatalogFound(findings, seen.nodes, usable=seen.founded and seen.revision == HEAD_REVISION)


def _of_time_to_come(newest_ms: int) -> list[Finding]:
    ahead_s = newest_ms / 1000 - time.time()
    if ahead_s <= _FUTURE_S:
        return []
    do = "set the clock (timedatectl); until then deleted data is kept for longer"
    return [warn("clock", f"the catalog knows of a time {ahead_s:.0f} s in the future", do)]


def _of_another_release(seen: Examination) -> Finding:
    from catalog.schema import HEAD_REVISION

    if seen.revision is None or seen.revision > HEAD_REVISION:
        detail = f"its schema is {seen.revision or 'unknown'}, this release knows {HEAD_REVISION}"
        return bad("catalog", detail, "use the release that wrote it, or a newer one")
    detail = f"its schema is {seen.revision}, that of this release {HEAD_REVISION}"
    return warn(
        "catalog", detail, "the next start brings it up to date: take a backup before (trivet catalog backup)"
    )


def _about(seen: Examination) -> str:
    from compose.cli.figures import size_text

    size = f"{size_text(seen.file_bytes)}, log {size_text(seen.log_bytes)}, schema {seen.revision}"
    if seen.faults is None:
        return f"{size}; too large to be read now: trivet catalog backup checks every page"
    return f"{size}, every page in order"


def homes_of(subject: Subject, rows: Sequence[NodeRow]) -> Homes:
    """Those of the nodes that belong to the store and are started here."""
    there = {row.name: row.directory for row in rows if row.state != "removed" and row.directory is not None}
    return Homes(
        subject.place.root.resolve(), {name: subject.place.home(stored) for name, stored in there.items()}
    )


def findings_of_store(subject: Subject) -> list[Finding]:
    """What needs the open catalog and the nodes; takes seconds, for the steward is listened to."""
    from compose.cli.store_access import with_store

    looks: tuple[_Look, ...] = (_nodes, _steward, _health, _redundancy, _usage)
    if subject.running:
        findings = [ok("store", f"{len(subject.running)} processes run")]
    elif subject.settings.catalog:
        findings = [ok("store", "none of its processes run here: what follows, nodes and catalog tell")]
    else:
        do = "trivet up, or make up; the rest is as it was when it stopped"
        findings = [warn("store", f"no store runs in {subject.place.root.absolute()}", do)]
        looks = (_redundancy, _usage)

    async def all_of_them(catalog: Catalog, node_set: NodeSet) -> list[Finding]:
        each = await asyncio.gather(*(look(catalog, node_set) for look in looks))
        return [finding for findings in each for finding in findings]

    try:
        return findings + with_store(subject.settings, all_of_them)
    except CommandRefused as refusal:
        return [*findings, bad("store", str(refusal), "see the lines above, and the store's log")]


async def _nodes(catalog: Catalog, node_set: NodeSet) -> list[Finding]:
    """All answer, and all are of this release. What is wrong with single ones is a matter of health."""
    from cluster.reports.cluster import node_statuses

    states = await node_statuses(catalog, node_set)
    ours = VERSION
    findings = []
    others = {state.row.name: state.status.release for state in states if state.status is not None}
    differing = {name: release for name, release in others.items() if release not in {"", ours}}
    for name, release in differing.items():
        do = f"trivet {ours} and its neighbours understand each other; start the store again to have one release"
        findings.append(warn("versions", f"{name} runs release {release}, these commands are {ours}", do))
    silent = [state.row.name for state in states if state.status is None and state.row.state != "joining"]
    for name in silent:
        do = f"see the store's log; when its disk is lost: trivet node recover {name} --lost"
        findings.append(bad("nodes", f"{name} does not answer", do))
    if not silent:
        findings.append(ok("nodes", f"all {len(states)} answer" + ("" if differing else f", release {ours}")))
    return findings


async def _steward(catalog: Catalog, _node_set: NodeSet) -> list[Finding]:
    """Somebody holds the lease, and renews it (S22): nothing is repaired or cleaned up otherwise."""
    from catalog import leases

    do = "the supervisor starts it again; if it does not stay, its reason is in the store's log"
    first = await catalog.read(leases.read)
    give_up_s = time.monotonic() + _RENEWAL_S_MAX
    while (lease := await catalog.read(leases.read)).counter == first.counter:
        if time.monotonic() > give_up_s:
            detail = "nobody is in office" if lease.holder is None else f"silent for {_RENEWAL_S_MAX:.0f} s"
            return [bad("steward", detail, do)]
        await asyncio.sleep(0.1)
    return [ok("steward", "in office")]


async def _health(catalog: Catalog, node_set: NodeSet) -> list[Finding]:
    from cluster.reports.cluster import cluster_health

    health = await cluster_health(catalog, node_set)
    if not health.reasons:
        return [ok("health", "nothing is wrong")]
    return [(bad if reason.critical else warn)("health", reason.what, reason.do) for reason in health.reasons]


async def _redundancy(catalog: Catalog, _node_set: NodeSet) -> list[Finding]:
    from cluster.reports.redundancy import repair_report

    report = await catalog.read(repair_report)
    if report.unreadable_blobs:
        do = "bring back the disk of a lost node, or write them anew: trivet verify names them"
        return [bad("redundancy", f"{report.unreadable_blobs:,} blobs can't be rebuilt", do)]
    if report.whole:
        return [ok("redundancy", "every object has its full redundancy")]
    waiting = max(report.reduced_blobs, report.queued_blobs)
    do = "watch its repair: trivet repair status --watch"
    return [warn("redundancy", f"{waiting:,} blobs have less than full redundancy", do)]


async def _usage(catalog: Catalog, _node_set: NodeSet) -> list[Finding]:
    """The books of a few buckets beside a count of their rows, the largest that can be counted at once."""
    from catalog import usage

    def recount(reader: Reader) -> list[tuple[str, usage.Recount]]:
        small = [
            bucket for bucket in usage.listed(reader) if bucket.usage.versions <= _VERSIONS_RECOUNTED_MAX
        ]
        some = sorted(small, key=lambda bucket: -bucket.usage.versions)[:_BUCKETS_RECOUNTED]
        return [(bucket.name, usage.recount(reader, bucket.id)) for bucket in some]

    counted = await catalog.read(recount)
    wrong = [(name, found) for name, found in counted if not found.agrees]
    if not wrong:
        which = (
            f"the books of {len(counted)} buckets agree"
            if len(counted) != 1
            else "the books of one bucket agree"
        )
        return [ok("usage", f"{which} with what lies in them")]
    do = "quotas go by the books: have them corrected (trivet bucket recount NAME), and please report this"
    return [
        bad("usage", f"{name}: {found.stored} in the books, {found.counted} in the bucket", do)
        for name, found in wrong
    ]


_Look = Callable[["Catalog", "NodeSet"], Awaitable[list[Finding]]]
