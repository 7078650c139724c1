"""All metric families of one scrape, as text. Loads prometheus_client: only a scrape should."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from functools import partial

from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from s3front.metrics.families import gauge
from s3front.metrics.front_families import front_families
from s3front.metrics.layout import Layout
from s3front.metrics.node_families import node_families
from s3front.metrics.process_families import process_families
from s3front.metrics.scrape import Gathered
from s3front.metrics.store_families import store_families

PARTS = ("nodes", "catalog")


def content_type_of(accept: str) -> str:
    """Of the format that `render` chooses."""
    content_type: str = choose_encoder(accept)[1]
    return content_type


def render(
    gathered: Gathered, layout: Layout, pids: Mapping[str, int], release: str, accept: str
) -> tuple[bytes, str]:
    """Text and content type."""
    encode, content_type = choose_encoder(accept)
    return encode(_Families(partial(_families, gathered, layout, pids, release))), content_type


class _Families(Collector):
    def __init__(self, families: partial[Iterator[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return self._families()


def _families(gathered: Gathered, layout: Layout, pids: Mapping[str, int], release: str) -> Iterator[Metric]:
    info = {"release": release, "python": platform.python_version()}
    yield InfoMetricFamily("trivet_build", "What runs here.", value=info)
    yield gauge(
        "trivet_scrape_problem",
        "1 when this part could not be had in time: its figures are missing, or older than they should be.",
        ("part",),
        [((part,), part in gathered.problems) for part in PARTS],
    )
    yield from front_families(layout, gathered.readings)
    if gathered.nodes is not None:
        yield from node_families(gathered.nodes)
    if gathered.store is not None:
        yield from store_families(gathered.store, gathered.store_age_s)
    yield from process_families(pids)
