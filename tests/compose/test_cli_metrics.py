"""`trivet metrics` on a history that is written down, without fronts."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from catalog import history
from catalog.engine import Catalog
from catalog.history import MINUTE_MS, Figures
from catalog.transaction import Transaction
from compose.cli.commands import app
from compose.data_dir import DataDir
from compose.refusal import CommandRefused
from tests.catalog.fresh import fresh_catalog

FIRST_MS = 1_795_348_800_000
MINUTES = 5
OPERATIONS = 900
"""More rows than one page has, and no page ends with a minute."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("history")
    fresh_catalog(DataDir(root).catalog, cluster_id=bytes(16))

    def write(tx: Transaction) -> None:
        for minute in range(MINUTES):
            figures = {f"Op{n:03}": Figures(count=minute + 1, sum_us=1000) for n in range(OPERATIONS)}
            history.add(tx, FIRST_MS + minute * MINUTE_MS, figures)

    async def fill() -> None:
        catalog = Catalog.open(DataDir(root).catalog)
        await catalog.start()
        await catalog.write(write)
        await catalog.close()

    asyncio.run(fill())
    return root


def run(data: Path, *words: str) -> Result:
    result = CliRunner().invoke(app, ["metrics", *words, "--data", str(data)])
    assert result.exit_code == 0, result.output
    return result


def keys(rows: list[Any]) -> list[tuple[str, str, int]]:
    return [(row["minute_at"], row["operation"], int(row["count"])) for row in rows]


def test_a_long_history_is_exported_whole(data: Path) -> None:
    """Each row once, in order, though no page can hold them all. Red when a page begins with the minute that the one
    before it ended in, or behind the next.
    """
    expected = [
        (f"2026-11-22T12:0{minute}:00.000Z", f"Op{n:03}", minute + 1)
        for minute in range(MINUTES)
        for n in range(OPERATIONS)
    ]
    assert keys(json.loads(run(data, "export", "--json").stdout)) == expected
    assert keys(list(csv.DictReader(run(data, "export").stdout.splitlines()))) == expected


@pytest.mark.parametrize(
    ("words", "minutes"),
    [
        (("--from", "2026-11-22T12:02:00Z"), [2, 3, 4]),
        (("--to", "2026-11-22T12:02:00Z"), [0, 1]),
        (("--from", str(FIRST_MS + 1), "--to", str(FIRST_MS + 2 * MINUTE_MS)), [1]),
    ],
)
def test_a_range_of_it(data: Path, words: tuple[str, ...], minutes: list[int]) -> None:
    told = json.loads(run(data, "export", "--json", *words).stdout)
    assert sorted({row["minute_at"] for row in told}) == [f"2026-11-22T12:0{n}:00.000Z" for n in minutes]
    summed = json.loads(run(data, "summary", "--json", *words).stdout)["operations"]
    assert {each["count"] for each in summed} == {sum(n + 1 for n in minutes)}


def test_nothing_is_still_csv_with_a_header_and_json(data: Path) -> None:
    assert run(data, "export", "--to", "5").stdout.startswith("minute_at,operation,")
    assert json.loads(run(data, "export", "--to", "5", "--json").stdout) == []


def test_a_file_is_there_whole_or_not_at_all(data: Path, tmp_path: Path) -> None:
    """Also when it can't take its place in the end. Red when the draft is left behind."""
    target = tmp_path / "out.json"
    target.write_text("of yesterday")
    run(data, "export", "--json", "-o", str(target))
    assert len(json.loads(target.read_text())) == MINUTES * OPERATIONS
    taken = tmp_path / "taken"
    taken.mkdir()
    refused = CliRunner().invoke(app, ["metrics", "export", "-o", str(taken), "--data", str(data)])
    assert isinstance(refused.exception, CommandRefused)
    taken.rmdir()
    refused = CliRunner().invoke(app, ["metrics", "export", "-o", str(target), "--data", str(tmp_path)])
    assert refused.exit_code == 1
    assert len(json.loads(target.read_text())) == MINUTES * OPERATIONS
    assert list(tmp_path.iterdir()) == [target]
