"""What tests of the recorder are made of: time that goes by when the test says so, and a history in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalog.errors import CatalogBusy
from catalog.history import Figures, merged
from s3front.metrics import requests
from s3front.metrics.layout import BESIDE_S3, Layout
from s3front.metrics.requests import RequestMetrics, Tally
from s3front.metrics.slots import Slots

LAYOUT = Layout(("GetObject", "PutObject", *BESIDE_S3))


class Recorded:
    """The recorder of a front with its own ways to tell the time. `fails`: the catalog refuses."""

    def __init__(self, directory: Path | None = None, name: str = "front-1", layout: Layout = LAYOUT) -> None:
        self.now_ms = 1_700_000_040_000
        self.rows: dict[tuple[int, str], Figures] = {}
        self.saves = 0
        self.fails = False
        self.gauges: dict[str, int] = {}
        self.slots = Slots(layout, directory, name)
        self.recorder = RequestMetrics(
            self.slots, name, save=self.save, now_ms=lambda: self.now_ms, sample=lambda: self.gauges
        )

    async def save(self, minute_ms: int, figures: Mapping[str, Figures]) -> None:
        if self.fails:
            raise CatalogBusy("of the test")
        self.saves += 1
        for name, each in figures.items():
            row = (minute_ms, name)
            self.rows[row] = merged([self.rows.get(row, Figures()), each])

    def count(self, operation: str, status: int = 200, us: int = 100, *, got: int = 0, sent: int = 0) -> None:
        """One request that took `us` microseconds."""
        began_s = 1000.0
        clock = iter((began_s, began_s + (us + 0.5) / 1e6))
        module: Any = requests
        real, module.perf_counter = module.perf_counter, lambda: next(clock)
        try:
            tally: Tally = self.recorder.begin()
            tally.operation, tally.status, tally.bytes_in, tally.bytes_out = operation, status, got, sent
            self.recorder.end(tally)
        finally:
            module.perf_counter = real
