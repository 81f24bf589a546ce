"""Accounts with limits, as servers keep them, and the least time in which any client could get its work through."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

ADVICE = ("seconds", "date", "none", "short", "long", "huge")


class Limit(Protocol):
    """One limit of an account."""

    def wait(self, now: float) -> float:
        """Give the seconds until one more may be accepted; 0 means now."""

    def take(self, now: float) -> None:
        """Count one that is accepted."""

    def give(self, now: float) -> None:
        """Count one that has ended."""


@dataclass
class TokenBucket:
    """So many a second, at most `burst` saved up. The rate may be changed while it runs."""

    per_second: float
    burst: float = 1.0
    level: float = math.inf
    at: float = 0.0

    def _fill(self, now: float) -> None:
        self.level = min(self.burst, self.level + max(0.0, now - self.at) * self.per_second)
        self.at = now

    def wait(self, now: float) -> float:
        """Give the seconds until there is a token."""
        self._fill(now)
        return 0.0 if self.level >= 1 - 1e-9 else (1 - self.level) / self.per_second

    def take(self, now: float) -> None:
        """Take a token."""
        self._fill(now)
        self.level -= 1

    def give(self, now: float) -> None:
        """Tokens come with time only."""


@dataclass
class FixedWindow:
    """So many in each window; windows follow each other from `start` on."""

    most: int
    seconds: float
    start: float = 0.0
    used: int = 0

    def wait(self, now: float) -> float:
        """Give the seconds until the window ends, if it is used up."""
        passed = math.floor((now - self.start) / self.seconds + 1e-9)
        if passed > 0:
            self.start, self.used = self.start + passed * self.seconds, 0
        return self.start + self.seconds - now if self.used >= self.most else 0.0

    def take(self, now: float) -> None:
        """Count one."""
        self.wait(now)
        self.used += 1

    def give(self, now: float) -> None:
        """A window forgets with time only."""


@dataclass
class SlidingWindow:
    """So many in any stretch of so many seconds."""

    most: int
    seconds: float
    times: deque[float] = field(default_factory=deque)

    def wait(self, now: float) -> float:
        """Give the seconds until the oldest is old enough."""
        while self.times and self.times[0] <= now - self.seconds + 1e-9:
            self.times.popleft()
        return self.times[0] + self.seconds - now if len(self.times) >= self.most else 0.0

    def take(self, now: float) -> None:
        """Note when."""
        self.times.append(now)

    def give(self, now: float) -> None:
        """A window forgets with time only."""


@dataclass
class Capacity:
    """So many at once. The server cannot know when a place will be free: it says 5 s."""

    most: int
    running: int = 0

    def wait(self, now: float) -> float:
        """Give 5 s while no place is free."""
        return 5.0 if self.running >= self.most else 0.0

    def take(self, now: float) -> None:
        """Fill a place."""
        self.running += 1

    def give(self, now: float) -> None:
        """Free a place."""
        self.running -= 1


class Account:
    """All limits of one account: a request passes all of them, or counts on none; and how it says when to come back."""

    def __init__(self, *limits: Limit, advice: str = "seconds") -> None:
        assert advice in ADVICE
        self.limits = limits
        self.advice = advice

    def ask(self, now: float) -> float:
        """Give 0 if it accepts, else the true wait."""
        wait = max((limit.wait(now) for limit in self.limits), default=0.0)
        if wait == 0:
            for limit in self.limits:
                limit.take(now)
        return wait

    def ended(self, now: float) -> None:
        """Take note that a job has ended."""
        for limit in self.limits:
            limit.give(now)

    def says(self, now: float, wait: float) -> float | None:
        """Give the seconds of advice as the wire layer reads them from `Retry-After`."""
        match self.advice:
            case "seconds":
                return max(1.0, math.ceil(wait))
            case "date":  # a date has whole seconds, and so has the server's own `Date`, against which it is read
                return math.ceil(now + wait) - math.floor(now)
            case "short":
                return float(math.floor(wait / 4))
            case "long":
                return math.ceil(wait * 3) + 2.0
            case "huge":
                return 86_400.0
            case _:
                return None


def least_makespan(limits: Iterable[Limit], durations: list[float]) -> float:
    """Give when the last job ends if each is accepted the moment the limits allow it, with no latency at all.

    The server draws the durations in order of acceptance, so no client can choose who goes first.
    """
    limits, now, last, running = list(limits), 0.0, 0.0, list[float]()
    for duration in durations:
        while True:
            while running and running[0] <= now + 1e-9:
                ended = heapq.heappop(running)
                for limit in limits:
                    limit.give(ended)
            waits = [(limit.wait(now), limit) for limit in limits]
            timed = max((wait for wait, limit in waits if not isinstance(limit, Capacity)), default=0.0)
            is_full = any(wait for wait, limit in waits if isinstance(limit, Capacity))
            if not timed and not is_full:
                break
            now = max(now + timed, running[0] if is_full else 0.0)
        for limit in limits:
            limit.take(now)
        heapq.heappush(running, now + duration)
        last = max(last, now + duration)
    return last


def lognormal(jitter: random.Random, median: float, sigma: float = 0.35) -> Callable[[], float]:
    """Give what draws durations with this median."""
    return lambda: median * math.exp(jitter.gauss(0, sigma))
