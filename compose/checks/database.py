"""A catalog that is in a PostgreSQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compose.checks.finding import Finding, bad, ok, warn

if TYPE_CHECKING:
    from catalog.postgres_examine import DatabaseExamination

_AHEAD_S_MAX = 2.0


def findings_of(seen: DatabaseExamination) -> list[Finding]:
    """What it is, whether this release can use it, and whether its clock goes with ours."""
    from compose.cli.figures import size_text

    about = f"{seen.name}: {seen.server}, {seen.encoding}, {size_text(seen.nbytes)}"
    found = [_catalog(seen, about)]
    if abs(seen.ahead_s) > _AHEAD_S_MAX:
        do = "have both clocks kept by NTP (timedatectl): logs of the two hosts do not fit together"
        found.append(warn("clock", f"the database's is {seen.ahead_s:+.0f} s off this host's", do))
    return found


def _catalog(seen: DatabaseExamination, about: str) -> Finding:
    from catalog.schema import HEAD_REVISION

    if not seen.founded:
        return bad(
            "catalog", f"{about}; there is no catalog in it", "make one with trivet init, or trivet up"
        )
    if seen.revision == HEAD_REVISION:
        return ok("catalog", f"{about}, schema {seen.revision}")
    detail = f"{about}; its schema is {seen.revision}, that of this release {HEAD_REVISION}"
    if seen.revision is None or seen.revision > HEAD_REVISION:
        return bad("catalog", detail, "use the release that wrote it, or a newer one")
    return warn(
        "catalog", detail, "trivet init, or the next trivet up, brings it up to date: take a dump before"
    )
