"""How the tests of the gate handle a gate."""

from __future__ import annotations

from omni_async.ratelimit.limiter import Permit, RateLimiter
from omni_async.settings import Retry

RETRY = Retry()


def a_gate(*, capacity: int | None = None, width: int = 16, retry: Retry = RETRY) -> RateLimiter:
    """Give a new gate."""
    return RateLimiter(max_in_flight=capacity, max_concurrent=width, retry=retry)


def leave(gate: RateLimiter, now: float) -> Permit:
    """Let one through, which must be possible now."""
    assert gate.delay(now) == 0
    return gate.acquire(now)


def opens_at(gate: RateLimiter, now: float) -> float:
    """Give the time at which the gate opens by itself."""
    wait = gate.delay(now)
    assert wait is not None
    return now + wait


def fill(gate: RateLimiter, now: float) -> list[Permit]:
    """Let through whatever may leave now."""
    permits = []
    while gate.delay(now) == 0:
        permits.append(gate.acquire(now))
    return permits
