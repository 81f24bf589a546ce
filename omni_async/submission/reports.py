"""`SubmitReports`: passes the outcome of each POST on to the rate limiter, the totals and the user.

The user is told once for each cause that submits keep failing, and when they succeed again. Otherwise a server that
answers 502, or not at all, would go unnoticed for as long as submits are retried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..api.outcomes import SubmitOutcome, SubmitResult, is_account_limit, is_rate_limit
from ..logs import get_logger
from ..ratelimit.backoff import give_up_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.statistics import JobTotals
    from ..ratelimit.adaptive import AdaptiveRateLimiter
    from ..ratelimit.limiter import Permit
    from ..settings import Retry

# Failures in a row before the user is told. One is common, and is over before anyone would have read about it.
_FAILURES = 2

# Seconds for which a rate limit refuses everything, while no task is running, before the user is told. Half is an
# ordinary pause of a busy account; at double, a limit for the day goes unnoticed for a minute. Chosen, not measured.
_REFUSED_FOR = 30.0

_RETRYING = "retrying for {timeout:g} s"
_WHAT_HAPPENS = {
    SubmitOutcome.NOT_SENT: f"the server is unreachable, {_RETRYING}",
    SubmitOutcome.NO_CHANNEL: f"the server has no channel for a model just now, {_RETRYING}",
    SubmitOutcome.AMBIGUOUS: "submits fail, and each may have been accepted",
}
_UNAVAILABLE = "the server takes no submits just now; they are sent again until it does"
_WHAT_HAPPENS_NEXT = {
    "auto": "each is resent for {timeout:g} s if the server honours idempotency keys, else its job becomes unknown",
    "retry": "each is resent for {timeout:g} s",
    "hold": "their jobs become unknown",
}

_log = get_logger(__name__)


class SubmitReports:
    """Records every POST that has ended. Times are seconds of one monotonic clock; `jitter()` is in [0, 1)."""

    def __init__(
        self, limiter: AdaptiveRateLimiter, totals: JobTotals, retry: Retry, jitter: Callable[[], float]
    ) -> None:
        self._limiter = limiter
        self._totals = totals
        self._retry = retry
        self._jitter = jitter
        self._failures = 0  # in a row
        self._since = 0.0
        self._announced: set[object] = set()
        self._refused_since: float | None = None  # by rate limits, with nothing accepted since
        self._has_told_refusals = False

    def add(self, permit: Permit, result: SubmitResult | None, now: float) -> None:
        """Record the outcome of one POST; None if it was not sent after all."""
        self._tell_limiter(permit, result, now)
        if result is not None and result.outcome is not SubmitOutcome.WITHHELD:
            self._totals.count("rate_limited", result.applies_to_all and is_rate_limit(result.error))
            self._tell_user(result, now)
            self._tell_of_refusals(result, now)

    def _tell_limiter(self, permit: Permit, result: SubmitResult | None, now: float) -> None:
        match result:
            case None | SubmitResult(outcome=SubmitOutcome.WITHHELD):
                self._limiter.on_not_sent(permit)
            case SubmitResult(outcome=SubmitOutcome.NOT_SENT, applies_to_all=False):  # this job alone cannot be sent
                self._limiter.on_not_sent(permit)
            case SubmitResult(outcome=SubmitOutcome.NOT_SENT):
                self._limiter.on_unreachable(permit, now, jitter=self._jitter())
            case SubmitResult(outcome=SubmitOutcome.AMBIGUOUS | SubmitOutcome.UNREADABLE):
                self._limiter.on_ambiguous(permit, now, jitter=self._jitter())
            case SubmitResult() if _is_unavailable(result):
                self._limiter.on_unavailable(permit, now, retry_after=result.retry_after, jitter=self._jitter())
            case SubmitResult(outcome=SubmitOutcome.RETRY_LATER, applies_to_all=True):
                self._limiter.on_rate_limited(permit, now, retry_after=result.retry_after, jitter=self._jitter())
            case _:
                self._limiter.on_success(permit, now, accepted=result.outcome is SubmitOutcome.ACCEPTED)

    def _tell_user(self, result: SubmitResult, now: float) -> None:
        text = _UNAVAILABLE if _is_unavailable(result) else _WHAT_HAPPENS.get(result.outcome)
        if text is None or result.error is None:
            self._on_understood(now)
            return
        if result.outcome is SubmitOutcome.NOT_SENT and not result.applies_to_all:
            return
        if not self._failures:
            self._since = now
        self._failures += 1
        cause = (result.outcome, type(result.error), getattr(result.error, "status", None))
        if cause not in self._announced and (self._failures >= _FAILURES or result.outcome is SubmitOutcome.NOT_SENT):
            self._announced.add(cause)
            if result.outcome is SubmitOutcome.AMBIGUOUS:
                text = f"{text}; {_WHAT_HAPPENS_NEXT[self._retry.ambiguous]}"
            _log.warning("%s: %s", text.format(timeout=self._retry.timeout), result.error)

    def _tell_of_refusals(self, result: SubmitResult, now: float) -> None:
        """Tell of a rate limit that lasts. While tasks are running, it may be that of tasks at once, which passes."""
        is_refused = result.applies_to_all and is_rate_limit(result.error)
        if not is_refused or self._limiter.in_flight:
            if self._has_told_refusals and result.outcome is SubmitOutcome.ACCEPTED and self._refused_since is not None:
                _log.warning("the server accepts submits again, after %.0f s", now - self._refused_since)
            if is_refused or result.outcome is SubmitOutcome.ACCEPTED:
                self._refused_since, self._has_told_refusals = None, False
            return
        self._refused_since = now if self._refused_since is None else self._refused_since
        asked = result.retry_after or 0.0
        if not self._has_told_refusals and max(now - self._refused_since, asked) >= _REFUSED_FOR:
            self._has_told_refusals = True
            wish = f", and asks to wait {asked:.0f} s" if asked else ""
            text = "the server refuses every submit, although no task is running%s; retrying for up to %.0f s: %s"
            _log.warning(text, wish, give_up_after(self._retry), result.error)

    def _on_understood(self, now: float) -> None:
        if self._announced:
            _log.warning("the server responds to submits again, after %.0f s", now - self._since)
        self._failures = 0
        self._announced.clear()


def _is_unavailable(result: SubmitResult) -> bool:
    """Return whether a submit was refused for now, but for no limit of the account."""
    is_refused = result.outcome is SubmitOutcome.RETRY_LATER and result.applies_to_all
    return is_refused and not is_account_limit(result.error)
