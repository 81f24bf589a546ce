"""Simulated accounts with the limits that servers enforce, and the least makespan that their limits allow."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

# How a server fills Retry-After: true, as whole seconds or as a date; not at all; a quarter; three times; a day.
RETRY_AFTER_STYLES = ("seconds", "date", "none", "short", "long", "huge")


class Limit(Protocol):
    """One limit of an account."""

    def delay(self, now: float) -> float:
        """Return the seconds until one more job may be accepted; 0 means now."""

    def job_accepted(self, now: float) -> None:
        """Count a job that is accepted."""

    def job_finished(self, now: float) -> None:
        """Count a job that has finished."""


@dataclass
class TokenBucket:
    """A token bucket: `per_second` tokens, of which at most `burst` are saved up. The rate may be changed later."""

    per_second: float
    burst: float = 1.0
    level: float = math.inf
    filled_at: float = 0.0

    def _fill(self, now: float) -> None:
        self.level = min(self.burst, self.level + max(0.0, now - self.filled_at) * self.per_second)
        self.filled_at = now

    def delay(self, now: float) -> float:
        """Return the seconds until there is a token."""
        self._fill(now)
        return 0.0 if self.level >= 1 - 1e-9 else (1 - self.level) / self.per_second

    def job_accepted(self, now: float) -> None:
        """Take a token."""
        self._fill(now)
        self.level -= 1

    def job_finished(self, now: float) -> None:
        """Do nothing: only time brings tokens."""


@dataclass
class FixedWindow:
    """At most `max_jobs` in each window of `seconds`. The first window starts at `start`."""

    max_jobs: int
    seconds: float
    start: float = 0.0
    used: int = 0

    def delay(self, now: float) -> float:
        """Return the seconds until the next window if this one is used up."""
        windows_over = math.floor((now - self.start) / self.seconds + 1e-9)
        if windows_over > 0:
            self.start, self.used = self.start + windows_over * self.seconds, 0
        return self.start + self.seconds - now if self.used >= self.max_jobs else 0.0

    def job_accepted(self, now: float) -> None:
        """Count one job in this window."""
        self.delay(now)
        self.used += 1

    def job_finished(self, now: float) -> None:
        """Do nothing: only time makes room."""


@dataclass
class SlidingWindow:
    """At most `max_jobs` in any interval of `seconds`."""

    max_jobs: int
    seconds: float
    accepted_at: deque[float] = field(default_factory=deque)

    def delay(self, now: float) -> float:
        """Return the seconds until the oldest job leaves the window."""
        while self.accepted_at and self.accepted_at[0] <= now - self.seconds + 1e-9:
            self.accepted_at.popleft()
        return self.accepted_at[0] + self.seconds - now if len(self.accepted_at) >= self.max_jobs else 0.0

    def job_accepted(self, now: float) -> None:
        """Record the time."""
        self.accepted_at.append(now)

    def job_finished(self, now: float) -> None:
        """Do nothing: only time makes room."""


@dataclass
class InFlightLimit:
    """At most `max_jobs` unfinished jobs. The server cannot know when one finishes, so it says 5 s."""

    max_jobs: int
    running: int = 0

    def delay(self, now: float) -> float:
        """Return 5 s while no slot is free."""
        return 5.0 if self.running >= self.max_jobs else 0.0

    def job_accepted(self, now: float) -> None:
        """Occupy a slot."""
        self.running += 1

    def job_finished(self, now: float) -> None:
        """Free a slot."""
        self.running -= 1


class Account:
    """The limits of one account, and how it fills Retry-After. A submit must pass all limits, or it counts on none."""

    def __init__(self, *limits: Limit, retry_after: str = "seconds") -> None:
        assert retry_after in RETRY_AFTER_STYLES
        self.limits = limits
        self.retry_after = retry_after

    def submit(self, now: float) -> float:
        """Accept a job and return 0, or refuse it and return the seconds until one more would be accepted."""
        delay = max((limit.delay(now) for limit in self.limits), default=0.0)
        if delay == 0:
            for limit in self.limits:
                limit.job_accepted(now)
        return delay

    def job_finished(self, now: float) -> None:
        """Count a job that has finished."""
        for limit in self.limits:
            limit.job_finished(now)

    def retry_after_for(self, now: float, delay: float) -> float | None:
        """Return the seconds that a client reads from `Retry-After` when the true delay is `delay`."""
        match self.retry_after:
            case "seconds":
                return max(1.0, math.ceil(delay))
            case "date":  # a date has whole seconds, and so has the server's own `Date`, which is subtracted from it
                return math.ceil(now + delay) - math.floor(now)
            case "short":
                return float(math.floor(delay / 4))
            case "long":
                return math.ceil(delay * 3) + 2.0
            case "huge":
                return 86_400.0
            case _:
                return None


def least_makespan(limits: Iterable[Limit], durations: list[float]) -> float:
    """Return when the last job finishes if each is accepted as soon as the limits allow, without any latency.

    The server draws the durations in order of acceptance, so no client can improve on this by reordering jobs.
    """
    limits, now, last, running = list(limits), 0.0, 0.0, list[float]()
    for duration in durations:
        while True:
            while running and running[0] <= now + 1e-9:
                ended = heapq.heappop(running)
                for limit in limits:
                    limit.job_finished(ended)
            delays = [(limit.delay(now), limit) for limit in limits]
            timed = max((delay for delay, limit in delays if not isinstance(limit, InFlightLimit)), default=0.0)
            is_full = any(delay for delay, limit in delays if isinstance(limit, InFlightLimit))
            if not timed and not is_full:
                break
            now = max(now + timed, running[0] if is_full else 0.0)
        for limit in limits:
            limit.job_accepted(now)
        heapq.heappush(running, now + duration)
        last = max(last, now + duration)
    return last


def lognormal(rng: random.Random, median: float, sigma: float = 0.35) -> Callable[[], float]:
    """Return a function that draws durations with this median, in seconds."""
    return lambda: median * math.exp(rng.gauss(0, sigma))
