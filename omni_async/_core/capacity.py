"""How many jobs an account runs at once: found out from the number in flight at a refusal, and what ended it.

A refusal with F jobs in flight makes F a *suspect*, if it is refused so again before anything else is learnt. If a job
that finishes then lets the next one through, F is the limit. It is wrong as soon as one more is accepted. One more is
asked for after a hold that doubles each time it is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import Retry

_SUSPICION = 2  # refusals at one and the same number in flight, with nothing accepted at it
_DOUBT = 1  # more of them, where a rate is known that may explain them as well
_HOLD = 10  # first hold, in initial backoffs


class Capacity:
    """The limit of jobs at once, if there is one."""

    def __init__(self, retry: Retry, *, limit: int | None = None) -> None:
        self.limit = limit
        self._retry = retry
        self._suspect: int | None = None
        self._refusals = 0
        self._has_failed = False
        self._has_grown = False
        self._enough = _SUSPICION
        self._hold = _HOLD * retry.initial
        self._grows_at = self._hold if limit else 0.0

    def is_full(self, in_flight: int) -> bool:
        """Tell whether one more would be too many."""
        return self.limit is not None and in_flight >= self.limit

    def grows_in(self, now: float) -> float:
        """Give the seconds until one more than the limit is asked for."""
        return max(0.0, self._grows_at - now)

    @property
    def suspects(self) -> bool:
        """Tell whether a refusal may have been the capacity's."""
        return self._suspect is not None

    def may_open(self) -> bool:
        """Tell whether a job that finishes may open a gate that a refusal has closed."""
        return self._suspect is not None and (not self._has_failed or self._refusals >= _SUSPICION)

    def failed(self) -> None:
        """Take note that a job finished, and yet the next one was refused."""
        self._has_failed = True

    def refused(self, in_flight: int, *, is_first: bool) -> None:
        """Take note of a refusal with so many in flight; `is_first`: before any other limit was met."""
        if in_flight == 0 or (self._suspect is not None and in_flight < self._suspect):
            self._suspect, self._refusals = None, 0  # fewer were refused as well: it is something else
        elif in_flight == self._suspect:
            self._refusals += 1
        else:
            self._suspect, self._refusals = in_flight, 1
            self._enough = _SUSPICION if is_first else _SUSPICION + _DOUBT

    def accepted(self, in_flight: int) -> None:
        """Take note that one was accepted with so many in flight before it."""
        if self._suspect is not None and in_flight >= self._suspect:
            self._suspect, self._refusals = None, 0
        if self.limit is not None and in_flight >= self.limit:
            self.limit, self._has_grown = in_flight + 1, True

    def reopened(self, in_flight: int, now: float) -> bool:
        """Take note that a probe was accepted; True if that, and what came before, shows this limit."""
        if self._suspect is None or in_flight >= self._suspect or self._refusals < self._enough:
            return False
        self.limit = self._suspect
        self._grows_at = now + self._hold
        return True

    def takes_back(self, in_flight: int, now: float) -> bool:
        """Take back the last place that was added, if it is next to it that one was refused; tell whether it is so."""
        if not self._has_grown or self.limit is None or in_flight < self.limit - 1:
            return False
        self.limit, self._has_grown = max(1, in_flight), False
        self.tried(now, has_grown=False)
        return True

    def tried(self, now: float, *, has_grown: bool) -> None:
        """Take note of what became of one more than the limit."""
        if has_grown:
            self._hold, self._grows_at = _HOLD * self._retry.initial, now
        else:
            self._hold = min(self._hold * 2, max(self._retry.budget, self._retry.maximum))
            self._grows_at = now + self._hold
