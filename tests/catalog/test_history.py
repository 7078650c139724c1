"""The history of requests: rows that several fronts add to, read by time, trimmed and cleared."""

import pytest

from catalog import history
from catalog.engine import Catalog
from catalog.history import MINUTE_MS, Figures, merged
from tests.catalog.making import Clock, Store

FIRST_MS = 1_700_000_040_000 // MINUTE_MS * MINUTE_MS
GOT = Figures(
    count=3,
    errors=1,
    by_status={200: 2, 503: 1},
    sum_us=700,
    latency_us={20: 2, 40: 1},
    bytes_in=5,
    bytes_out=90,
)
PUT = Figures(count=1, by_status={200: 1}, sum_us=40, latency_us={36: 1}, bytes_in=4096)


async def _add(catalog: Catalog, minute_ms: int, figures: dict[str, Figures]) -> None:
    await catalog.write(lambda tx: history.add(tx, minute_ms, figures))


async def _read(catalog: Catalog, from_ms: int = 0, to_ms: int = 1 << 60) -> list[tuple[int, str, Figures]]:
    return await catalog.read(lambda reader: list(history.read(reader, from_ms, to_ms)))


async def test_two_fronts_add_to_the_same_minute(store: Store, catalog: Catalog, clock: Clock) -> None:
    """Red when `add` replaces the row: the front that comes last would be the only one."""
    other = store.open(clock)
    await other.start()
    try:
        await _add(catalog, FIRST_MS, {"GetObject": GOT})
        await _add(other, FIRST_MS, {"GetObject": GOT, "PutObject": PUT})
    finally:
        await other.close()
    twice = Figures(
        count=6,
        errors=2,
        by_status={200: 4, 503: 2},
        sum_us=1400,
        latency_us={20: 4, 40: 2},
        bytes_in=10,
        bytes_out=180,
    )
    assert await _read(catalog) == [(FIRST_MS, "GetObject", twice), (FIRST_MS, "PutObject", PUT)]


async def test_a_range_has_its_first_minute_and_not_its_end(catalog: Catalog) -> None:
    """Red when the range begins behind the first minute, or ends with a minute too many."""
    for number in range(4):
        await _add(catalog, FIRST_MS + number * MINUTE_MS, {"GetObject": GOT})
    found = await _read(catalog, FIRST_MS + MINUTE_MS, FIRST_MS + 3 * MINUTE_MS)
    assert [minute for minute, _, _ in found] == [FIRST_MS + MINUTE_MS, FIRST_MS + 2 * MINUTE_MS]


async def test_a_long_range_is_read_page_by_page_without_loss(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when a page ends inside a minute and the next one begins with the next minute."""
    monkeypatch.setattr(history, "_PAGE_ROWS", 4)
    names = ["A", "B", "C"]
    for number in range(5):
        await _add(catalog, FIRST_MS + number * MINUTE_MS, dict.fromkeys(names, PUT))
    found = await _read(catalog)
    assert [(minute, name) for minute, name, _ in found] == [
        (FIRST_MS + number * MINUTE_MS, name) for number in range(5) for name in names
    ]


async def test_trim_drops_the_oldest_minutes_and_no_more_than_asked(catalog: Catalog) -> None:
    """Red when the limit counts rows instead of minutes, or the newest are dropped."""
    for number in range(5):
        await _add(catalog, FIRST_MS + number * MINUTE_MS, {"GetObject": GOT, "PutObject": PUT})
    before_ms = FIRST_MS + 3 * MINUTE_MS
    assert await catalog.write(lambda tx: history.trim(tx, before_ms, 2)) == 2
    assert {minute for minute, _, _ in await _read(catalog)} == {
        FIRST_MS + number * MINUTE_MS for number in (2, 3, 4)
    }
    assert await catalog.write(lambda tx: history.trim(tx, before_ms, 9)) == 1
    assert await catalog.write(lambda tx: history.trim(tx, before_ms, 9)) == 0
    await catalog.write(history.clear)
    assert await _read(catalog) == []


def test_merged_of_nothing_is_nothing() -> None:
    assert merged(()) == Figures()
