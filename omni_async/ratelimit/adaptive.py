"""What one account has shown of its limits: the rate and the capacity, fed with the same events, and told apart.

Time opens a rate, a finished job opens a capacity; both may hold at once. A refusal is taken for the rate's, until
`Capacity` shows that it was its own; the rate is then put back to what it was before.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .concurrency import ConcurrencyEstimator
from .rate import RateEstimator

if TYPE_CHECKING:
    from ..settings import Retry


_LONELY = 0.6  # with fewer in flight than so much of what a refusal met, it may well have been a capacity's
_CALM = 5  # requests accepted in a row, after which earlier refusals were the rate's and nobody else's


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedLimits:
    """Limits that were found, as plain numbers to be kept and begun with another time.

    `per_second` and `at_once` are None where no such limit was met. `burst` is how many were let through before the
    rate was felt; 0 if hardly any.
    """

    per_second: float | None = None
    max_in_flight: int | None = None
    burst: int = 0


@dataclass(frozen=True, slots=True)
class SendSample:
    """How one request left."""

    sent_at: float
    pace: float  # that it kept; 0 if it left later than it might have
    in_flight: int
    is_extra: bool  # beyond the capacity, to see whether that has grown


class Learner:
    """Finds the limits of one account. `told` is a rate, per second, that the user names, and somebody else keeps.

    What was learnt at another time is begun with, not believed: it is given up at the first refusals that contradict
    it, and more is asked for after a while, as of any other limit.
    """

    def __init__(self, retry: Retry, *, configured: float | None = None, learned: LearnedLimits | None = None) -> None:
        self._configured = configured
        self._retry = retry
        self._before: RateEstimator | None = None  # the rate as it was before refusals that may be the capacity's
        self._in_a_row = 0
        self._left_with = 0  # in flight when the last one left, and on the wire
        self._met = 0  # jobs in flight that the last refusal met
        self.load(learned or LearnedLimits())

    def load(self, learned: LearnedLimits) -> None:
        """Begin with what was learnt at another time."""
        low = 0.0 if self._configured else learned.per_second or 0.0
        self._rate = RateEstimator(self._retry, configured=self._configured, lower=low, burst=learned.burst)
        self._concurrency = ConcurrencyEstimator(self._retry, limit=learned.max_in_flight)

    def learned(self) -> LearnedLimits:
        """Give what has been found."""
        return LearnedLimits(per_second=self._rate.found, max_in_flight=self._concurrency.limit, burst=self._rate.burst)

    def delay(self, now: float, *, in_flight: int, sending: int, window: int) -> float | None:
        """Give the seconds until one more may leave, as far as the limits are known; None if not before an event."""
        if sending >= self._rate.max_concurrent(window):
            return None
        wait = self._rate.delay(now)
        if not self._concurrency.is_full(in_flight + sending):
            return wait
        return None if sending else max(wait, self._concurrency.delay_before_trial(now))

    def on_send(self, now: float, *, in_flight: int, sending: int, is_probe: bool) -> SendSample:
        """Take note that one leaves."""
        is_extra = self._concurrency.is_full(in_flight + sending) and not is_probe
        is_lonely = in_flight + sending < min(_LONELY * self._met, self._left_with)
        self._left_with = in_flight + sending
        return SendSample(now, self._rate.on_send(now, is_lonely=is_lonely), in_flight, is_extra)

    def on_idle(self) -> None:
        """Take note that nobody wants through for now: that fewer are in flight then proves nothing."""
        self._left_with = 0
        self._rate.on_idle()

    # Accepted

    def on_answer(self, departure: SendSample, now: float) -> None:
        """Take note that an answer came."""
        self._rate.latency = now - departure.sent_at

    def on_accepted(self, departure: SendSample, in_flight: int) -> None:
        """Take note that it was accepted, while the gate was open; so many others are in flight now."""
        in_flight = min(departure.in_flight, in_flight)
        if departure.is_extra:
            self._concurrency.on_trial(departure.sent_at, has_grown=in_flight >= departure.in_flight)
        self._concurrency.on_accepted(in_flight, departure.sent_at)
        self._rate.on_accepted(departure.sent_at, departure.pace)
        if self._rate.is_refuted:
            self._look_back(departure.sent_at)
        self._in_a_row += 1
        if self._in_a_row >= _CALM and not self._concurrency.has_candidate:
            self._before = None

    def on_accepted_late(self, departure: SendSample) -> None:
        """Take note that one was accepted which had left before the gate closed."""
        self._rate.on_accepted_late(departure.sent_at)

    def on_probe_accepted(self, departure: SendSample, in_flight: int) -> None:
        """Take note that the probe was accepted; so many others are in flight now."""
        if not self._rate.is_paused:  # what had closed the gate was no refusal
            self.on_accepted(departure, in_flight)
            return
        in_flight = min(departure.in_flight, in_flight)
        is_capacity = self._concurrency.on_probe_accepted(in_flight, departure.sent_at)
        if is_capacity and self._before is not None:
            self._rate, self._before = self._before, None
            self._rate.resume(departure.sent_at)
        elif not is_capacity:
            self._rate.on_resumed(departure.sent_at)
        self._concurrency.on_accepted(in_flight, departure.sent_at)

    def on_job_ended(self, ended_at: float, now: float) -> None:
        """Take note that a job has ended on the server, which is known only now."""
        self._concurrency.on_job_ended(ended_at)
        self._look_back(now)

    def _look_back(self, now: float) -> None:
        """See whether the capacity explains all that was refused of late; then the rate has nothing to do with it."""
        if self._concurrency.explains_all(now, is_alone=self._rate.is_refuted):
            self._rate, self._before = self._before or RateEstimator(self._retry, configured=self._configured), None
            self._rate.resume(now)

    # Refused

    def is_harmless(self, departure: SendSample, in_flight: int, now: float, *, is_late: bool) -> bool:
        """Tell whether a refusal only shows that the capacity has not grown: the next job that finishes mends it."""
        if departure.is_extra:
            self._concurrency.on_trial(now, has_grown=False)
            return True
        return not is_late and self._concurrency.revises(max(departure.in_flight, in_flight), now)

    def on_rate_limited(self, departure: SendSample, in_flight: int, retry_after: float | None) -> None:
        """Take note that one was refused, with so many others in flight."""
        self._in_a_row = 0
        if self._before is None:
            self._before = copy.copy(self._rate)
        self._met = max(departure.in_flight, in_flight)
        self._concurrency.on_rate_limited(self._met, departure.sent_at, is_first=self._rate.is_ramping)
        self._rate.on_rate_limited(departure.sent_at, self._sensible(retry_after))
        self._look_back(departure.sent_at)

    def on_rate_limited_late(self, departure: SendSample) -> None:
        """Take note that one was refused which had left before the gate closed."""
        self._rate.on_rate_limited_late(departure.sent_at)

    def may_probe_early(self) -> bool:
        """Tell whether a job that finishes is worth a probe."""
        return self._concurrency.may_probe_early

    def on_early_probe_refused(self) -> None:
        """Take note that such a probe was refused."""
        self._concurrency.on_early_probe_refused()

    def pause_length(self, now: float, retry_after: float | None, in_a_row: int, jitter: float) -> float:
        """Give the seconds until a probe should leave: as advised, or, where that did not help, as computed."""
        own = self._rate.pause_length(now, in_a_row, jitter)
        sensible = self._sensible(retry_after)
        if sensible is not None:
            return max(sensible * (1 + jitter / 20), own if in_a_row else 0.0)
        stretched = self._retry.wait_initial * 2.0 ** min(in_a_row, 60)
        if not retry_after or retry_after < 0 or stretched <= self._retry.wait_max:
            return own
        return max(own, min(stretched, self._retry.timeout))  # not believed at first, but it seems to be true

    def _sensible(self, retry_after: float | None) -> float | None:
        """Give the advice if anybody would wait for so long. What no budget bears says no more than none."""
        return retry_after if retry_after and 0 < retry_after <= self._retry.timeout else None
