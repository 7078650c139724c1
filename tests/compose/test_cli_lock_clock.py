"""``trivet lock-clock``: what the operator sees, and confirms."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2

from compose import credentials
from compose.data_dir import DataDir
from tests.catalog.fresh import fresh_catalog
from tests.compose.in_process import trivet

DAY_MS = 86_400_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    place = DataDir(tmp_path)
    fresh_catalog(place.catalog, cluster_id=bytes(16))
    credentials.settle_cluster_secret(place)
    return tmp_path


def _set_back(data: Path, by_ms: int) -> None:
    connection = dbapi2.connect(DataDir(data).catalog, isolation_level=None)
    connection.execute("UPDATE meta SET clock_ms = ?", (time.time_ns() // 1_000_000 - by_ms,))
    connection.close()


def _shown(data: Path) -> Any:
    done = trivet(data, "lock-clock", "show", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("behind_ms", "said"),
    [
        (0, "they agree"),
        (2 * 3_600_000 + 90_000, "2 h 1 min behind: it follows"),
        (400 * DAY_MS, "400 d 0 h behind, more than it follows by itself"),
        (-3 * DAY_MS, "the wall clock is 2 d 23 h behind"),
    ],
)
def test_it_is_shown_beside_the_wall_clock(data: Path, behind_ms: int, said: str) -> None:
    _set_back(data, behind_ms)
    done = trivet(data, "lock-clock", "show")
    assert said in done.stdout
    assert _shown(data)["needs_confirmation"] == (behind_ms > 7 * DAY_MS)


def test_it_is_confirmed_by_word_only(data: Path) -> None:
    """Red when the command did it without being told that the wall clock is right."""
    _set_back(data, 400 * DAY_MS)
    refused = trivet(data, "lock-clock", "confirm")
    assert refused.returncode != 0
    assert "trivet lock-clock confirm --yes" in refused.stderr
    assert _shown(data)["needs_confirmation"]
    done = trivet(data, "lock-clock", "confirm", "--yes")
    assert "set forward by 400 d 0 h" in done.stdout
    assert 0 <= _shown(data)["behind_s"] < 60
    _set_back(data, -DAY_MS)
    done = trivet(data, "lock-clock", "confirm", "--yes", "--json")
    assert json.loads(done.stdout) == {"moved_s": 0}
    assert _shown(data)["behind_s"] < -DAY_MS // 2000
