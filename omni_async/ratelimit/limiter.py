"""`RateLimiter`: decides when the next request may leave. The poller uses it for status requests.

`AdaptiveRateLimiter` (adaptive.py) extends it for submits: that class also learns the account's limits.

Theory of operation. The limiter is a circuit breaker with three states. While ACTIVE, it admits requests up to a window
of outstanding ones. The window starts at one and grows by one with each success. Traffic therefore ramps up at the
start, when not even the API key is proven, and after each pause. A 429, an unreachable server or a row of ambiguous
outcomes makes it PAUSED, for all requests. When the pause is over, or when a job finishes on the server, exactly one
request leaves as a probe (PROBING). The outcome of the probe resumes traffic or starts a longer pause.

Outcomes arrive late: a request that left before a pause may be answered during it. Each request carries a `Permit`
that tells such late outcomes apart. They neither end the pause nor lengthen the backoff.

The limiter is fed with events and times. It never waits and reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from .backoff import backoff, give_up_after, retry_delay

if TYPE_CHECKING:
    from ..settings import Retry
    from .submit_log import Submit


# Ambiguous outcomes in a row after which all requests pause: the server is failing then, not a single request. Each of
# them may have been billed. A lower number pauses a healthy client after a few dropped connections, a higher number
# risks more money in an outage. Chosen, not measured. Half (2): two dropped connections pause it. Double (10): up to
# ten submits of an outage may be billed.
_AMBIGUOUS_IN_A_ROW = 5


class LimiterState(Enum):
    """What the limiter does with the next request."""

    ACTIVE = auto()  # admits it within the window and the ceilings
    PAUSED = auto()  # admits nothing until the pause is over
    PROBING = auto()  # admits nothing until the outcome of the probe is known


class PauseCause(Enum):
    """Why the limiter paused. The cause decides how soon a probe leaves and when to give up."""

    RATE_LIMITED = auto()
    UNREACHABLE = auto()
    AMBIGUOUS = auto()  # or refused for a reason that is no limit of the account


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission for one request, to be handed back with its outcome."""

    pause_count: int  # pauses of the limiter before this request left
    is_probe: bool
    submit: Submit | None = None


class RateLimiter:
    """Admits requests one by one: circuit breaker, ramp-up and concurrency ceiling, without learning.

    All times are seconds on one monotonic clock. `max_in_flight` is the ceiling of accepted, unfinished jobs (None for
    no ceiling). `max_concurrent` is the ceiling of outstanding requests. `retry` sets the backoff and the timeouts.
    """

    def __init__(self, *, max_in_flight: int | None, max_concurrent: int, retry: Retry) -> None:
        self.in_flight: int = 0
        self._max_in_flight = max_in_flight
        self._max_concurrent = max_concurrent
        self._retry = retry
        self._state = LimiterState.ACTIVE
        self._cause = PauseCause.RATE_LIMITED
        self._window = 1
        self._outstanding = 0  # sent, outcome not reported yet
        self._pause_count = 0  # since the limiter was made
        self._pauses_in_a_row = 0  # since the last success
        self._ambiguous_in_a_row = 0
        self._resumes_at = 0.0
        self._scheduled_resume = 0.0  # when the pause would have ended if no job had finished
        self._was_idle = False  # no request was waiting at some time since the last one left
        self._blocked_since: float | None = None  # the first failure since the last success
        self._cause_since = 0.0  # the first failure with the present cause
        self._is_probe_early = False  # a finished job, not the clock, ended the pause
        self._was_early_probe_refused = False  # an early probe did not help during this row of pauses

    @property
    def is_paused(self) -> bool:
        """Whether requests are held back after a failure: paused, or waiting for the outcome of a probe."""
        return self._state is not LimiterState.ACTIVE

    def delay(self, now: float, *, reserved: int = 0) -> float | None:
        """Return the delay in seconds before the next request: 0 for now, None to wait for an event.

        `reserved` is the number of slots on the server that jobs with an ambiguous submit may occupy.
        """
        if self._state is LimiterState.PROBING or self._has_reached_ceiling(reserved):
            return None
        if self._state is LimiterState.PAUSED:
            return max(0.0, self._resumes_at - now)
        return None if self._outstanding >= self._window else self._extra_delay(now)

    def acquire(self, now: float) -> Permit:
        """Admit one request and return its permit. Call it only when `delay` has returned 0."""
        is_probe = self._state is LimiterState.PAUSED
        if is_probe:
            self._state = LimiterState.PROBING
            # The give-up timeout measures failed attempts. Time in which nothing was attempted does not count.
            if self._was_idle or now - self._resumes_at > give_up_after(self._retry):
                self._blocked_since = self._cause_since = now
        self._was_idle = False
        submit = self._record_send(now, is_probe=is_probe)
        self._outstanding += 1
        return Permit(self._pause_count, is_probe, submit)

    def on_idle(self) -> None:
        """Record that no request is waiting, or that the user resumed submissions. The give-up timeout restarts."""
        self._was_idle = True

    def on_success(self, permit: Permit, now: float, *, accepted: bool) -> None:
        """Record that the server handled this request. `accepted`: it started a job, which is in flight from now on."""
        self._outstanding -= 1
        self.in_flight += accepted
        self._ambiguous_in_a_row = 0
        if accepted:
            self._record_success(permit, now)
        if self._is_late(permit):
            return
        self._state = LimiterState.ACTIVE
        self._pauses_in_a_row = 0
        self._blocked_since = None
        self._was_early_probe_refused = False
        window = max(self._window + 1, self._first_window()) if permit.is_probe else self._window + 1
        self._window = min(self._max_concurrent, window)

    def on_rate_limited(self, permit: Permit, now: float, *, retry_after: float | None, jitter: float) -> None:
        """Record a 429. `retry_after` is its `Retry-After` in seconds, None without one; `jitter` is in [0, 1)."""
        self._outstanding -= 1
        if self._record_refusal(permit, now, retry_after):
            return
        if self._is_late(permit):
            if self._state is LimiterState.PAUSED:
                pause = self._late_pause_length(now, retry_after, jitter)
                self._resumes_at = max(self._resumes_at, now + pause)
        elif permit.is_probe and self._is_probe_early:
            self._return_to_schedule(now, retry_after, jitter)
        else:
            pause = self._pause_length(now, retry_after, self._pauses_in_a_row, jitter)
            self._start_pause(now, PauseCause.RATE_LIMITED, pause)

    def on_unreachable(self, permit: Permit, now: float, *, jitter: float) -> None:
        """Record that this request could not be sent. `jitter` is in [0, 1)."""
        self._outstanding -= 1
        if not self._is_late(permit):
            self._start_pause(now, PauseCause.UNREACHABLE, backoff(self._pauses_in_a_row, self._retry, jitter))

    def on_unavailable(self, permit: Permit, now: float, *, retry_after: float | None, jitter: float) -> None:
        """Record that the server refused this request, but for no limit of the account: it says nothing of those.

        If it were taken for one, a service that refuses everything for two of every four seconds would leave an account
        without limits at one submit a minute: 19 of 150 jobs in 150 s instead of all in 15 s.
        """
        self._outstanding -= 1
        pause = retry_delay(retry_after, self._pauses_in_a_row, self._retry, jitter)
        if not self._is_late(permit):
            self._start_pause(now, PauseCause.AMBIGUOUS, pause)
        elif retry_after is not None and self._state is LimiterState.PAUSED:
            self._resumes_at = max(self._resumes_at, now + pause)

    def on_ambiguous(self, permit: Permit, now: float, *, jitter: float) -> None:
        """Record that the outcome of this request is ambiguous. `jitter` is in [0, 1)."""
        self._outstanding -= 1
        self._ambiguous_in_a_row += 1
        if self._is_late(permit):
            return
        if permit.is_probe or self._ambiguous_in_a_row >= _AMBIGUOUS_IN_A_ROW:
            self._start_pause(now, PauseCause.AMBIGUOUS, backoff(self._pauses_in_a_row, self._retry, jitter))

    def on_not_sent(self, permit: Permit) -> None:
        """Return the permit of a request that was withdrawn before it left. After a probe, the next request probes."""
        self._outstanding -= 1
        if permit.is_probe and not self._is_late(permit):
            self._state = LimiterState.PAUSED

    def job_started(self) -> None:
        """Count a job that is in flight although this limiter did not admit it: one resumed or attached."""
        self.in_flight += 1

    def job_finished(self, now: float) -> None:
        """Record that a job in flight is known to have finished on the server, which may have freed a slot."""
        self.in_flight = max(0, self.in_flight - 1)
        is_rate_limited = self._state is LimiterState.PAUSED and self._cause is PauseCause.RATE_LIMITED
        if is_rate_limited and not self._was_early_probe_refused and self._may_probe_early():
            if not self._is_probe_early:
                self._scheduled_resume = self._resumes_at
            self._is_probe_early = self._is_probe_early or self._resumes_at > now
            self._resumes_at = min(self._resumes_at, now)

    def should_give_up(self, now: float) -> bool:
        """Return whether to give up: unreachable for the retry timeout, or nothing but failures for much longer.

        With jobs in flight only an outage counts: an account at its concurrency limit refuses submits until one ends.
        """
        if self._blocked_since is None:
            return False
        if self._cause is PauseCause.UNREACHABLE and now - self._cause_since > self._retry.timeout:
            return True
        return now - self._blocked_since > give_up_after(self._retry) and self.in_flight == 0

    # Overridden by AdaptiveRateLimiter

    def _extra_delay(self, now: float) -> float | None:
        """Return the delay in seconds that learned limits add while active; None to wait for an event."""
        return 0.0

    def _record_send(self, now: float, *, is_probe: bool) -> Submit | None:
        """Record that a request leaves, before it is counted as outstanding."""
        return None

    def _record_success(self, permit: Permit, now: float) -> None:
        """Record that a submit was accepted. Its job is already counted in `in_flight`."""

    def _first_window(self) -> int:
        """Return how many requests may be outstanding directly after a probe has ended a pause."""
        return 1

    def _record_refusal(self, permit: Permit, now: float, retry_after: float | None) -> bool:
        """Record a 429. Return whether it is harmless: then it starts no pause."""
        return False

    def _pause_length(self, now: float, retry_after: float | None, attempt: int, jitter: float) -> float:
        """Return the length in seconds of a pause after a 429, the first one in a row being attempt 0."""
        return retry_delay(retry_after, attempt, self._retry, jitter)

    def _late_pause_length(self, now: float, retry_after: float | None, jitter: float) -> float:
        """Return how long to stay paused, in seconds, after a 429 to a request that left before the pause."""
        return 0.0 if retry_after is None else self._pause_length(now, retry_after, 0, jitter)

    def _may_probe_early(self) -> bool:
        """Return whether a finished job may end a pause early."""
        return True

    # Inner workings

    def _is_late(self, permit: Permit) -> bool:
        """Return whether the request left before the last pause began: its outcome says nothing about the present."""
        return permit.pause_count != self._pause_count

    def _has_reached_ceiling(self, reserved: int = 0) -> bool:
        return self._max_in_flight is not None and self.in_flight + self._outstanding + reserved >= self._max_in_flight

    def _return_to_schedule(self, now: float, retry_after: float | None, jitter: float) -> None:
        """Pause again after an early probe was refused, until the time at which the pause would have ended anyway.

        The refusal does not lengthen the backoff: the probe left before its time.
        """
        self._was_early_probe_refused = True
        pause = self._scheduled_resume - now
        if retry_after is not None:
            pause = max(pause, self._pause_length(now, retry_after, 0, jitter))
        self._pauses_in_a_row -= 1
        self._start_pause(now, PauseCause.RATE_LIMITED, max(0.0, pause))

    def _start_pause(self, now: float, cause: PauseCause, seconds: float) -> None:
        if self._blocked_since is None:
            self._blocked_since = self._cause_since = now
        elif cause is not self._cause:
            self._cause_since = now  # an outage has lasted since it began, not since an earlier failure
        self._state = LimiterState.PAUSED
        self._cause = cause
        self._pause_count += 1
        self._pauses_in_a_row += 1
        self._window = 1
        self._resumes_at = now + seconds
        self._is_probe_early = False
