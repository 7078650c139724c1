"""How long calls of one kind took lately."""

from typing import Final

_S_MAX: Final = 0.5  # slower replies teach no more than this: a thawed node is judged anew soon


class Latency:
    """Recent latency of one kind of call in seconds: an average, and a mark near the 99th percentile."""

    __slots__ = ("high_s", "mean_s")

    def __init__(self) -> None:
        self.mean_s = 0.0
        self.high_s = 0.0

    def add(self, s: float) -> None:
        """One more call took that long."""
        if s > _S_MAX:  # noqa: PLR1730 - hot path: min() costs a call
            s = _S_MAX
        self.mean_s += (s - self.mean_s) * 0.05
        high = self.high_s
        # Rises at once, sinks slowly: in balance where about one call in fifty is slower.
        self.high_s = high + (s - high) * (0.3 if s > high else 0.006)

    def fade(self) -> None:
        """Forget the mark of a bad moment also where few calls are made; to be called twice a second or so."""
        self.high_s -= (self.high_s - self.mean_s) * 0.1
