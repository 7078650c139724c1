"""Which segments are worth emptying, and when the active one should be sealed so that it can be."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from cluster.node.config import NodeConfig
from cluster.node.files import FileLayer
from cluster.node.identity import SEGMENT_DIR
from cluster.node.index import Index
from cluster.node.log import NodeLog
from cluster.node.usage import Use

_SHARE_NEARLY_FULL: Final = 0.9  # of a segment that is worth emptying when space runs out
_HELD_S: Final = 60.0  # before a segment that could not be emptied is tried again
_SMALL: Final = 8  # a segment of less than the eighth part of a full one is small
_SMALL_MAX: Final = 8  # sealed small segments; more are merged


class Choice:
    """`wants_roll` belongs to the writer thread, the rest to the compaction's."""

    def __init__(
        self,
        config: NodeConfig,
        files: FileLayer,
        index: Index,
        log_: NodeLog,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._segments = config.directory / SEGMENT_DIR
        self._files = files
        self._index = index
        self._log = log_
        self._clock = clock
        self._held: dict[int, tuple[Use, float]] = {}

    def victims(self, emptied: Collection[int]) -> list[int]:
        """Segments worth emptying but those that are, the ones with the least alive in them first; then small
        ones to be merged, the smallest first."""
        share_max = _SHARE_NEARLY_FULL if self.is_nearly_full else self._config.compact_share
        # Deletes must always find room: a part of the reserve is theirs alone.
        free = max(0, self._free_bytes() - self._config.reserve_bytes // 8)
        found: list[tuple[float, int]] = []
        small: list[tuple[int, int]] = []
        for number, use in self._candidates(emptied):
            size = self._log.size_of(number)
            share = use.live_bytes / max(1, size)
            if use.live_bytes > free:
                continue
            if share < share_max or not use.sealed:
                found.append((share, number))
            elif size < self._config.segment_bytes // _SMALL:
                small.append((size, number))
        if len(small) <= _SMALL_MAX:
            small = []
        return [number for _, number in sorted(found)] + [number for _, number in sorted(small)]

    def _candidates(self, emptied: Collection[int]) -> list[tuple[int, Use]]:
        """Segments that may go, in the order of the log."""
        now = self._clock()
        usage, active = self._index.usage, self._log.active_number
        found: list[tuple[int, Use]] = []
        before_sealed = True
        for number in usage.numbers():
            use = usage.of(number)
            if number == active or use is None:
                break
            follows_sealed, before_sealed = before_sealed, use.sealed
            if not (use.unread or not follows_sealed or number in emptied or self._is_held(number, use, now)):
                found.append((number, use))
        return found

    def hold(self, number: int, use: Use) -> None:
        """A segment could not be emptied: leave it alone for a while, unless its use changes."""
        now = self._clock()
        self._held = {other: held for other, held in self._held.items() if held[1] > now}
        self._held[number] = (use.copy(), now + _HELD_S)

    def _is_held(self, number: int, use: Use, now: float) -> bool:
        held = self._held.get(number)
        return held is not None and held[0] == use and now < held[1]

    @property
    def is_nearly_full(self) -> bool:
        """Whether space is running out."""
        return self._free_bytes() < 2 * self._config.reserve_bytes

    def _free_bytes(self) -> int:
        return self._files.free_bytes(self._segments)

    def wants_roll(self) -> bool:
        """Whether the active segment has so much dead in it that it should be sealed early: a small store
        must give its space back, too."""
        active = self._log.active
        use = self._index.usage.of(self._log.active_number)
        if active is None or use is None or use.live_bytes >= self._config.compact_share * active.end:
            return False
        return active.end - use.live_bytes >= max(
            self._config.segment_bytes // 64, self._index.live_bytes // 5
        )
