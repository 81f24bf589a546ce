"""`AdaptiveRateLimiter`: finds an account's limits from what it accepts and refuses. The submitter uses it.

Theory of operation. An account may limit submits per time (a rate limit), unfinished jobs (a concurrency limit), or
both. A 429 does not say which, so each refusal is explained by the simplest limit that explains it:

- With as many jobs in flight as a known concurrency limit allows, it is that limit. Nothing else is learned from it.
- Otherwise it counts against the rate at first, and the state of the rate estimator before it is kept.
- As soon as one number of jobs explains all of the last refusals (`SubmitLog.explain`), it becomes the concurrency
  limit, and the rate estimator is put back to its state before the first of them. Where a rate limit has been shown
  (a submit was accepted with as many in flight as another one that was refused), this needs a refusal that the rate
  limit does not explain: of a pace that had held, or of a request that left later than the rate allows. Where the time
  since the last accepted submit alone tells the refused ones from the others, it is the rate (`fits_plain_rate`).
- For a while this is a trial. If far more jobs turn out to be in flight, it was the rate after all, and what the rate
  estimator had made of those refusals is valid again.
- Refusals that come by chance, whatever this client does, show no limit (`judge`). The first of them in a row is no
  reason to pause, unless it has a Retry-After.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from .backoff import RETRY_AFTER_JITTER, backoff, doubled, retry_delay
from .chance import judge
from .concurrency import ConcurrencyLimit
from .learned import LearnedLimits
from .limiter import LimiterState, PauseCause, Permit, RateLimiter
from .rate import RateEstimator
from .submit_log import Explanation, Submit, SubmitLog
from .throughput import Throughput
from .tuning import MARGIN, RELIABLE_COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..settings import Retry


# Figures beside constants are from simulated accounts like those of tests/ratelimit, when each constant was chosen: the
# makespan relative to the least possible, and refusals per accepted job. "a -> b" compares the present value (a) with
# the one named (b). `python -m benchmarks.capacity` measures the whole client.

# Refusals, each after a pause, that make one number of jobs in flight the limit; and for numbers below `_SMALL`, which
# are met again by chance. One refusal would do for a concurrency limit, but the first refusal of every rate limit looks
# like one. With 2 for small numbers, too, a rate of 0.5/s passes for one: refused .06 -> .51, makespan 1.04 -> 1.17.
_MIN_REFUSALS = 2
_MIN_REFUSALS_OF_SMALL = 3
_SMALL = 8

# So many refusals that one number explains are not chance even where a rate limit is known. Without this rule, an
# account whose burst hides every contradiction keeps a false rate: worst makespan 1.08 -> 1.31 for 50 in flight.
_MANY_REFUSALS = 5

# A refusal with so many times fewer jobs in flight than a supposed limit was due to a rate limit. Without it, one seed
# of ten takes 20/s with 10 saved up for a limit of 131 in flight: makespan 1.07 -> 1.66.
_FAR_ABOVE = 1.5

# A refusal with this part of the limit missing is still due to it, because jobs end unnoticed. Without it the limit is
# taken for a rate each time it was found one too high: 1.06 -> 1.75 (worst) for 4/s and 30 in flight.
_SLACK = 1 / 20

# A new concurrency limit is given up if so many times more jobs are in flight within `_TRIAL` seconds. Later it is
# raised instead: then the account has raised it. Chosen, not measured.
_GROWN = 1.15
_TRIAL = 60.0

# While no limit is known, one of so many accepted submits may be outstanding, because all outstanding ones are refused
# when a limit is met. Where answers are slow this many is what limits the rate, so the share is larger there: the
# number accepted may double in about two thirds of `_DOUBLING` seconds. With 11 at most: refused .038 -> .052 for 50 in
# flight. With 4 at least: makespan 1.17 -> 1.20 for 20/s with 10 saved up and answers after 1 s. With 2: no better.
_DOUBLING = 3.0
_MIN_SHARE, _MAX_SHARE = 3, 12

# No rate is estimated lower than this part of what was accepted lately: a long pause at a concurrency limit passes for
# a very low rate, which takes minutes to correct. Without it, an account whose limit rises from 50 to 200 may be used
# to 60 % instead of 92 %.
_SLOWEST = 1 / 4

# The format of snapshots. Increase it whenever a key is added, renamed or removed, or changes its meaning.
_SNAPSHOT_VERSION = 3


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
        self._log = SubmitLog()
        self._accepted = 0  # and, at first, half of what an earlier run has sent without meeting a limit
        self._last_refused: Submit | None = None
        self._is_explained = False  # the last refusal may be due to a concurrency limit
        self._is_rate_certain = False  # no concurrency limit explains all refusals
        self._was_early_refused = False  # a probe after a finished job was refused since the last limit was found
        self._is_by_chance = False  # refusals come by chance, and teach no limit
        self._chance_in_a_row = 0  # such refusals since the last accepted submit
        self._before_pause: RateEstimator  # before the first refusal in a row
        self._rate_otherwise: RateEstimator | None = None  # what the rate is if the concurrency limit does not exist
        self._found_at = 0.0  # when that was found
        self.load(LearnedLimits())

    def load(self, learned: LearnedLimits) -> None:
        """Start from limits that an earlier run has found, however long ago. Call it before the first request.

        They are a starting point: refusals lower them, and higher rates are tried after a while.
        """
        lower = 0.0 if self._configured_rate else learned.per_second or 0.0
        self._rate = RateEstimator(
            self._retry,
            configured=self._configured_rate,
            lower=lower,
            burst=learned.burst,
            first_pace=learned.free_per_second,
        )
        self._concurrency = ConcurrencyLimit(self._retry, limit=learned.max_in_flight)
        self._is_rate_certain = lower > 0
        self._accepted = learned.free_jobs // 2  # half of them again, and all is as before

    def learned(self) -> LearnedLimits:
        """Return the limits found so far."""
        if self._last_refused is None and self._rate.is_ramping and self._concurrency.limit is None:
            return LearnedLimits(free_per_second=self._rate.lower, free_jobs=self._accepted)
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
        self._log = SubmitLog(is_whole=False)
        if not self._configured_rate:
            self._rate.restore(snapshot["rate"], now)
            self._is_rate_certain = self._rate.limit is not None
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
        self._rate.on_idle()

    def job_finished(self, now: float, *, ended_at: float | None = None, uncertainty: float = 0.0) -> None:
        """Record that a job finished on the server at `ended_at` (None for now), which is known only at `now`.

        `uncertainty` is by how many seconds `ended_at` may be wrong.
        """
        self._log.on_job_ended(now, now if ended_at is None else ended_at, uncertainty)
        self._reassign_refusals(now)
        super().job_finished(now)

    def _extra_delay(self, now: float) -> float | None:
        if self._outstanding >= min(self._window, self._max_outstanding()):
            return None
        delay, busy = self._rate.delay(now), self.in_flight + self._outstanding
        if not self._concurrency.is_full(busy):
            return delay
        extra = self._concurrency.delay_before_extra(now, busy)
        return None if extra is None else max(delay, extra)

    def _max_outstanding(self) -> int:
        """Return how many requests may be outstanding: few while a limit is being looked for, as all may be refused.

        By Little's law, a pace needs as many as it sends during one round trip. Beyond that, one of some accepted.
        """
        if self._concurrency.limit is not None:
            return self._max_concurrent
        by_pace = self._rate.max_concurrent()
        share = min(max(_DOUBLING / max(self._rate.latency, 1e-3), _MIN_SHARE), _MAX_SHARE)
        return max(by_pace, int(self._accepted / share)) if self._rate.is_ramping else by_pace

    def _record_send(self, now: float, *, is_probe: bool) -> Submit:
        busy = self.in_flight + self._outstanding
        is_extra = self._concurrency.is_full(busy) and not is_probe
        return self._log.add(Submit(now, self._rate.on_send(now), is_extra, is_probe, busy, busy))

    # Accepted

    def _record_success(self, permit: Permit, now: float) -> None:
        submit = _submit_of(permit)
        submit.is_refused = False
        self._log.on_answered(submit, now)
        self.throughput.on_accepted(now)
        self._rate.latency = now - submit.sent_at
        self._concurrency.on_accepted()
        self._accepted += 1
        self._chance_in_a_row = 0
        if self._is_late(permit):
            self._rate.on_accepted_late(submit.sent_at)
        elif permit.is_probe and self._rate.is_paused:
            at_least = self._log.accepted_per_second(now) * _SLOWEST
            measured, history = self._measured_rate(), self._log.history()
            self._rate.on_resumed(submit.sent_at, at_least=at_least, measured=measured, history=history)
        else:
            if submit.is_extra and self._concurrency.limit is not None:
                self._concurrency.on_extra_accepted(now, submit.most)
            self._rate.on_accepted(submit.sent_at, submit.pace)
        self._reassign_refusals(now)
        if submit.is_extra or self._concurrency.spare:
            self._check_limit(now)

    def _measured_rate(self) -> float:
        """Return the rate at which submits were accepted since the first refusal of this pause; 0 if unknown.

        That refusal shows that nothing is saved up any more. What was accepted of the requests that had left after it,
        and were outstanding, is what the rate limit itself allows. Without it, 20/s with 10 saved up and answers after
        1 s: makespan 1.21 -> 1.66.
        """
        number, seconds = self._log.accepted_after(self._rate.paused_at)
        return number / seconds * MARGIN if number >= RELIABLE_COUNT else 0.0

    def _check_limit(self, now: float) -> None:
        """Raise the concurrency limit to what is proven; give it up once that is far more."""
        concurrency = self._concurrency
        if concurrency.limit is None or (proven := self._log.proven(now, since=concurrency.since)) <= concurrency.limit:
            return
        is_trial = self._rate_otherwise is not None and now - self._found_at < _TRIAL
        if not is_trial or proven <= _GROWN * concurrency.found:
            concurrency.raise_to(proven)
        elif self._rate_otherwise is not None:
            self._rate, self._rate_otherwise, self._is_rate_certain = self._rate_otherwise, None, True
            self._rate.on_restored(now)
            concurrency.set(None, now)

    def _reassign_refusals(self, now: float) -> None:
        """Attribute the recent refusals to the concurrency limit if that is the simplest explanation of them."""
        if self._is_by_chance and not self._log.has_refusals:
            self._is_explained = False  # a finished job changes nothing
            return
        found, last = self._log.explain(now), self._last_refused
        self._is_explained = last is not None and (last.is_closed or self._is_worth_a_probe(last, found))
        if found is None:
            self._is_rate_certain = self._is_rate_certain or (self._log.has_refusals and not self._rate.is_ramping)
            return
        if self._log.lowest_refused * _FAR_ABOVE < found.limit:
            self._is_rate_certain = self._is_rate_certain or not self._rate.is_ramping
        limit = self._concurrency.limit
        needed = _MIN_REFUSALS if found.limit >= _SMALL else _MIN_REFUSALS_OF_SMALL
        if found.refusals < needed or not found.accepted or (limit is not None and found.limit >= limit):
            return
        refused = self._log.refused_since(found.first)
        is_clear = found.refusals >= _MANY_REFUSALS or any(each.contradicts_rate for each in refused)
        if (self._is_rate_certain and not is_clear) or self._log.fits_plain_rate(found.first):
            return
        self._concurrency.set(found.limit, now)
        self._found_at, self._was_early_refused = now, False
        before = next((each.rate_before for each in refused if each.rate_before is not None), None)
        self._rate_otherwise = None
        if before is not None:
            self._rate_otherwise, self._rate = self._rate, before
            self._is_rate_certain = self._is_rate_certain and not before.is_ramping
            self._rate.on_restored(now)
        for each in self._log.refused_with(found.limit * (1 - _SLACK) - 1):
            self._log.close(each)

    def _is_worth_a_probe(self, last: Submit, found: Explanation | None) -> bool:
        """Return whether a finished job is worth a probe: if the last refusal may be due to a concurrency limit.

        Once such a probe was refused, only after a second refusal. A known rate that saves up a burst explains any
        refusal, so there only if something contradicts it.
        """
        if found is None or (self._was_early_refused and found.refusals < _MIN_REFUSALS):
            return False
        is_rate = self._is_rate_certain and self._rate.burst > 0
        return not is_rate or found.refusals >= _MANY_REFUSALS or last.contradicts_rate

    # Refused

    def _record_refusal(self, permit: Permit, now: float, retry_after: float | None) -> bool:
        submit, is_late = _submit_of(permit), self._is_late(permit)
        submit.is_refused = True
        self._log.on_answered(submit, now)
        self._log.on_refused(submit)
        self._last_refused = submit
        limit = self._concurrency.limit
        if limit is not None and self._is_at_limit(submit, limit):
            # A probe that meets it says nothing of the rate either. Without it, worst makespan 1.14 -> 1.40 for 200 in
            # flight and answers after 1 s.
            self._log.close(submit)
            if not permit.is_probe:
                self._concurrency.on_refused(submit, now, self.throughput.per_second(now))
            return not permit.is_probe
        if self._is_refused_by_chance(submit, now):
            self._log.close(submit)
            self._chance_in_a_row += 1
            return self._chance_in_a_row == 1 and not permit.is_probe and not self._plausible(retry_after)
        if is_late:
            self._rate.on_rate_limited_late(submit.sent_at)
        else:
            submit.rate_before = copy.copy(self._rate)
            if not self._rate.is_paused:
                self._before_pause = submit.rate_before
            submit.contradicts_rate = not self._before_pause.may_refuse(submit.sent_at, submit.pace)
            self._rate.on_rate_limited(submit.sent_at, self._plausible(retry_after))
        if permit.is_probe and self._is_probe_early and not is_late:
            self._was_early_refused = True
        self._reassign_refusals(now)
        return False

    def _is_refused_by_chance(self, submit: Submit, now: float) -> bool:
        """Return whether this refusal came by chance. Where such show, what they seemed to teach is dropped."""
        (observations, index), was_believed = self._log.observations(submit), self._is_by_chance
        verdict = judge(observations, index, believed=was_believed, jitter=self._log.jitter())
        self._is_by_chance = verdict.is_chance
        if self._is_by_chance and not was_believed:
            if (before := self._log.rate_before()) is not None:
                self._rate, self._rate_otherwise = before, None
                self._rate.on_restored(now)
            if self._concurrency.since >= observations[0].sent_at:
                self._concurrency.set(None, now)
        return verdict.is_it_chance

    def _first_window(self) -> int:
        """Return as many as a known rate needs: its pace holds the requests back, so no ramp-up is needed.

        Without it, 20/s with 10 saved up and answers after 1 s: makespan 1.24 -> 1.33.
        """
        is_known = self._cause is PauseCause.RATE_LIMITED and (self._is_by_chance or self._rate.limit is not None)
        return self._rate.max_concurrent() if is_known else 1

    def _is_at_limit(self, submit: Submit, limit: int) -> bool:
        """Return whether a refusal is due to the known concurrency limit, which may be a little too high."""
        if submit.most > 0 and (submit.is_extra or submit.most >= limit):
            return True
        # Not that of the limit itself, which would fall with each such refusal: makespan 1.08 -> 1.80 in a seed of ten
        # for 4/s and 30 in flight.
        sure = self._concurrency.sure
        slack = sure * _SLACK + 1 if limit >= _SMALL else 0
        return submit.most >= max(1, min(limit, sure - slack)) and not (
            self._is_rate_certain and not self._rate.burst and self._rate.may_refuse(submit.sent_at, 0.0)
        )

    def _may_probe_early(self) -> bool:
        return self._is_explained

    def _pause_length(self, now: float, retry_after: float | None, attempt: int, jitter: float) -> float:
        """Return the pause that the server asked for, or the computed one where waiting for that did not help."""
        plausible = self._plausible(retry_after)
        if self._is_by_chance and not self._rate.is_paused:
            return retry_delay(plausible, attempt, self._retry, jitter)
        is_closed = self._last_refused is not None and self._last_refused.is_closed
        own = backoff(attempt, self._retry, jitter) if is_closed else self._rate.pause_length(now, attempt, jitter)
        if plausible is not None:
            return max(plausible * (1 + jitter / RETRY_AFTER_JITTER), own if attempt else 0.0)
        stretched = doubled(self._retry.wait_initial, attempt)
        if not retry_after or retry_after < 0 or stretched <= self._retry.wait_max:
            return own
        return max(own, min(stretched, self._retry.timeout))  # the implausible Retry-After seems to be true

    def _late_pause_length(self, now: float, retry_after: float | None, jitter: float) -> float:
        """Return the pause as computed now, also without Retry-After: the refusal may have lowered the rate."""
        if self._is_by_chance and not (retry_after or self._rate.is_paused):
            return 0.0
        return self._pause_length(now, retry_after, 0, jitter)

    def _plausible(self, retry_after: float | None) -> float | None:
        """Return `retry_after` if it is positive and at most the retry timeout, else None."""
        return retry_after if retry_after and 0 < retry_after <= self._retry.timeout else None


def _submit_of(permit: Permit) -> Submit:
    assert permit.submit is not None, "an adaptive limiter records each submit"
    return permit.submit
