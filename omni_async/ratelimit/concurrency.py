"""How many jobs an account runs at once: found out from the number in flight at a refusal, and what ended it.

Theory of operation. A refusal with F jobs in flight makes F a *suspect*. If others are refused at F too, and a job that
finishes then lets the next one through, F is the limit; a single request accepted at F clears it, and so does one
refused below it. With a limit there are no more refusals and no pauses: whoever finishes gives up a place. Now and then
one more is asked for, after a hold that doubles each time it is refused (additive increase); where it is granted, the
next is asked for at once.

Counting is late at both ends of a request's way: a job may have ended on the server that is still in flight here. So
what a refusal is charged with is the larger of the counts before and after it, and an acceptance the smaller.
Once an end is noticed, those that came after it are counted anew; what was taken for a rate may then show as a limit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..settings import Retry


_SUSPICION = 2  # refusals at one number in flight, with nothing accepted at it, make it the limit
_DOUBT = 1  # ... and so many more where a rate is known, which may explain them as well
_HOLD = 10  # first hold, in initial backoffs
_EVIDENCE = 2  # refusals that met about one number when all ends are known
_LEAST = 8  # jobs at once: smaller numbers are met again by chance
_NEAR = 5  # accepted with at most two less, which shows that more were wanted than that
_LOOK_BACK = 5  # refusals at most; each one beyond the evidence is worth one that was accepted near it
_TRIALS = 64  # that are kept until then


@dataclass(slots=True)
class _Trial:
    """One request, with so many others in flight as is known by now."""

    at: float
    in_flight: int
    is_refused: bool


class ConcurrencyEstimator:
    """The limit of jobs at once, if there is one; `limit` is one that was found at another time."""

    def __init__(self, retry: Retry, *, limit: int | None = None) -> None:
        self.limit = limit
        self._retry = retry
        self._candidate: int | None = None
        self._refusals = 0
        self._enough = _SUSPICION
        self._has_failed = False
        self._has_grown = False
        self._hold = _HOLD * retry.wait_initial
        self._grows_at: float | None = None
        self._trials: deque[_Trial] = deque(maxlen=_TRIALS)

    def is_full(self, in_flight: int) -> bool:
        """Tell whether one more would be too many."""
        return self.limit is not None and in_flight >= self.limit

    def delay_before_trial(self, now: float) -> float:
        """Give the seconds until one more than the limit is asked for."""
        if self._grows_at is None:  # one that was found at another time is tried like any other
            self._grows_at = now + self._hold
        return max(0.0, self._grows_at - now)

    @property
    def has_candidate(self) -> bool:
        """Tell whether the last refusals may have been its own."""
        return self._candidate is not None

    @property
    def may_probe_early(self) -> bool:
        """Tell whether a job that finishes is worth a probe: always once, and later where there is more to it."""
        return self._candidate is not None and (not self._has_failed or self._refusals >= _SUSPICION)

    def on_early_probe_refused(self) -> None:
        """Take note that a job finished, and the next one was refused all the same."""
        self._has_failed = True

    def on_rate_limited(self, in_flight: int, at: float, *, is_first: bool) -> None:
        """Take note of a refusal with so many in flight; `is_first`: no limit of any kind had been met before."""
        self._trials.append(_Trial(at, in_flight, is_refused=True))
        if in_flight == 0 or (self._candidate is not None and in_flight < self._candidate):
            self._candidate = None  # fewer were refused as well: it is something else
        elif in_flight == self._candidate:
            self._refusals += 1
        else:
            self._candidate, self._refusals = in_flight, 1
            self._enough = _SUSPICION if is_first else _SUSPICION + _DOUBT

    def on_accepted(self, in_flight: int, at: float) -> None:
        """Take note that one was accepted with so many in flight beside it."""
        self._trials.append(_Trial(at, in_flight, is_refused=False))
        if self._candidate is not None and in_flight >= self._candidate:
            self._candidate = None
        if self.limit is not None and in_flight >= self.limit:
            self.limit, self._has_grown = in_flight + 1, True

    def on_probe_accepted(self, in_flight: int, now: float) -> bool:
        """Take note that a probe was accepted; True if that, and what came before, shows this limit."""
        if self._candidate is None or in_flight >= self._candidate or self._refusals < self._enough:
            return False
        self.limit, self._has_grown = self._candidate, False
        self._grows_at = now + self._hold
        return True

    def on_job_ended(self, at: float) -> None:
        """Take note that a job had ended by then, which nobody knew: those that came after it met one less."""
        for trial in self._trials:
            if trial.at > at:
                trial.in_flight -= 1

    def explains_all(self, now: float, *, is_alone: bool) -> bool:
        """See whether the last refusals, counted right by now, met one number, and all that was accepted met fewer.

        Then that is the limit, also where it was thought to be higher. `is_alone`: no rate explains them.
        """
        evidence = _EVIDENCE if self.limit is None else _EVIDENCE + _DOUBT
        most = max(self._explanations(evidence, is_alone=is_alone), default=0)
        if not most or (self.limit is not None and self.limit <= most):
            return False
        self.limit, self._has_grown, self._candidate, self._has_failed = most, False, most, False
        self._grows_at = now + self._hold
        self._trials.clear()
        return True

    def _explanations(self, evidence: int, *, is_alone: bool) -> Iterator[int]:
        """Give the limits that would explain all that came since one of the last refusals: `evidence` many, or more."""
        trials = list(self._trials)
        starts = [number for number, trial in enumerate(trials) if trial.is_refused]
        for start in starts[-_LOOK_BACK : 1 - evidence]:
            since = trials[start:]
            refused = [trial.in_flight for trial in since if trial.is_refused]
            taken = [trial.in_flight for trial in since if not trial.is_refused]
            most = max(refused)
            if min(refused) < most - 1 or not taken or max(taken) >= min(refused):
                continue
            near = sum(number >= most - 2 for number in taken) + len(refused) - _EVIDENCE
            if most >= _LEAST and (is_alone or near >= _NEAR):
                yield most

    def on_trial(self, now: float, *, has_grown: bool) -> None:
        """Take note of what became of one more than the limit."""
        if has_grown:
            self._hold, self._grows_at = _HOLD * self._retry.wait_initial, now
        else:
            self._hold = min(self._hold * 2, max(self._retry.timeout, self._retry.wait_max))
            self._grows_at = now + self._hold

    def revises(self, in_flight: int, now: float) -> bool:
        """Take back the last place that was added, if a refusal next to it shows that it never was there."""
        if not self._has_grown or self.limit is None or in_flight < self.limit - 1:
            return False
        self.limit, self._has_grown = max(1, in_flight), False
        self.on_trial(now, has_grown=False)
        return True
