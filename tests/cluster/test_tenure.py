"""A steward stops by its own clock when it could not show in time that it lives (S22)."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog import leases
from catalog.engine import Catalog
from catalog.errors import LeaseLost
from cluster.steward.tenure import Tenure
from tests.catalog.fresh import fresh_catalog


async def test_s22_a_lease_is_ours_for_as_long_as_nobody_else_can_take_it(tmp_path: Path) -> None:
    """Counted from when a renewal was asked for, never from its answer. Red when it was not counted at all."""
    fresh_catalog(tmp_path / "catalog.sqlite", cluster_id=b"test cluster 016")
    catalog = Catalog.open(tmp_path / "catalog.sqlite")
    await catalog.start()
    now_s = 100.0
    seen = await catalog.read(leases.read)
    tenure = await Tenure.begin(catalog, "us", seen, expiry_s=4.5, monotonic=lambda: now_s)
    assert tenure.left_s() == 4.5
    now_s = 102.0
    assert tenure.left_s() == 2.5
    await tenure.renew()
    assert tenure.left_s() == 4.5
    now_s = 106.5
    with pytest.raises(LeaseLost, match="could not be renewed"):
        tenure.left_s()
    await catalog.close()
