"""What the commands that ask nodes themselves have in common: links of their own, beside the running store."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from compose.cli.store_access import with_catalog
from compose.refusal import CommandRefused

if TYPE_CHECKING:
    from catalog.engine import Catalog
    from cluster.reports.blocks import NodeAsker
    from compose.settings import Settings

T = TypeVar("T")


def with_nodes(
    settings: Settings, work: Callable[[Catalog, NodeAsker], Awaitable[T]], *, patience_s: float = 0.0
) -> T:
    """Runs `work` on the open catalog, with links to the nodes; a lost one may take `patience_s` to come back. Raises
    CommandRefused as `with_catalog` does.
    """
    from cluster.reports.blocks import NodeAsker
    from compose.wiring import asked_nodes

    # Who does not answer is told by the command, in its own words.
    logging.getLogger("cluster").addHandler(logging.NullHandler())

    async def linked(catalog: Catalog) -> T:
        async with asked_nodes(settings, catalog) as nodes:
            return await work(catalog, NodeAsker(nodes, patience_s=patience_s))

    return with_catalog(settings, linked)


def refuse_silence(asker: NodeAsker) -> None:
    """Raises CommandRefused when no node answers at all: then there is nothing to learn from them."""
    if not asker.nodes.up_count():
        raise CommandRefused(
            "no storage node answers: start the store (trivet up), or see trivet status for why"
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
