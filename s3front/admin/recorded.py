"""The history of requests as the admin API reads it: with what this front did up to now."""

from __future__ import annotations

import logging

from catalog.errors import CatalogError
from s3front.metrics.requests import RequestMetrics

log = logging.getLogger("trivet.admin")


async def flushed(requests: RequestMetrics) -> bool:
    """Hand in what this front did, so that the next read sees it; False when the catalog can't take it now (its disk is
    full, say): it comes later, and what there is can be read all the same."""
    try:
        await requests.flush_now()
    except CatalogError as error:
        log.warning("the history is read without this front's last seconds: %s", error)
        return False
    return True
