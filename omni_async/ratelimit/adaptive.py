"""`AdaptiveRateLimiter`: finds an account's limits from what it accepts and refuses. The submitter uses it.

Theory of operation. An account may limit submits per time (a rate limit), unfinished jobs (a concurrency limit), or
both. Waiting lifts a rate limit; a finished job lifts a concurrency limit. One estimator exists for each, and both see
the same events. A 429 first counts against the rate. Once `ConcurrencyEstimator` shows that the refusals were its own,
the rate estimator is put back to its state before them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .backoff import RETRY_AFTER_JITTER, doubled
from .concurrency import ConcurrencyEstimator
from .limiter import LimiterState, PauseCause, Permit, RateLimiter, SendSample
from .rate import RateEstimator
from .throughput import Throughput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..settings import Retry


# With fewer jobs in flight than this share of those at the last refusal, the rate may be far too low. Figures as in
# rate.py. Half (0.3): 25 -> 17 refusals an hour for a moving rate, but 2 % less of one with 10 saved up is used. Nearly
# double (0.95): refused .105 -> .164 for 2/s and 10 in flight, because higher rates are tried too often.
_LOW_SHARE = 0.6

# Requests accepted in a row after which earlier refusals are attributed to the rate limit for good. Half (2): medians
# change by 3 % at most. Double (10): refused .105 -> .139 for 2/s and 10 in flight, because true rates are discarded.
_SETTLED_COUNT = 5

# The format of snapshots. Increase it whenever a key is added, renamed or removed, or changes its meaning.
_SNAPSHOT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedLimits:
    """The limits found so far, for statistics and for the next run. None where no limit was met.

    `per_second` is in submits per second. `burst` is how many were accepted before the rate limit took effect: 0 if
    hardly any.
    """

    per_second: float | None = None
    max_in_flight: int | None = None
    burst: int = 0


class AdaptiveRateLimiter(RateLimiter):
    """A rate limiter that finds the limits of one account and stays just below them.

    `configured_rate` is the user's own rate in submits per second, None if not set. A `Pacer` keeps it; this class only
    learns whether the account accepts it. The other arguments are those of `RateLimiter`.
    """

    def __init__(
        self, *, max_in_flight: int | None, max_concurrent: int, retry: Retry, configured_rate: float | None = None
    ) -> None:
        super().__init__(max_in_flight=max_in_flight, max_concurrent=max_concurrent, retry=retry)
        self.throughput: Throughput = Throughput()
        self._configured_rate = configured_rate
        self._rate_before: RateEstimator | None = None  # before refusals that the concurrency limit may explain
        self._accepted_in_a_row = 0
        self._busy_at_last_send = 0  # jobs in flight and requests outstanding
        self._in_flight_at_refusal = 0  # jobs in flight at the last 429
        self.load(LearnedLimits())

    def load(self, learned: LearnedLimits) -> None:
        """Start from limits that an earlier run has found, however long ago. Call it before the first request.

        They are a starting point: refusals lower them, and higher rates are tried after a while.
        """
        lower = 0.0 if self._configured_rate else learned.per_second or 0.0
        self._rate = RateEstimator(self._retry, configured=self._configured_rate, lower=lower, burst=learned.burst)
        self._concurrency = ConcurrencyEstimator(self._retry, limit=learned.max_in_flight)

    def learned(self) -> LearnedLimits:
        """Return the limits found so far."""
        return LearnedLimits(per_second=self._rate.limit, max_in_flight=self._concurrency.limit, burst=self._rate.burst)

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return the state as JSON values, for a limiter in another process that takes over the account.

        It holds what is true for seconds, not for the next run: the bracket of the rate, the pace, the present pause.
        Jobs in flight are not part of it. Times are relative to `now`.
        """
        pause = None
        if self._state is not LimiterState.ACTIVE:
            seconds = max(0.0, self._resumes_at - now)
            pause = {"cause": self._cause.name, "seconds": seconds, "in_a_row": self._pauses_in_a_row}
        rate, concurrency = self._rate.snapshot(now), self._concurrency.snapshot()
        return {"version": _SNAPSHOT_VERSION, "rate": rate, "concurrency": concurrency, "pause": pause}

    def restore(self, snapshot: Mapping[str, Any], now: float) -> None:
        """Continue from a snapshot that was taken when this limiter's clock showed `now`, which may be in the past.

        Call it before the first request. A snapshot of an unknown version is ignored: the limits are learned anew. If
        this limiter has a configured rate, the rate in the snapshot is ignored.
        """
        if snapshot.get("version") != _SNAPSHOT_VERSION:
            return
        self.load(LearnedLimits())
        if not self._configured_rate:
            self._rate.restore(snapshot["rate"], now)
        self._concurrency.restore(snapshot["concurrency"])
        if pause := snapshot["pause"]:
            self._start_pause(now, PauseCause[pause["cause"]], pause["seconds"])
            self._pauses_in_a_row = pause["in_a_row"]

    @property
    def is_full(self) -> bool:
        """Whether submits wait for a job to finish, as far as is known."""
        if self._has_reached_ceiling():
            return True
        if self._state is LimiterState.ACTIVE:
            return self._concurrency.is_full(self.in_flight + self._outstanding)
        return self._cause is PauseCause.RATE_LIMITED and self._may_probe_early()

    def on_idle(self) -> None:
        """Record that no request is waiting: a low number in flight means nothing then."""
        super().on_idle()
        self.throughput.on_idle()
        self._busy_at_last_send = 0
        self._rate.on_idle()

    def job_finished(self, now: float, *, ended_at: float | None = None) -> None:
        """Record that a job finished on the server at `ended_at` (None for now), which is known only at `now`."""
        self._concurrency.on_job_ended(now if ended_at is None else ended_at)
        self._reassign_refusals(now)
        super().job_finished(now)

    def _extra_delay(self, now: float) -> float | None:
        if self._outstanding >= self._rate.max_concurrent(self._window):
            return None
        delay = self._rate.delay(now)
        if not self._concurrency.is_full(self.in_flight + self._outstanding):
            return delay
        return None if self._outstanding else max(delay, self._concurrency.delay_before_extra(now))

    def _record_send(self, now: float, *, is_probe: bool) -> SendSample:
        busy = self.in_flight + self._outstanding
        is_extra = self._concurrency.is_full(busy) and not is_probe
        may_be_too_low = busy < min(_LOW_SHARE * self._in_flight_at_refusal, self._busy_at_last_send)
        self._busy_at_last_send = busy
        return SendSample(now, self._rate.on_send(now, may_be_too_low=may_be_too_low), self.in_flight, is_extra)

    # Accepted

    def _record_success(self, permit: Permit, now: float) -> None:
        sample, others = _sample_of(permit), self.in_flight - 1
        self.throughput.on_accepted(now)
        self._rate.latency = now - sample.sent_at
        if self._is_late(permit):
            self._rate.on_accepted_late(sample.sent_at)
        elif permit.is_probe and self._rate.is_paused:
            self._learn_from_probe(sample, min(sample.in_flight, others))
        else:
            self._learn_from_success(sample, min(sample.in_flight, others))

    def _learn_from_success(self, sample: SendSample, in_flight: int) -> None:
        if sample.is_extra:
            self._concurrency.on_extra(sample.sent_at, accepted=in_flight >= sample.in_flight)
        self._concurrency.on_accepted(in_flight, sample.sent_at)
        self._rate.on_accepted(sample.sent_at, sample.pace)
        if self._rate.is_disproved:
            self._reassign_refusals(sample.sent_at)
        self._accepted_in_a_row += 1
        if self._accepted_in_a_row >= _SETTLED_COUNT and not self._concurrency.has_candidate:
            self._rate_before = None

    def _learn_from_probe(self, sample: SendSample, in_flight: int) -> None:
        """Learn from the first success after refusals: a rate limit was lifted, or a slot has become free."""
        is_concurrency = self._concurrency.on_probe_accepted(in_flight, sample.sent_at)
        if is_concurrency and self._rate_before is not None:
            self._restore_rate(self._rate_before, sample.sent_at)
        elif not is_concurrency:
            self._rate.on_resumed(sample.sent_at)
        self._concurrency.on_accepted(in_flight, sample.sent_at)

    def _reassign_refusals(self, now: float) -> None:
        """Attribute the recent refusals to the concurrency limit if it explains all of them."""
        if self._concurrency.explain_refusals(now, is_rate_disproved=self._rate.is_disproved):
            before = self._rate_before or RateEstimator(self._retry, configured=self._configured_rate)
            self._restore_rate(before, now)

    def _restore_rate(self, before: RateEstimator, now: float) -> None:
        self._rate, self._rate_before = before, None
        self._rate.on_restored(now)

    # Refused

    def _record_refusal(self, permit: Permit, now: float, retry_after: float | None) -> bool:
        sample, is_late = _sample_of(permit), self._is_late(permit)
        if sample.is_extra:  # the limit has not risen; the next job that finishes makes room again
            self._concurrency.on_extra(now, accepted=False)
            return True
        in_flight = max(sample.in_flight, self.in_flight)
        if not is_late and not permit.is_probe and self._concurrency.take_back_slot(in_flight, now):
            return True
        if is_late:
            self._rate.on_rate_limited_late(sample.sent_at)
        else:
            self._learn_from_refusal(sample, in_flight, retry_after)
            if permit.is_probe and self._is_probe_early:
                self._concurrency.on_early_probe_refused()
        return False

    def _learn_from_refusal(self, sample: SendSample, in_flight: int, retry_after: float | None) -> None:
        self._accepted_in_a_row = 0
        if self._rate_before is None:
            self._rate_before = copy.copy(self._rate)
        self._in_flight_at_refusal = in_flight
        self._concurrency.on_rate_limited(in_flight, sample.sent_at, is_first=self._rate.is_ramping)
        self._rate.on_rate_limited(sample.sent_at, self._plausible(retry_after))
        self._reassign_refusals(sample.sent_at)

    def _may_probe_early(self) -> bool:
        return self._concurrency.may_probe_early

    def _pause_length(self, now: float, retry_after: float | None, attempt: int, jitter: float) -> float:
        """Return the pause that the server asked for, or the computed one where waiting for that did not help."""
        own = self._rate.pause_length(now, attempt, jitter)
        plausible = self._plausible(retry_after)
        if plausible is not None:
            return max(plausible * (1 + jitter / RETRY_AFTER_JITTER), own if attempt else 0.0)
        stretched = doubled(self._retry.wait_initial, attempt)
        if not retry_after or retry_after < 0 or stretched <= self._retry.wait_max:
            return own
        return max(own, min(stretched, self._retry.timeout))  # the implausible Retry-After seems to be true

    def _late_pause_length(self, now: float, retry_after: float | None, jitter: float) -> float:
        """Return the pause as computed now, also without Retry-After: the refusal may have lowered the rate."""
        return self._pause_length(now, retry_after, 0, jitter)

    def _plausible(self, retry_after: float | None) -> float | None:
        """Return `retry_after` if it is positive and at most the retry timeout, else None."""
        return retry_after if retry_after and 0 < retry_after <= self._retry.timeout else None


def _sample_of(permit: Permit) -> SendSample:
    assert permit.sample is not None, "an adaptive limiter records a sample with each permit"
    return permit.sample
