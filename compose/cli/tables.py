"""Tables as the commands show them: one line of headings, a rule, no frame, and no figure cut off."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_AIRY, _TIGHT = 3, 1
"""Spaces between two columns."""


class Column(NamedTuple):
    """One column, top to bottom. `figures` stand to the right. Of those that are `extra` the highest is left out first,
    when the terminal is narrow; 0 stays in any case.
    """

    heading: str
    cells: Sequence[str | Text]
    figures: bool = False
    extra: int = 0

    @property
    def width(self) -> int:
        return max(cell_len(str(cell)) for cell in (self.heading, *self.cells))


def fitting_table(columns: Sequence[Column], width: int, styles: Sequence[str] = ()) -> Table:
    """As many of the columns as `width` has room for. `styles`: of the rows, where they have one."""
    gap = _AIRY if _width(columns, _AIRY) <= width else _TIGHT
    while _width(columns, gap) > width and any(column.extra for column in columns):
        most = max(column.extra for column in columns)
        columns = [column for column in columns if column.extra != most]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, (gap - 1) // 2))
    for column in columns:
        table.add_column(column.heading, justify="right" if column.figures else "left", no_wrap=True)
    for at, row in enumerate(zip(*(column.cells for column in columns), strict=True)):
        table.add_row(*row, style=styles[at] if styles else None)
    return table


def folding_table(*headings: str, figures: Collection[str] = ()) -> Table:
    """A table for names and words of any length, which are folded where the terminal is narrow. The columns of
    `figures` stand to the right.
    """
    table = Table(box=SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in figures else "left")
    return table


def _width(columns: Sequence[Column], gap: int) -> int:
    return sum(column.width for column in columns) + gap * (len(columns) - 1)
