"""Limits as servers have them: a token bucket, a fixed window, and what Retry-After says of them."""

from __future__ import annotations

import math
from email.utils import formatdate
from itertools import cycle


class TokenBucket:
    """`rate` per second, at most `burst` at once."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, float(burst)
        self._level, self._seen = float(burst), now

    def wait(self, now: float) -> float:
        """Seconds until one may pass; 0 means now."""
        self._level = min(self._burst, self._level + (now - self._seen) * self._rate)
        self._seen = now
        return max(0.0, (1 - self._level) / self._rate) if self._level < 1 - 1e-9 else 0.0

    def consume(self, now: float) -> None:
        """Count one that passed."""
        self.wait(now)
        self._level -= 1


class FixedWindow:
    """At most `count` in each window of `seconds`, all windows counted from the start."""

    def __init__(self, count: int, seconds: float, now: float) -> None:
        self._count, self._seconds = count, seconds
        self._start, self._used = now, 0

    def wait(self, now: float) -> float:
        """Seconds until one may pass; 0 means now."""
        passed = math.floor((now - self._start) / self._seconds)
        if passed > 0:
            self._start, self._used = self._start + passed * self._seconds, 0
        return self._start + self._seconds - now if self._used >= self._count else 0.0

    def consume(self, now: float) -> None:
        """Count one that passed."""
        self.wait(now)
        self._used += 1


Limit = TokenBucket | FixedWindow


class RequestLimiter:
    """All limits of one key on one kind of request: a request passes all or counts on none."""

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self._limits = limits

    def admit(self, now: float) -> float:
        """0 if the request may pass (it is counted then), else the seconds to wait."""
        wait = max((limit.wait(now) for limit in self._limits), default=0.0)
        if wait == 0:
            for limit in self._limits:
                limit.consume(now)
        return wait


class RetryAfter:
    """Writes the Retry-After header in the style of the settings."""

    WRONG = ("soon", "-5", "0", "Wed, 21 Oct 2015 07:28:00 GMT", "")

    def __init__(self, style: str) -> None:
        self._style = style
        self._wrong = cycle(self.WRONG)

    def header(self, wait: float, wall: float) -> dict[str, str]:
        """The header for a wait of that many seconds, at that unix time."""
        seconds = max(1, math.ceil(wait))
        if self._style == "none":
            return {}
        if self._style == "date":
            return {"Retry-After": formatdate(math.ceil(wall + wait), usegmt=True)}
        if self._style == "wrong":
            return {"Retry-After": next(self._wrong)}
        return {"Retry-After": "86400" if self._style == "huge" else str(seconds)}
