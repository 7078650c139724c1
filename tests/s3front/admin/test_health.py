"""Health without a signature: who asks often costs the store no more than who asks once."""

from __future__ import annotations

import asyncio

import pytest

from catalog.errors import CatalogBusy
from cluster.reports.cluster import ClusterHealth, Reason
from s3front.admin.health import KEPT_FACTOR, KEPT_S_MIN, SharedLook
from tests.s3front.admin.small_front import Client

WELL = ClusterHealth("healthy", ())


class Looking:
    """Counts the looks; each waits until it may end and takes `took_s` of a clock that the test moves."""

    def __init__(self, took_s: float = 0.0) -> None:
        self.looks = 0
        self.now_s = 100.0
        self.took_s = took_s
        self.may_end = asyncio.Event()
        self.shared = SharedLook(self._look, lambda: self.now_s)

    async def _look(self) -> ClusterHealth:
        self.looks += 1
        await self.may_end.wait()
        self.now_s += self.took_s
        return WELL


async def test_many_who_ask_share_a_look_and_one_who_leaves_ends_it_for_nobody() -> None:
    """Red when each asker looks for itself (strangers could then keep the catalog's readers busy), and without the
    shield: the first who leaves cancels everybody's.
    """
    looking = Looking()
    askers = [asyncio.create_task(looking.shared.latest()) for _ in range(20)]
    await asyncio.sleep(0)
    askers[0].cancel()
    looking.may_end.set()
    assert await asyncio.gather(*askers[1:]) == [WELL] * 19
    assert looking.looks == 1


@pytest.mark.parametrize("took_s", [0.0, 3.0])
async def test_a_look_is_kept_in_proportion_to_its_cost(took_s: float) -> None:
    """Red when it is kept for a fixed second: a look of 3 s at a large catalog would then never end."""
    looking = Looking(took_s)
    looking.may_end.set()
    await looking.shared.latest()
    kept_s = max(KEPT_S_MIN, KEPT_FACTOR * took_s)
    looking.now_s += kept_s - 0.01
    await looking.shared.latest()
    assert looking.looks == 1
    looking.now_s += 0.02
    await looking.shared.latest()
    assert looking.looks == 2


async def test_a_catalog_that_cannot_be_read_is_critical() -> None:
    """And the next look is a new one."""

    async def look() -> ClusterHealth:
        raise CatalogBusy("too many scans wait")

    health = await SharedLook(look).latest()
    assert health.status == "critical"
    assert isinstance(health.reasons[0], Reason)


async def test_over_the_application(client: Client) -> None:
    """Unsigned. Without a single node the store is not ready, but the front lives."""
    nobody = client.by(None)
    assert (await nobody.ask("GET", "/-/health/live")).body == {"status": "live"}
    assert (await nobody.ask("GET", "/-/health/ready")).status == 503
    cluster = await nobody.ask("GET", "/-/health/cluster")
    assert cluster.status == (503 if cluster.body["status"] == "critical" else 200)
    assert set(cluster.body) == {"status", "reasons"}
    assert (await nobody.ask("POST", "/-/health/cluster")).status == 405
    assert (await nobody.ask("GET", "/-/nothing")).body["type"] == "urn:trivet:problem:no-such-endpoint"
