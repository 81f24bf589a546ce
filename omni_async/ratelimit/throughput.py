"""`Throughput`: accepted requests per second, measured while submits are running."""

from __future__ import annotations

from collections import deque

_SAMPLES = 60  # of the flow, spaced so that they cover about the last two thirds of the time
_SPACING = 0.5  # seconds between two of them at least
_ENOUGH = 4  # jobs accepted within the samples before they say anything


class Throughput:
    """How fast jobs were accepted lately, as long as some were waiting for it."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._since = 0.0
        self._count = 0

    def on_accepted(self, now: float) -> None:
        """Take note that one was accepted."""
        self._count += 1
        if not self._samples:
            self._since = now
        if not self._samples or now - self._samples[-1][0] >= max(_SPACING, (now - self._since) / _SAMPLES):
            self._samples.append((now, self._count))

    def on_idle(self) -> None:
        """Take note that nobody waits: the time from here on tells nothing."""
        self._samples.clear()

    def per_second(self, now: float) -> float | None:
        """Give the rate, once enough were accepted to tell one."""
        if not self._samples:
            return None
        since, before = self._samples[0]
        number, seconds = self._count - before, now - since
        return number / seconds if number >= _ENOUGH and seconds >= _SPACING else None
