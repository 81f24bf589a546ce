"""How the tests of the gate handle a gate."""

from __future__ import annotations

from omni_async.ratelimit.limiter import Gate, Permit
from omni_async.settings import Retry

RETRY = Retry()


def a_gate(*, capacity: int | None = None, width: int = 16, retry: Retry = RETRY) -> Gate:
    """Give a new gate."""
    return Gate(capacity=capacity, width=width, retry=retry)


def leave(gate: Gate, now: float) -> Permit:
    """Let one through, which must be possible now."""
    assert gate.opens_in(now) == 0
    return gate.leave(now)


def opens_at(gate: Gate, now: float) -> float:
    """Give the time at which the gate opens by itself."""
    wait = gate.opens_in(now)
    assert wait is not None
    return now + wait


def fill(gate: Gate, now: float) -> list[Permit]:
    """Let through whatever may leave now."""
    permits = []
    while gate.opens_in(now) == 0:
        permits.append(gate.leave(now))
    return permits
