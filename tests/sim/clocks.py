"""The wall clocks of the processes: each goes as fast as time itself, but may be set wrong, by any amount."""

from __future__ import annotations

from tests.sim.loop import SimLoop

EPOCH_MS = 1_700_000_000_000


class WallClocks:
    """By the name of the process; a clock that nobody has set is right. Killing a process does not mend its
    machine's clock."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._settings: dict[str, list[tuple[float, int]]] = {}  # name -> (since when, how much it is ahead)

    def now_ms(self, name: str) -> int:
        """What that process is told."""
        return self.true_ms() + self.ahead_ms(name)

    def true_ms(self) -> int:
        """The time that it is."""
        return EPOCH_MS + int(self._loop.now * 1000)

    def ahead_ms(self, name: str) -> int:
        """How wrong it is; negative when it is behind."""
        settings = self._settings.get(name)
        return settings[-1][1] if settings else 0

    def set(self, name: str, ahead_ms: int) -> None:
        """From now on."""
        self._settings.setdefault(name, []).append((self._loop.now, ahead_ms))

    def most_ahead_ms(self, since: float) -> int:
        """How much the fastest of all clocks was ahead at any moment since then; 0 when all were right."""
        most = 0
        for settings in self._settings.values():
            before = [ahead for at, ahead in settings if at <= since][-1:]
            most = max(most, *before, *(ahead for at, ahead in settings if at > since))
        return most

    @property
    def jumped(self) -> bool:
        """Whether any was ever set."""
        return bool(self._settings)
