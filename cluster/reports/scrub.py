"""What the comparison of the catalog with the nodes has found."""

from __future__ import annotations

import msgspec

from catalog.statement import Reader
from cluster.reports.moments import At, iso_at_or_none
from cluster.steward.progress import ScrubProgress, ScrubRequest, read


class ScrubReport(msgspec.Struct, frozen=True):
    """The comparison under way, or the last one. `asked_for`: another one, which has not begun. `passes`: so many came
    to their end. `deep`: the nodes read every block, so `bad_blocks` says something. `extra_blocks` are to spare."""

    active: bool
    cancelled: bool
    asked_for: bool
    started_at: At | None
    finished_at: At | None
    passes: int
    blobs: int
    deep: bool
    missing_blocks: int
    bad_blocks: int
    extra_blocks: int


def scrub_report(reader: Reader) -> ScrubReport:
    """All of one moment."""
    state, request = read(reader, ScrubProgress) or ScrubProgress(), read(reader, ScrubRequest)
    return ScrubReport(
        active=state.active,
        cancelled=state.cancelled,
        asked_for=request is not None and request.number != state.request,
        started_at=iso_at_or_none(state.started_ms),
        finished_at=None if state.active else iso_at_or_none(state.finished_ms),
        passes=state.passes,
        blobs=state.blobs,
        deep=state.deep,
        missing_blocks=state.missing,
        bad_blocks=state.corrupt,
        extra_blocks=state.extra,
    )
