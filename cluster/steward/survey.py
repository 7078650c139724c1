"""What to repair next, in the order of danger. The state is in the catalog: whatever is repaired is not found
again, so a new steward goes on where the old one stopped."""

from dataclasses import dataclass
from typing import NamedTuple

from catalog import placements, work
from catalog.model import PlacementUse, RepairItem
from catalog.statement import Reader
from cluster.placement import copies, is_standard
from cluster.steward.repair import Executor, Job
from cluster.steward.services import StewardServices
from cluster.steward.standing import Standing


class Found(NamedTuple):
    """Jobs of one danger. `since_ms`: when the oldest of them was reported, None for those that no one had
    to report."""

    jobs: list[Job]
    since_ms: int | None


class Left(NamedTuple):
    """What is known to be left: blobs and their bytes, rows of the repair queue counted as blobs."""

    blobs: int
    size: int
    waiting: int


@dataclass(slots=True)
class _Pass:
    """One walk over the blobs of one placement."""

    after: bytes = b""
    rests_until: float = 0.0


class Survey:
    """Finds blobs that were reported, and blobs whose placement is wrong as the nodes stand now.

    A blob that failed is found again in the next walk over its placement, after `retry_s`.
    """

    def __init__(self, services: StewardServices, executor: Executor) -> None:
        self._services = services
        self._executor = executor
        self._passes: dict[int, _Pass] = {}

    async def next(self, standing: Standing) -> Found:
        """A page of the most endangered blobs that can be worked on now; no jobs when there are none.
        Raises CatalogError."""
        items, uses = await self._services.catalog.read(self._look)
        reported = [job for job in (Job(item.blob_id, item) for item in items) if self._executor.takes(job)]
        wrong = sorted((_spare(use, standing), use.number) for use in uses if is_wrong(use, standing))
        self._passes = {number: self._passes.get(number) or _Pass() for _, number in wrong}
        for spare, number in wrong:
            if reported and _spare_of(reported[0].item) <= spare:
                break
            jobs = await self._page(number)
            if jobs:
                return Found(jobs, None)
        since_ms = min((job.item.reported_ms for job in reported if job.item is not None), default=None)
        return Found(reported[: self._services.settings.repair_page], since_ms)

    async def left(self, standing: Standing) -> Left:
        """Counts what is to be done. Costs time in proportion to it: ask rarely."""

        def count(reader: Reader) -> Left:
            waiting = work.repair_count(reader)
            counts = [
                placements.count(reader, use.number)
                for use in placements.in_use(reader)
                if is_wrong(use, standing)
            ]
            return Left(waiting + sum(n for n, _ in counts), sum(size for _, size in counts), waiting)

        return await self._services.catalog.read(count)

    def _look(self, reader: Reader) -> tuple[list[RepairItem], list[PlacementUse]]:
        # Those in flight are still due: ask for so many that they can't hide the others.
        settings = self._services.settings
        limit = settings.repair_page + len(self._executor.in_flight)
        wait_ms_max = int(max(settings.retry_s, settings.unreadable_retry_s) * 1000)
        due = work.due_repairs(reader, self._services.now_ms(), limit, wait_ms_max=wait_ms_max)
        return due, placements.in_use(reader)

    async def _page(self, number: int) -> list[Job]:
        """The next blobs of a placement; none at the end of the walk, which then rests."""
        walk = self._passes[number]
        if walk.rests_until > self._services.monotonic():
            return []
        catalog, limit = self._services.catalog, self._services.settings.repair_page
        while True:
            after = walk.after
            page = await catalog.read(
                lambda reader, after=after: placements.blobs_in(  # type: ignore[misc]
                    reader, catalog.placements, number, after=after, limit=limit
                )
            )
            if not page:
                walk.after = b""
                walk.rests_until = self._services.monotonic() + self._services.settings.retry_s
                return []
            walk.after = page[-1].id
            jobs = [job for job in (Job(blob.id) for blob in page) if self._executor.takes(job)]
            if jobs:
                return jobs


def is_wrong(use: PlacementUse, standing: Standing) -> bool:
    """Whether blobs that lie so should lie otherwise, and the nodes allow it now."""
    width = use.k + use.m
    holders = set(use.nodes) - {0}
    able = len(standing.writable - standing.leaving)
    if not holders <= standing.numbers:
        # A node is gone for good. Those that are joining, or away for a moment, are waited for; if there will
        # not be enough of them, what it held is protected on the others as well as possible.
        return able >= width or (able >= 2 and len(standing.keeping) < width)
    if not is_standard(use.nodes, width):
        return able >= width
    # A holder that is away for a moment keeps its shard.
    return (
        bool(holders & standing.leaving)
        and able + len((holders & standing.keeping) - standing.writable) >= width
    )


def _spare(use: PlacementUse, standing: Standing) -> int:
    """How many of the shards that can be read now may still be lost."""
    width = use.k + use.m
    return len({shard for shard, node in copies(use.nodes, width) if node in standing.present}) - use.k


def _spare_of(item: RepairItem | None) -> int:
    return item.spare if item is not None else 0
