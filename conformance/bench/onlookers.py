"""Who watches a run: a table on a terminal that fills while it runs, or plain lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from conformance.bench.plan import Progress
from conformance.bench.results import Phase
from conformance.bench.session import Onlooker
from conformance.bench.summary import HEADINGS, phase_lines

_COLUMNS = ("phase", "operation", "done", "failed", "per s", "mean ms", "p50", "p99", "max")


class PlainLines:
    """A line or more for each phase, when it has ended."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._say(HEADINGS)

    def begins(self, phase: str, operations: int) -> None: ...

    def goes_on(self, progress: Progress) -> None: ...

    def ended(self, phase: Phase) -> None:
        for line in phase_lines(phase):
            self._say(line)

    def says(self, words: str) -> None:
        self._say(words)

    def _say(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class LiveTable:
    """The phases so far, and how far the present one is."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._rows: list[tuple[str, ...]] = []
        self._phase = ""
        self._words: list[str] = []

    def begins(self, phase: str, operations: int) -> None:
        self._phase = phase
        self._show((phase, "", f"0/{operations:,}" if operations else "…"))

    def goes_on(self, progress: Progress) -> None:
        of = f"/{progress.of:,}" if progress.of else ""
        rate = progress.done / progress.seconds if progress.seconds else 0.0
        self._show((self._phase, "", f"{progress.done:,}{of}", f"{progress.failed or ''}", f"{rate:,.0f}"))

    def ended(self, phase: Phase) -> None:
        if not phase.figures:
            self._rows.append((phase.name, "", f"{phase.seconds:.2f} s"))
        for number, figures in enumerate(phase.figures):
            latencies = (figures.mean_ms, figures.p50_ms, figures.p99_ms, figures.max_ms)
            self._rows.append(
                (
                    "" if number else phase.name,
                    figures.operation,
                    f"{figures.count:,}",
                    f"{figures.failed:,}" if figures.failed else "",
                    f"{figures.per_second:,.0f}",
                    *(f"{value:,.2f}" for value in latencies),
                )
            )
        self._show()

    def says(self, words: str) -> None:
        self._words.append(words)
        self._show()

    def _show(self, present: tuple[str, ...] = ()) -> None:
        table = Table(box=None, caption="\n".join(self._words), caption_justify="left")
        for column in _COLUMNS:
            table.add_column(column, justify="left" if column in _COLUMNS[:2] else "right")
        for row in self._rows:
            table.add_row(*row)
        if present:
            table.add_row(*present, style="bold")
        self._live.update(table, refresh=True)


@contextmanager
def onlooker() -> Iterator[Onlooker]:
    """A live table when standard error is a terminal, else lines; both there, so that standard output is for
    figures."""
    if not sys.stderr.isatty():
        yield PlainLines(sys.stderr)
        return
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        yield LiveTable(live)
