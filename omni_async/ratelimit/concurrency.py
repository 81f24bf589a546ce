"""`ConcurrencyEstimator`: how many unfinished jobs an account allows. `AdaptiveRateLimiter` uses it.

Theory of operation. A refusal with F jobs in flight makes F a *candidate*. F is the limit if another request is refused
at F and the next one is then accepted because a job has finished. A single request accepted at F, or refused below F,
rules it out. Below a known limit there are no refusals and no pauses: each finished job frees a slot. Limits may be
raised, so one *extra* job is submitted from time to time. The wait before it doubles with each refusal (additive
increase). Where it is accepted, the next extra follows immediately.

Both ends of a job are noticed late: a job that is still in flight here may have finished on the server. A refusal is
therefore counted with the larger of the numbers in flight before and after it, an acceptance with the smaller. When a
finished job is noticed, the requests sent since then are recounted. Refusals that looked like a rate limit may then
show a concurrency limit.

The figures beside the constants mean the same as in rate.py.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..settings import Retry


# Refusals at one number in flight, with nothing accepted at it, that make it the limit. Half (1): 29 -> 55 refusals an
# hour for a moving rate with 10 saved up, as rate limits pass for concurrency limits. Double (4): refused .061 -> .077
# for 12 in flight without Retry-After.
_MIN_REFUSALS = 2

# So many refusals more are needed where a rate limit is known, which may explain them as well. Half (0): 29 -> 65
# refusals an hour for a moving rate with 10 saved up. Double (2): worst makespan 1.05 -> 1.41 for 4/s and 12 in flight.
_EXTRA_REFUSALS = 1

# Seconds before the first extra job, in units of `Retry.wait_initial`. Half (5): refused .165 -> .189 for 2/s and 10 in
# flight with finished jobs noticed 1.5 s late. Double (20): .130 there, but a raised limit is used later.
_GROWTH_WAIT = 10

# Refusals that must agree about one number after recounting. Half (1): makespan 1.31 -> 1.40 for 12 in flight with
# finished jobs noticed 1.5 s late, because wrong limits are found. Double (4): 1.35 there.
_MIN_RECOUNTED = 2

# Smaller limits are not found by recounting: small numbers agree by chance. Half (4) changes no simulated account.
# Double (16): makespan 1.31 -> 1.43 for 12 in flight with finished jobs noticed 1.5 s late.
_SMALLEST_RECOUNTED = 8

# Requests accepted at most two below the number that was refused. They show that more were wanted than that number.
# Half (2): medians change by less than 5 % in either direction. Double (10): makespan 1.24 -> 1.31 for 12 in flight and
# answers after 1 s.
_MIN_NEAR = 5

# The last refusals that an explanation may start from. Half (2): worst makespan 1.57 -> 1.98 for 12 in flight with
# finished jobs noticed 1.5 s late. Double (10): no makespan changes.
_MAX_STARTS = 5

# Requests that are kept for recounting. Half (32): worst makespan 1.57 -> 1.69 for 12 in flight with finished jobs
# noticed 1.5 s late. Double (128): 3.06 -> 1.48 for 50 in flight, medians as before, and twice the work per refusal.
_REMEMBERED = 64


@dataclass(slots=True)
class _Observation:
    """The outcome of one request."""

    sent_at: float
    in_flight: int  # other jobs in flight, as far as is known by now
    is_refused: bool


class ConcurrencyEstimator:
    """The concurrency limit of one account, if there is one. `limit` comes from an earlier run."""

    def __init__(self, retry: Retry, *, limit: int | None = None) -> None:
        self.limit: int | None = limit
        self._retry = retry
        self._candidate: int | None = None
        self._refusals = 0  # with the candidate in flight
        self._needed_refusals = _MIN_REFUSALS
        self._was_early_probe_refused = False
        self._has_grown = False  # the last slot was added because an extra job was accepted
        self._growth_wait = _GROWTH_WAIT * retry.wait_initial  # seconds
        self._next_extra_at: float | None = None
        self._observations: deque[_Observation] = deque(maxlen=_REMEMBERED)

    @property
    def has_candidate(self) -> bool:
        """Whether the last refusals may be due to this limit."""
        return self._candidate is not None

    @property
    def may_probe_early(self) -> bool:
        """Whether a finished job is worth a probe: once for each candidate, and more often after several refusals."""
        return self._candidate is not None and (not self._was_early_probe_refused or self._refusals >= _MIN_REFUSALS)

    def is_full(self, in_flight: int) -> bool:
        """Return whether one more job would exceed the limit."""
        return self.limit is not None and in_flight >= self.limit

    def delay_before_extra(self, now: float) -> float:
        """Return the seconds until one job beyond the limit may be tried."""
        if self._next_extra_at is None:  # the limit comes from an earlier run, and has not been tried in this one
            self._next_extra_at = now + self._growth_wait
        return max(0.0, self._next_extra_at - now)

    def on_early_probe_refused(self) -> None:
        """Record that a probe after a finished job was refused all the same."""
        self._was_early_probe_refused = True

    def on_rate_limited(self, in_flight: int, sent_at: float, *, is_first: bool) -> None:
        """Record a refusal with `in_flight` other jobs. `is_first`: no limit of any kind had been met before."""
        self._observations.append(_Observation(sent_at, in_flight, is_refused=True))
        if in_flight == 0 or (self._candidate is not None and in_flight < self._candidate):
            self._candidate = None  # refused with fewer jobs as well, so it is another limit
        elif in_flight == self._candidate:
            self._refusals += 1
        else:
            self._candidate, self._refusals = in_flight, 1
            self._needed_refusals = _MIN_REFUSALS if is_first else _MIN_REFUSALS + _EXTRA_REFUSALS

    def on_accepted(self, in_flight: int, sent_at: float) -> None:
        """Record that a request was accepted with `in_flight` other jobs."""
        self._observations.append(_Observation(sent_at, in_flight, is_refused=False))
        if self._candidate is not None and in_flight >= self._candidate:
            self._candidate = None
        if self.limit is not None and in_flight >= self.limit:
            self.limit, self._has_grown = in_flight + 1, True

    def on_probe_accepted(self, in_flight: int, now: float) -> bool:
        """Record that a probe was accepted. Return whether this and the refusals before it show the limit."""
        if self._candidate is None or in_flight >= self._candidate or self._refusals < self._needed_refusals:
            return False
        self.limit, self._has_grown = self._candidate, False
        self._next_extra_at = now + self._growth_wait
        return True

    def on_job_ended(self, ended_at: float) -> None:
        """Record that a job finished at `ended_at`, which is known only now. Requests sent since then are recounted."""
        for observation in self._observations:
            if observation.sent_at > ended_at:
                observation.in_flight -= 1

    def explain_refusals(self, now: float, *, is_rate_disproved: bool) -> bool:
        """Set the limit if it explains the last refusals, and return whether it does.

        It does if all of them met one number in flight, as counted by now, and all acceptances met fewer. A limit that
        is already known can only be lowered. `is_rate_disproved`: no rate limit explains the refusals.
        """
        needed = _MIN_RECOUNTED if self.limit is None else _MIN_RECOUNTED + _EXTRA_REFUSALS
        limit = max(self._possible_limits(needed, is_rate_disproved=is_rate_disproved), default=0)
        if not limit or (self.limit is not None and self.limit <= limit):
            return False
        self.limit, self._has_grown = limit, False
        self._candidate, self._was_early_probe_refused = limit, False
        self._next_extra_at = now + self._growth_wait
        self._observations.clear()
        return True

    def _possible_limits(self, needed: int, *, is_rate_disproved: bool) -> Iterator[int]:
        """Yield limits that explain every outcome since one of the last refusals, `needed` refusals or more."""
        observations = list(self._observations)
        starts = [index for index, observation in enumerate(observations) if observation.is_refused]
        for start in starts[-_MAX_STARTS : 1 - needed]:
            since = observations[start:]
            refused = [observation.in_flight for observation in since if observation.is_refused]
            accepted = [observation.in_flight for observation in since if not observation.is_refused]
            limit = max(refused)
            if min(refused) < limit - 1 or not accepted or max(accepted) >= min(refused):
                continue
            near = sum(number >= limit - 2 for number in accepted) + len(refused) - _MIN_RECOUNTED
            if limit >= _SMALLEST_RECOUNTED and (is_rate_disproved or near >= _MIN_NEAR):
                yield limit

    def on_extra(self, now: float, *, accepted: bool) -> None:
        """Record the outcome of a job beyond the limit."""
        if accepted:
            self._growth_wait, self._next_extra_at = _GROWTH_WAIT * self._retry.wait_initial, now
        else:
            self._growth_wait = min(self._growth_wait * 2, max(self._retry.timeout, self._retry.wait_max))
            self._next_extra_at = now + self._growth_wait

    def take_back_slot(self, in_flight: int, now: float) -> bool:
        """Return whether a refusal with `in_flight` other jobs shows that the last added slot never existed.

        If so, the slot is removed. The job was accepted only because another one had finished unnoticed.
        """
        if not self._has_grown or self.limit is None or in_flight < self.limit - 1:
            return False
        self.limit, self._has_grown = max(1, in_flight), False
        self.on_extra(now, accepted=False)
        return True

    def snapshot(self) -> dict[str, Any]:
        """Return the limit as JSON values. Candidates are left out: they start again."""
        return {"limit": self.limit, "growth_wait": self._growth_wait}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot."""
        self.limit, self._growth_wait = snapshot["limit"], snapshot["growth_wait"]
