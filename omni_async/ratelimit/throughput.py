"""`Throughput`: submits accepted per second, measured while submits are waiting. The forecast uses it."""

from __future__ import annotations

from collections import deque

# Samples kept. They are thinned out over time to cover about its last two thirds. More samples follow a change more
# slowly, fewer make the rate jump. Chosen, not measured. Half (30) and double (120) only change the resolution.
_SAMPLES = 60

# The least time between two samples in seconds, and the shortest time that a rate is computed from. Half: the first
# rate is known sooner and is less exact. Double: the forecast starts later. Chosen, not measured.
_SPACING = 0.5

# Jobs accepted between the first sample and now before a rate is computed. With n jobs it is uncertain by about
# 1/sqrt(n): 50 % for 4, 70 % for half of it. Double (8) means 35 %, and a forecast that starts later.
_ENOUGH = 4


class Throughput:
    """The recent rate of accepted submits, as long as some are waiting. `now` is in seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)  # time, accepted by then
        self._since = 0.0
        self._count = 0

    def on_accepted(self, now: float) -> None:
        """Record that a submit was accepted."""
        self._count += 1
        if not self._samples:
            self._since = now
        if not self._samples or now - self._samples[-1][0] >= max(_SPACING, (now - self._since) / _SAMPLES):
            self._samples.append((now, self._count))

    def on_idle(self) -> None:
        """Record that no submit is waiting: the time from here on says nothing about the account."""
        self._samples.clear()

    def per_second(self, now: float) -> float | None:
        """Return the rate, or None until enough submits were accepted."""
        if not self._samples:
            return None
        since, before = self._samples[0]
        number, seconds = self._count - before, now - since
        return number / seconds if number >= _ENOUGH and seconds >= _SPACING else None
