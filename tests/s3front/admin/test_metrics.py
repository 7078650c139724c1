"""The history over the admin API: the same figures in every format, however long it is."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from catalog import history
from catalog.engine import wall_clock_ms
from catalog.history import MINUTE_MS, Figures
from cluster.reports.moments import iso_at
from s3front.admin import metrics
from s3front.admin.services import AdminServices
from s3front.app import create_app
from tests.s3front.admin.small_front import Client, small_front

START_MS = (wall_clock_ms() // MINUTE_MS - 4 * 24 * 60) * MINUTE_MS
"""Four days ago: a front forgets what is older than a week."""
MINUTES = (0, 1, 59, 60, 61, 200, 3000)
"""With gaps of hours: the export goes on slice by slice, and jumps over them."""


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[AdminServices]:
    """With a history of two operations."""
    async with small_front(tmp_path) as made:
        for number in MINUTES:
            figures = Figures(3, 1, {200: 2, 503: 1}, 3000, {7: 3}, 10, 20)
            both = {"GetObject": figures, "PutObject": figures}
            minute_ms = START_MS + number * MINUTE_MS
            await made.front.catalog.write(
                partial(history.add, minute_ms=minute_ms, figures_by_operation=both)
            )
        yield made


@pytest.fixture
def client(services: AdminServices) -> Client:
    """Of the whole application."""
    return Client(create_app(services))


def _range(first: int, last: int) -> str:
    """The minutes from the first up to and without the last, as a query."""
    return f"from={START_MS + first * MINUTE_MS}&to={START_MS + last * MINUTE_MS}"


async def test_all_formats_tell_the_same(client: Client) -> None:
    """Row by row, nothing lost at the borders of slices. Red when a slice begins a minute late."""
    rows = (await client.ask("GET", f"/metrics/export?{_range(0, 4000)}")).body
    assert [(row["minute_at"], row["operation"]) for row in rows] == [
        (iso_at(START_MS + number * MINUTE_MS), operation)
        for number in MINUTES
        for operation in ("GetObject", "PutObject")
    ]
    answer = await client.ask("GET", f"/metrics/export?format=csv&{_range(0, 4000)}")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-length"] == str(len(answer.raw))
    assert "attachment" in answer.headers["content-disposition"]
    table = list(csv.DictReader(io.StringIO(answer.raw.decode(), newline="")))
    for row, line in zip(rows, table, strict=True):
        assert (line["minute_at"], line["operation"]) == (row["minute_at"], row["operation"])
        assert (int(line["count"]), int(line["errors"])) == (row["count"], row["errors"]) == (3, 1)
        assert float(line["mean_ms"]) == row["mean_ms"] == 1.0
    summary = (await client.ask("GET", f"/metrics/summary?{_range(0, 4000)}")).body
    assert [(each["operation"], each["count"]) for each in summary["operations"]] == [
        ("GetObject", 3 * len(MINUTES)),
        ("PutObject", 3 * len(MINUTES)),
    ]
    assert summary["from_at"] == iso_at(START_MS)


async def test_a_range_is_from_its_first_minute_up_to_its_last(client: Client) -> None:
    """Without the last. Red when `to` is taken in."""
    rows = (await client.ask("GET", f"/metrics/export?{_range(1, 60)}")).body
    assert sorted({row["minute_at"] for row in rows}) == [
        iso_at(START_MS + number * MINUTE_MS) for number in (1, 59)
    ]
    empty = f"/metrics/export?{_range(2, 59)}"
    assert (await client.ask("GET", empty)).body == []
    assert (await client.ask("GET", empty + "&format=csv")).raw.count(b"\n") == 1, "the header only"


async def test_a_long_export_goes_through_a_file(
    client: Client, services: AdminServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes, and the file is closed afterwards (warnings are errors). Red when it is not: the test run ends
    with a ResourceWarning.
    """
    small = await client.ask("GET", "/metrics/export?format=csv")
    monkeypatch.setattr(metrics, "_IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(metrics, "_PIECE_BYTES", 64)
    large = await client.ask("GET", "/metrics/export?format=csv")
    assert len(large.raw) > 100
    assert large.raw[:500] == small.raw[:500]


async def test_clear_forgets_all_of_it(client: Client) -> None:
    """What comes afterwards is counted anew. Red when the front keeps what it has not handed in yet: it comes back
    with the next flush.
    """
    await client.ask("GET", "/-/health/live")
    assert (await client.ask("POST", "/metrics/clear")).status == 200
    left = (await client.ask("GET", "/metrics/summary")).body["operations"]
    assert {each["operation"] for each in left} <= {"Admin"}
