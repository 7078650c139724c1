"""What the commands that have nodes read from their disks have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from compose.refusal import CommandRefused

if TYPE_CHECKING:
    from cluster.topology import NodeSet


def refuse_silence(node_set: NodeSet) -> None:
    """Raises CommandRefused when no node answers at all: then there is nothing to learn from them."""
    if not node_set.up_count():
        raise CommandRefused(
            "no storage node answers here: start the store (trivet up, or its processes), or see trivet status for why"
        )


@contextmanager
def searching(*, quiet: bool) -> Iterator[Callable[[int], bool]]:
    """What a search through the catalog's rows tells of how far it is; on a terminal it is shown."""
    if quiet or not sys.stderr.isatty():
        yield lambda _rows: True
        return
    from rich.console import Console

    with Console(stderr=True).status("looking for what uses it") as shown:

        def rows_read(rows: int) -> bool:
            shown.update(f"looking for what uses it: {rows:,} rows read")
            return True

        yield rows_read
