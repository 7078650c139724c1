"""Scrapes together share one result; a front loads what they need with the first of them."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from catalog.engine import Catalog
from catalog.errors import CatalogFailed
from cluster.reports.cluster import NodeState, node_statuses
from cluster.topology import NodeSet
from s3front.metrics import scrape
from s3front.metrics.scrape import Scraper
from s3front.services import FrontServices
from tests.catalog.making import Clock, SqliteStore
from tests.s3front.metrics.recording import Recorded

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest_asyncio.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    opened = SqliteStore(tmp_path).open(Clock())
    await opened.start()
    yield opened
    await opened.close()


def _scraper(catalog: Catalog, recorded: Recorded) -> Scraper:
    services = SimpleNamespace(
        catalog=catalog,
        nodes=NodeSet([], {}),
        requests=recorded.recorder,
        processes=lambda: {"front-1": os.getpid()},
    )
    return Scraper(cast(FrontServices, services), "1.2.3")


@contextmanager
def _rendering_counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """(accept, thread) of each rendering."""
    rendered: list[tuple[str, str]] = []
    render = Scraper._render

    def counted(self: Scraper, gathered: Any, accept: str) -> tuple[bytes, str]:
        rendered.append((accept, threading.current_thread().name))
        return render(self, gathered, accept)

    with monkeypatch.context() as patch:
        patch.setattr(Scraper, "_render", counted)
        yield rendered


async def test_scrapes_at_the_same_time_share_one_result(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when each scrape asks the nodes itself, or is rendered anew; and when the next one gets old figures."""
    asked = 0

    async def statuses(catalog: Catalog, nodes: NodeSet) -> list[NodeState]:
        nonlocal asked
        asked += 1
        return await node_statuses(catalog, nodes)

    monkeypatch.setattr(scrape, "node_statuses", statuses)
    recorded = Recorded()
    scraper = _scraper(catalog, recorded)
    with _rendering_counted(monkeypatch) as rendered:
        found = await asyncio.gather(*(scraper.scrape(accept) for accept in ["", OPENMETRICS] * 10))
        assert asked == 1
        assert sorted(accept for accept, _ in rendered) == ["", OPENMETRICS]
        assert len(set(found)) == 2
        recorded.count("GetObject", 200)
        text, content_type = await scraper.scrape("")
    assert asked == 2
    assert b'trivet_requests_total{operation="GetObject",status="200"} 1.0\n' in text
    assert content_type.startswith("text/plain")
    assert threading.current_thread().name not in {thread for _, thread in rendered}


async def test_a_flood_of_scrapes_costs_two(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: who asks needs no signature. Red when those that come while one is rendered are each rendered anew, and when
    each spelling of the Accept header is."""
    scraper = _scraper(catalog, Recorded())
    await scraper.scrape("")
    entered, leave = threading.Event(), threading.Event()
    render = Scraper._render

    def held(self: Scraper, gathered: Any, accept: str) -> tuple[bytes, str]:
        entered.set()
        assert leave.wait(10)
        return render(self, gathered, accept)

    with monkeypatch.context() as patch:
        patch.setattr(Scraper, "_render", held)
        with _rendering_counted(monkeypatch) as rendered:
            first = asyncio.create_task(scraper.scrape(""))
            assert await asyncio.to_thread(entered.wait, 10)
            others = []
            for number in range(50):
                others.append(asyncio.create_task(scraper.scrape(f"text/plain;q=0.{number:02}")))
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)  # red needs time for a second gathering; green does not wait for it
            leave.set()
            texts = [await task for task in (first, *others)]
    assert len(rendered) == 2
    assert {content_type for _, content_type in texts} == {"text/plain; version=0.0.4; charset=utf-8"}


async def test_one_who_leaves_takes_nobody_elses_scrape_away(catalog: Catalog) -> None:
    """Red when the shared work is cancelled with the first caller."""
    scraper = _scraper(catalog, Recorded())
    first, second = (asyncio.create_task(scraper.scrape("")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    text, _ = await second
    assert b"trivet_build_info" in text
    assert first.cancelled() or first.done()


async def test_without_the_nodes_the_rest_is_told(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when the error of one part fails the scrape, or nothing says that a part is missing."""

    async def fails(_catalog: Catalog, _nodes: NodeSet) -> list[NodeState]:
        raise CatalogFailed("of the test")

    monkeypatch.setattr(scrape, "node_statuses", fails)
    text, _ = await _scraper(catalog, Recorded()).scrape("")
    assert b'trivet_scrape_problem{part="nodes"} 1.0\n' in text
    assert b'trivet_scrape_problem{part="catalog"} 0.0\n' in text
    assert b"trivet_buckets 0.0\n" in text


def test_a_front_that_nobody_scrapes_does_not_load_prometheus_client() -> None:
    """It would cost each front 14 MB and its start 60 ms. Red when a module that the app loads imports families."""
    program = "import sys, s3front.app, compose.front_process; print('prometheus_client' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout == "False\n"
