"""The rate limiter under any order of events: one probe, never more than the window, and every pause ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.limiters import RETRY, adaptive_limiter, plain_limiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async.ratelimit.limiter import Permit, RateLimiter

MAX_CONCURRENT = 4
JITTER = st.floats(0, 1, exclude_max=True)


class _Limiter(RuleBasedStateMachine):
    """Any order of events, checked against what must always hold."""

    max_in_flight: int | None = None
    is_adaptive = False

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        make: Callable[..., RateLimiter] = adaptive_limiter if self.is_adaptive else plain_limiter
        self.limiter = make(max_in_flight=self.max_in_flight, max_concurrent=MAX_CONCURRENT)
        self.outstanding: list[Permit] = []
        self.in_flight = 0
        self.window = 1
        self.pauses = 0

    def _pop(self, index: int) -> Permit:
        return self.outstanding.pop(index % len(self.outstanding))

    def _is_late(self, permit: Permit) -> bool:
        return permit.pause_count != self.pauses

    def _count_pause(self, has_paused: bool) -> None:
        if has_paused:
            self.pauses, self.window = self.pauses + 1, 1

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @precondition(lambda self: self.limiter.delay(self.now) == 0)
    @rule()
    def send(self) -> None:
        """Send a request."""
        current = [permit for permit in self.outstanding if not self._is_late(permit)]
        assert not any(permit.is_probe for permit in current), "no request leaves while a probe is outstanding"
        permit = self.limiter.acquire(self.now)
        assert permit.pause_count == self.pauses
        assert not permit.is_probe or not current
        self.outstanding.append(permit)
        assert permit.is_probe or len(self.outstanding) <= self.window
        assert self.max_in_flight is None or self.in_flight + len(self.outstanding) <= self.max_in_flight

    @precondition(lambda self: bool(self.outstanding))
    @rule(index=st.integers(0, 100), accepted=st.booleans())
    def succeed(self, index: int, accepted: bool) -> None:
        """Let the server answer."""
        permit = self._pop(index)
        self.limiter.on_success(permit, self.now, accepted=accepted)
        self.in_flight += accepted
        if not self._is_late(permit):
            self.window = min(MAX_CONCURRENT, self.window + 1)

    @precondition(lambda self: bool(self.outstanding))
    @rule(index=st.integers(0, 100), retry_after=st.none() | st.floats(-5, 1e9), jitter=JITTER)
    def rate_limit(self, index: int, retry_after: float | None, jitter: float) -> None:
        """Let the server answer 429."""
        permit = self._pop(index)
        self.limiter.on_rate_limited(permit, self.now, retry_after=retry_after, jitter=jitter)
        self._count_pause(not self._is_late(permit))

    @precondition(lambda self: bool(self.outstanding))
    @rule(index=st.integers(0, 100), jitter=JITTER)
    def fail_to_connect(self, index: int, jitter: float) -> None:
        """Fail to reach the server."""
        permit = self._pop(index)
        self.limiter.on_unreachable(permit, self.now, jitter=jitter)
        self._count_pause(not self._is_late(permit))

    @precondition(lambda self: bool(self.outstanding))
    @rule(index=st.integers(0, 100), jitter=JITTER)
    def lose_the_answer(self, index: int, jitter: float) -> None:
        """Lose an answer; several in a row pause the limiter."""
        permit = self._pop(index)
        was_active = not self.limiter.is_paused
        self.limiter.on_ambiguous(permit, self.now, jitter=jitter)
        has_paused = was_active and self.limiter.is_paused
        self._count_pause(not self._is_late(permit) and (permit.is_probe or has_paused))

    @precondition(lambda self: bool(self.outstanding))
    @rule(index=st.integers(0, 100))
    def withdraw(self, index: int) -> None:
        """Withdraw a request before it leaves."""
        self.limiter.on_not_sent(self._pop(index))

    @rule()
    def resume_job(self) -> None:
        """Resume a job of an earlier run."""
        self.limiter.job_started()
        self.in_flight += 1

    @rule()
    def finish_job(self) -> None:
        """Finish a job on the server."""
        self.limiter.job_finished(self.now)
        self.in_flight = max(0, self.in_flight - 1)

    @invariant()
    def counts_are_correct(self) -> None:
        """Check that no job or request is lost or counted twice."""
        assert self.limiter.in_flight == self.in_flight
        assert len(self.outstanding) <= MAX_CONCURRENT

    @invariant()
    def every_pause_ends(self) -> None:
        """Check that a request may leave in a bounded time, or once an outstanding request or a job in flight ends."""
        delay = self.limiter.delay(self.now)
        if delay is None:
            assert self.outstanding or (self.max_in_flight is not None and self.in_flight >= self.max_in_flight)
            return
        assert 0 <= delay <= RETRY.timeout * 1.05
        assert self.limiter.delay(self.now + delay + 1e-6) == 0

    def teardown(self) -> None:
        """Check that the next request may leave when nothing is outstanding or in flight any more."""
        for permit in self.outstanding:
            self.limiter.on_not_sent(permit)
        for _ in range(self.in_flight):
            self.limiter.job_finished(self.now)
        assert self.limiter.delay(self.now + RETRY.timeout * 1.05 + 1) == 0


class _LimiterWithCeiling(_Limiter):
    """The same with a ceiling of unfinished jobs."""

    max_in_flight = 3


class _AdaptiveLimiter(_Limiter):
    """The same for a limiter that learns from arbitrary answers."""

    is_adaptive = True


TestLimiter = pytest.mark.slow(_Limiter.TestCase)
TestLimiter.settings = settings(max_examples=150, stateful_step_count=40)
TestLimiter.__doc__ = "The invariants of the limiter hold in any order of events."
TestLimiterWithCeiling = _LimiterWithCeiling.TestCase
TestLimiterWithCeiling.settings = settings(stateful_step_count=40)
TestLimiterWithCeiling.__doc__ = "They hold with a ceiling of unfinished jobs, too."
TestAdaptiveLimiter = pytest.mark.slow(_AdaptiveLimiter.TestCase)
TestAdaptiveLimiter.settings = settings(max_examples=300, stateful_step_count=60)
TestAdaptiveLimiter.__doc__ = "They hold for a limiter that learns from arbitrary answers; above all, every pause ends."
