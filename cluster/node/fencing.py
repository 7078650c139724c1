"""Whose deletes and log appends a node obeys: the highest (catalog, term) seen, stored before it counts (S18)."""

from __future__ import annotations

import logging
from pathlib import Path

from cluster.node.files import FileLayer
from cluster.node.identity import FenceState, read_fence, store_fence
from cluster.wire import Status

log = logging.getLogger("trivet.node")


class Fencing:
    """Belongs to the writer thread."""

    def __init__(self, directory: Path, files: FileLayer) -> None:
        """Raises NodeRefused when the stored fence is damaged: guessing here could delete everything."""
        self._directory = directory
        self._files = files
        self._fence = read_fence(directory, files)

    @property
    def fence(self) -> FenceState | None:
        """The one that counts; may be asked by any thread."""
        return self._fence

    def obey(self, catalog_id: bytes, term: int) -> tuple[Status, str] | None:
        """Why an order of that catalog does not count, or None; a new or higher fence is durable then."""
        fence = self._fence
        if fence is not None and (fence.catalog_id != catalog_id or term < fence.term):
            return Status.FENCED, f"this node obeys catalog {fence.catalog_id.hex()} at term {fence.term}"
        if fence is None or term > fence.term:
            fence = FenceState(catalog_id, term)
            try:
                store_fence(self._directory, self._files, fence)
            except OSError as error:
                log.error("fence not stored: %s", error)  # noqa: TRY400 - the traceback says no more
                return Status.FAILED, "fence not stored"
            self._fence = fence
        return None
