"""Waiting for a catalog's database that is away: a server that restarts, or starts later than what needs it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from catalog.errors import CatalogBusy
from compose.catalog_place import describe

T = TypeVar("T")
log = logging.getLogger(__name__)

COMMAND_WAIT_S = 5.0
"""A person waits for the answer."""
FOUNDING_WAIT_S = 60.0
"""A store that starts with its machine may be there before the database."""
_PAUSE_S = 0.5
_PAUSE_S_MAX = 5.0


async def when_reached(ask: Callable[[], T], where: Path | str, wait_s: float) -> T:
    """What `ask`, which may block, answers once the catalog is within reach; it is repeated with growing pauses, and
    the log says why. Raises CatalogBusy when it is not after `wait_s` (infinite: for as long as it takes)."""
    if isinstance(where, Path):
        return ask()
    give_up_s, pause_s = time.monotonic() + wait_s, _PAUSE_S
    while True:
        try:
            return await asyncio.to_thread(ask)
        except CatalogBusy as error:
            if time.monotonic() + pause_s > give_up_s:
                raise
            log.warning("waiting for the catalog at %s: %s", describe(where), error)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_S_MAX)
