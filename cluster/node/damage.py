"""Which blocks of a node were found bad: what DAMAGED lists, so that the steward can have them repaired.

Found by the scrub, by reads, by puts that look at the block they would repeat, and by recovery. An entry is
settled when its key is superseded or deleted. Entries of the catalog's log are listed too, under their index keys,
but only counted for others: a new snapshot makes up for them. The list lives in memory: after a restart recovery and
scrub find again what is still bad.
"""

from __future__ import annotations

import bisect
import threading
from typing import Final

from cluster.log_names import is_log_key

ENTRIES_MAX: Final = 100_000  # some 30 MB; the scrub reports what did not fit at its next pass


class DamageList:
    """Bounded; for any thread."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._lock = threading.Lock()
        self._entries: dict[bytes, tuple[int, str]] = {}
        self._log_entries = 0
        self._sorted: list[bytes] | None = None  # the keys of blocks in order, made when a page is asked for

    @property
    def blocks(self) -> int:
        """How many blocks are listed."""
        return len(self._entries) - self.log_entries

    @property
    def log_entries(self) -> int:
        """How many entries of the catalog's log are listed."""
        return self._log_entries

    def __len__(self) -> int:
        return len(self._entries)

    def found(self, key: bytes, sequence: int, kind: str) -> bool:
        """The copy of `key` (packed) with that record sequence is bad; whether that is news.

        The latest report of a key counts. Not remembered when the list is full: the node's damage counters
        still show it. Look the key up in the index again afterwards: whoever covers the copy at this very
        moment may have called `settled` before.
        """
        with self._lock:
            before = self._entries.get(key)
            if before is None:
                if len(self._entries) >= self._entries_max:
                    return True
                self._sorted = None
                self._log_entries += is_log_key(key)
            self._entries[key] = (sequence, kind)
            return before is None or before[0] != sequence

    def lists(self, key: bytes, sequence: int) -> bool:
        """Whether that copy of `key` is known to be bad."""
        entry = self._entries.get(key)
        return entry is not None and entry[0] == sequence

    def settled(self, key: bytes) -> tuple[int, str] | None:
        """`key` is deleted, or another copy covers the bad one: call it when the index shows that already.

        Cheap for keys that are not listed. Returns what was listed, sequence and kind.
        """
        if key not in self._entries:
            return None
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._sorted = None
                self._log_entries -= is_log_key(key)
            return entry

    def page(self, after: bytes, limit: int) -> tuple[list[tuple[bytes, int, str]], bool]:
        """At most `limit` blocks (key, sequence, kind) above `after`, in key order, and whether more follow."""
        with self._lock:
            if self._sorted is None:
                self._sorted = sorted(key for key in self._entries if not is_log_key(key))
            keys = self._sorted
            begin = bisect.bisect_right(keys, after)
            chosen = keys[begin : begin + limit]
            return [(key, *self._entries[key]) for key in chosen], begin + limit < len(keys)
