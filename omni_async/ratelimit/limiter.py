"""What decides when the next request may leave: fed with events and times, it answers; it never waits.

Theory of operation. The gate is *open*, *closed*, or *probing*. Open, it lets through what capacity and a window of
requests on the wire allow; the window begins with one and grows by one with each request let through, so that traffic
after a pause (and at the very start, when not even the key has been proved) ramps up and does not burst. A refusal
(429) closes it for everybody. When the pause is over, or a job finishes on the server, exactly one probe leaves: what
becomes of it opens the gate or closes it again for longer. Refusals of requests that had left before the closing
count as that same closing; each request carries a `Permit` that tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from .adaptive import LearnedLimits, Learner, SendSample
from .backoff import backoff, give_up_after, retry_delay
from .throughput import Throughput

if TYPE_CHECKING:
    from ..settings import Retry


_AMBIGUOUS_IN_A_ROW = 5  # so many unclear outcomes without a clear one: the server is in trouble, not the request


class _State(Enum):
    ACTIVE = auto()
    PAUSED = auto()
    PROBING = auto()


class _Cause(Enum):
    """Why the gate is closed; it decides for how long one keeps trying."""

    REFUSED = auto()
    UNREACHABLE = auto()
    TROUBLE = auto()


@dataclass(frozen=True, slots=True)
class Permit:
    """One request let through; to be handed back with what became of it."""

    pause: int  # how often the gate had closed when it left
    is_probe: bool
    sample: SendSample | None = None  # how it left, where the gate learns


class RateLimiter:
    """Lets requests through one by one. Times are of any one clock that only moves forward, in seconds.

    `capacity` is how many accepted jobs may be unfinished at once (None: no ceiling), `width` how many requests may
    be on the wire at once. With a `learner` it finds the account's limits and keeps just within them.
    """

    def __init__(
        self, *, max_in_flight: int | None, max_concurrent: int, retry: Retry, learner: Learner | None = None
    ) -> None:
        self.in_flight = 0
        self.throughput = Throughput()
        self._max_in_flight = max_in_flight
        self._max_concurrent = max_concurrent
        self._retry = retry
        self._learner = learner
        self._state = _State.ACTIVE
        self._cause = _Cause.REFUSED
        self._window = 1
        self._sending = 0
        self._pauses = 0  # ever
        self._in_a_row = 0  # closings since a request was last let through
        self._ambiguous_in_a_row = 0
        self._resumes_at = 0.0
        self._planned_at = 0.0  # when it would have opened, had no job finished
        self._was_idle = False  # for a while, nobody wanted through
        self._paused_since: float | None = None  # since when nothing has been let through
        self._cause_since = 0.0  # since when it has been for the present cause
        self._early_probe = False  # the last probe left because a job finished
        self._early_allowed = True  # ... which in this closing has not failed yet

    def delay(self, now: float, *, reserved: int = 0) -> float | None:
        """Give the seconds until the next request may leave: 0 means now, None means not before an event.

        `held` is how many places on the server may be held by others of which nothing is known.
        """
        if self._is_full(reserved) or self._state is _State.PROBING:
            return None
        if self._state is _State.PAUSED:
            return max(0.0, self._resumes_at - now)
        if self._learner is None:
            return 0.0 if self._sending < self._window else None
        return self._learner.delay(now, in_flight=self.in_flight, sending=self._sending, window=self._window)

    def load(self, learnt: LearnedLimits) -> None:
        """Begin with limits that were found at another time; before the first request."""
        if self._learner:
            self._learner.load(learnt)

    def learned(self) -> LearnedLimits:
        """Give the limits found so far."""
        return self._learner.learned() if self._learner else LearnedLimits()

    @property
    def is_full(self) -> bool:
        """Tell whether those who want through wait for a job to finish, as far as is known."""
        if self._learner is None or self._is_full(0):
            return self._is_full(0)
        at_once = self._learner.learned().max_in_flight
        if self._state is _State.ACTIVE:
            return at_once is not None and self.in_flight + self._sending >= at_once
        return self._cause is _Cause.REFUSED and self._learner.may_probe_early()

    @property
    def is_paused(self) -> bool:
        """Tell whether something has closed it, and nothing has come through since."""
        return self._state is not _State.ACTIVE

    def on_idle(self) -> None:
        """Take note that nobody wants through for now, or that whoever comes next comes with new patience."""
        self._was_idle = True
        self.throughput.on_idle()
        if self._learner:
            self._learner.on_idle()

    def acquire(self, now: float) -> Permit:
        """Let one request through; only after `opens_in` gave 0."""
        is_probe = self._state is _State.PAUSED
        if is_probe:
            self._state = _State.PROBING
            if self._was_idle or now - self._resumes_at > give_up_after(self._retry):
                self._paused_since = self._cause_since = now  # time in which nobody asks tries no patience
        self._was_idle = False
        departure = None
        if self._learner:
            departure = self._learner.on_send(now, in_flight=self.in_flight, sending=self._sending, is_probe=is_probe)
        self._sending += 1
        return Permit(self._pauses, is_probe, departure)

    def on_success(self, permit: Permit, now: float | None = None, *, accepted: bool) -> None:
        """Take note that the server let this request through; `accepted` if a job is in flight from now on."""
        self._sending -= 1
        self.in_flight += accepted
        self._ambiguous_in_a_row = 0
        is_late = permit.pause != self._pauses
        if accepted:
            self._learn_acceptance(permit, now, is_late=is_late)
        if is_late:
            return  # it left before the gate closed, and tells nothing about now
        self._state = _State.ACTIVE
        self._in_a_row = 0
        self._paused_since = None
        self._early_allowed = True
        self._window = min(self._max_concurrent, self._window + 1)

    def on_rate_limited(self, permit: Permit, now: float, *, retry_after: float | None, jitter: float) -> None:
        """Take note of a 429, with the server's advice (`Retry-After`, seconds) if it gave any."""
        self._sending -= 1
        is_late = permit.pause != self._pauses
        if self._learner and permit.sample:
            may_mend = not permit.is_probe and not is_late
            if self._learner.is_harmless(permit.sample, self.in_flight, now, is_late=not may_mend):
                return
            if is_late:
                self._learner.on_rate_limited_late(permit.sample)
            else:
                self._learner.on_rate_limited(permit.sample, self.in_flight, retry_after)
        if is_late:
            if self._state is _State.PAUSED and (retry_after is not None or self._learner):
                self._resumes_at = max(self._resumes_at, now + self._pause_length(now, retry_after, 0, jitter))
        elif permit.is_probe and self._early_probe:
            self._refuse_early(now, retry_after, jitter)
        else:
            self._start_pause(now, _Cause.REFUSED, self._pause_length(now, retry_after, self._in_a_row, jitter))

    def on_unreachable(self, permit: Permit, now: float, *, jitter: float) -> None:
        """Take note that this request could not even be sent."""
        self._sending -= 1
        if permit.pause == self._pauses:
            self._start_pause(now, _Cause.UNREACHABLE, backoff(self._in_a_row, self._retry, jitter))

    def on_ambiguous(self, permit: Permit, now: float, *, jitter: float) -> None:
        """Take note that nobody knows what became of this request."""
        self._sending -= 1
        self._ambiguous_in_a_row += 1
        if permit.pause != self._pauses:
            return
        if permit.is_probe or self._ambiguous_in_a_row >= _AMBIGUOUS_IN_A_ROW:
            self._start_pause(now, _Cause.TROUBLE, backoff(self._in_a_row, self._retry, jitter))

    def on_not_sent(self, permit: Permit) -> None:
        """Take back a request that never left; a probe's place is free again at once."""
        self._sending -= 1
        if permit.is_probe and permit.pause == self._pauses:
            self._state = _State.PAUSED

    def job_started(self) -> None:
        """Count a job that is in flight without having left through this gate."""
        self.in_flight += 1

    def job_finished(self, now: float, *, ended_at: float | None = None) -> None:
        """Take note that a job in flight has ended on the server (some time ago), which may have freed a place."""
        self.in_flight = max(0, self.in_flight - 1)
        if self._learner:
            self._learner.on_job_ended(now if ended_at is None else ended_at, now)
        if self._state is _State.PAUSED and self._cause is _Cause.REFUSED and self._early_allowed:
            if self._learner and not self._learner.may_probe_early():
                return
            if not self._early_probe:
                self._planned_at = self._resumes_at
            self._early_probe = self._early_probe or self._resumes_at > now
            self._resumes_at = min(self._resumes_at, now)

    def should_give_up(self, now: float) -> bool:
        """Tell whether asking on is pointless: no way to the server for a budget, or nothing but no for far longer."""
        if self._paused_since is None:
            return False
        if self._cause is _Cause.UNREACHABLE and now - self._cause_since > self._retry.timeout:
            return True
        return now - self._paused_since > give_up_after(self._retry) and self.in_flight == 0

    def _learn_acceptance(self, permit: Permit, now: float | None, *, is_late: bool) -> None:
        if now is not None:
            self.throughput.on_accepted(now)
        if self._learner is None or permit.sample is None:
            return
        if now is not None:
            self._learner.on_answer(permit.sample, now)
        others = self.in_flight - 1
        if is_late:
            self._learner.on_accepted_late(permit.sample)
        elif permit.is_probe:
            self._learner.on_probe_accepted(permit.sample, others)
        else:
            self._learner.on_accepted(permit.sample, others)

    def _refuse_early(self, now: float, retry_after: float | None, jitter: float) -> None:
        """Close again after a probe that left because a job had finished: time has to open, as it would have anyway."""
        self._early_allowed = False
        if self._learner is None:
            self._start_pause(now, _Cause.REFUSED, self._pause_length(now, retry_after, self._in_a_row, jitter))
            return
        self._learner.on_early_probe_refused()
        planned = self._planned_at - now
        pause = planned if retry_after is None else max(planned, self._pause_length(now, retry_after, 0, jitter))
        self._in_a_row -= 1
        self._start_pause(now, _Cause.REFUSED, max(0.0, pause))

    def _pause_length(self, now: float, retry_after: float | None, in_a_row: int, jitter: float) -> float:
        if self._learner is None:
            return retry_delay(retry_after, in_a_row, self._retry, jitter)
        return self._learner.pause_length(now, retry_after, in_a_row, jitter)

    def _is_full(self, held: int) -> bool:
        return self._max_in_flight is not None and self.in_flight + self._sending + held >= self._max_in_flight

    def _start_pause(self, now: float, cause: _Cause, pause: float) -> None:
        if self._paused_since is None:
            self._paused_since = self._cause_since = now
        elif cause is not self._cause:
            self._cause_since = now  # an outage has lasted since it began, not since an earlier trouble did
        self._state = _State.PAUSED
        self._cause = cause
        self._pauses += 1
        self._in_a_row += 1
        self._window = 1
        self._resumes_at = now + pause
        self._early_probe = False
