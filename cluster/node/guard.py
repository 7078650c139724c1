"""Lets a start recognise an index that kills the process that uses it.

The index file has no checksums, and LMDB maps it into memory: rot in one of its pages may end the process with
SIGSEGV, SIGBUS or SIGABRT, in whatever comes to touch that page. The file `guard` beside it tells the next start:

- that the process died of such a signal: `faulthandler` writes its last words there;
- that the index was found damaged by a process which then ended itself;
- how many starts in succession did not come to an end.

As the index is derived data, it is then made anew from the log. A SIGKILL or a power cut of a node that was ready
leaves a blank file and costs nothing. Nothing here is synced: a process that dies leaves the page cache behind.
"""

from __future__ import annotations

import faulthandler
import logging
import os
from io import FileIO
from pathlib import Path
from typing import Final

log = logging.getLogger("trivet.node")

_FILE: Final = "guard"
_FILE_BYTES: Final = 4096
_START: Final = "start"
_DAMAGED: Final = ("damaged:", "Fatal Python error:")
_STARTS_MAX: Final = 3


class IndexGuard:
    """Of one index directory, held by one process: call `begin` first, `close` last."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: FileIO | None = None
        self._hears_signals = False

    def begin(self) -> bool:
        """Before the index is opened; whether it must be thrown away first. Raises OSError."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(self._directory / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = FileIO(fd, "r+")
        told = [line for line in self._file.read().decode("utf-8", "replace").splitlines() if line]
        starts = told.count(_START)
        is_damaged = any(line.startswith(_DAMAGED) for line in told)
        if told:
            log.warning("the last process with this index ended early:\n%s", "\n".join(told))
        self._tell(f"{_START}\n" * (starts + 1))
        if not faulthandler.is_enabled():  # else somebody wants to see it elsewhere
            faulthandler.enable(self._file, all_threads=False)
            self._hears_signals = True
        return is_damaged or _is_due(starts)

    def ended_well(self) -> None:
        """The start came to its end, or failed for a reason that is known."""
        self._tell("")

    def condemn(self, reason: str) -> None:
        """The next start shall not use this index."""
        log.error("the index is not to be used again: %s", reason)
        self._tell(f"{_DAMAGED[0]} {' '.join(reason.split())[:200]}\n")

    def _tell(self, text: str) -> None:
        """Replace what the file says. What is added next, by a dying process, goes behind it.

        The file keeps its size, so that the last words find room on a full disk, too.
        """
        if self._file is None:
            return
        try:
            self._file.seek(0)
            self._file.write(text.encode().ljust(_FILE_BYTES, b"\n"))
        except OSError as error:  # the node can serve without it
            log.warning("can't write to the guard of the index: %s", error)
        self._file.seek(len(text.encode()))

    def close(self) -> None:
        """The index is closed."""
        if self._hears_signals:
            faulthandler.disable()
            self._hears_signals = False
        if self._file is not None:
            self._file.close()
            self._file = None


def _is_due(starts: int) -> bool:
    """After 3 starts that came to nothing, and when that did not help after 6, 12, 24 …: making a large index
    takes its time, and it must not be thrown away again and again by who is impatient."""
    rounds, rest = divmod(starts, _STARTS_MAX)
    return starts > 0 and rest == 0 and rounds & (rounds - 1) == 0
