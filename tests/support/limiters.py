"""Rate limiters for tests, and short ways to drive them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omni_async.ratelimit.adaptive import AdaptiveRateLimiter
from omni_async.ratelimit.learned import LearnedLimits
from omni_async.ratelimit.limiter import RateLimiter
from omni_async.settings import Retry

if TYPE_CHECKING:
    from omni_async.ratelimit.limiter import Permit

RETRY = Retry()


def plain_limiter(*, max_in_flight: int | None = None, max_concurrent: int = 16, retry: Retry = RETRY) -> RateLimiter:
    """Return a limiter that learns nothing."""
    return RateLimiter(max_in_flight=max_in_flight, max_concurrent=max_concurrent, retry=retry)


def adaptive_limiter(
    *,
    max_in_flight: int | None = None,
    max_concurrent: int = 16,
    configured_rate: float | None = None,
    learned: LearnedLimits | None = None,
) -> AdaptiveRateLimiter:
    """Return a limiter that learns, starting from `learned`."""
    limiter = AdaptiveRateLimiter(
        max_in_flight=max_in_flight, max_concurrent=max_concurrent, retry=RETRY, configured_rate=configured_rate
    )
    if learned is not None:
        limiter.load(learned)
    return limiter


def send(limiter: RateLimiter, now: float) -> Permit:
    """Send one request, which the limiter must allow now."""
    assert limiter.delay(now) == 0
    return limiter.acquire(now)


def send_all(limiter: RateLimiter, now: float) -> list[Permit]:
    """Send as many requests as the limiter allows now."""
    permits = []
    while limiter.delay(now) == 0:
        permits.append(limiter.acquire(now))
    return permits


def resumes_at(limiter: RateLimiter, now: float) -> float:
    """Return the time at which the limiter allows the next request if nothing happens until then."""
    delay = limiter.delay(now)
    assert delay is not None
    return now + delay
