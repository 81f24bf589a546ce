"""`ConcurrencyLimit`: how many unfinished jobs an account allows, once that is known. `AdaptiveRateLimiter` uses it.

Theory of operation. While the limit is kept, each finished job makes room for one submit, without refusals and without
pauses. Two things make it useful to submit more. Limits may be raised; and jobs that have ended without being noticed
occupy no slot. So an *extra* job is submitted from time to time. Where it is accepted, more follow at once, and where
it is refused, the wait before the next one doubles (additive increase).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..settings import Retry
    from .submit_log import Submit

# Figures as in adaptive.py.

# Seconds before the first extra job, in units of `Retry.wait_initial`. Chosen: half and double only matter where
# more than twelve jobs a second are accepted; elsewhere `_MIN_WAIT_JOBS` is longer.
_GROWTH_WAIT = 10

# The shortest and the longest wait between two refused extra jobs: as long as so many jobs take to be accepted. They
# bound what extra jobs cost in refusals. Shortest, half (30): refused .025 -> .037 for 50 in flight, makespan 1.07
# both. Longest, half: 19 -> 38 refusals an hour for 50 tasks of a minute. Double: a raised limit is used later.
_MIN_WAIT_JOBS = 60
_MAX_WAIT_JOBS = 240

# One of so many extra jobs accepted in a row may be outstanding: a raised limit is regained exponentially. Chosen.
_GRANTED_PER_EXTRA = 6

# The part of the limit that is given up at most after each refusal in a row: the limit has fallen. Smaller costs more
# refusals until the new limit is found, larger leaves more slots unused. Chosen, not measured.
_BACK = 0.15


class ConcurrencyLimit:
    """The concurrency limit of one account. `limit` is None while none is known."""

    def __init__(self, retry: Retry, *, limit: int | None = None) -> None:
        self.limit: int | None = limit
        self.found: int = limit or 0  # the limit when it was found, or last lowered
        self.sure: int = limit or 0  # the limit before refusals of jobs that met fewer others have lowered it
        self.since: float = -math.inf  # when that was
        self.spare: int = 0  # jobs beyond the limit that were accepted all the same
        self._retry = retry
        self._growth_wait = _GROWTH_WAIT * retry.wait_initial  # seconds
        self._next_extra_at: float | None = None
        self._granted = 0
        self._refused_in_a_row = 0
        self._refused_at = -math.inf  # when the last of those was known

    def is_full(self, busy: int) -> bool:
        """Return whether one more job would exceed the limit."""
        return self.limit is not None and busy >= self.limit + self.spare

    def delay_before_extra(self, now: float, busy: int) -> float | None:
        """Return the seconds until one job beyond the limit may be tried; None to wait for an answer."""
        assert self.limit is not None
        if busy >= self.limit + self.spare + 1 + self._granted // _GRANTED_PER_EXTRA:
            return None
        if self._next_extra_at is None:  # the limit comes from an earlier run, and has not been tried in this one
            self._next_extra_at = now + self._growth_wait
        return max(0.0, self._next_extra_at - now)

    def set(self, limit: int | None, now: float) -> None:
        """Begin to keep a limit that was found, or stop keeping any."""
        self.limit, self.spare, self._granted = limit, 0, 0
        self.found = self.sure = limit or 0
        self.since = self._refused_at = now
        self._growth_wait = _GROWTH_WAIT * self._retry.wait_initial
        self._next_extra_at = now + self._growth_wait

    def on_extra_accepted(self, now: float, most: int) -> None:
        """Record that a job beyond the limit was accepted, which met at most so many others."""
        assert self.limit is not None
        self._granted += 1
        self._refused_in_a_row = 0
        self.spare = max(self.spare, most + 1 - self.limit)
        self._growth_wait, self._next_extra_at = 0.0, now

    def raise_to(self, limit: int) -> None:
        """Keep a higher limit, which has been proven."""
        assert self.limit is not None
        self.spare = max(0, self.spare - (limit - self.limit))
        self.limit = self.sure = limit

    def on_accepted(self) -> None:
        """Record that a job was accepted."""
        self._refused_in_a_row = 0

    def on_refused(self, submit: Submit, now: float, per_second: float | None) -> None:
        """Record that a job was refused that met at most so many others, at least as many as the limit."""
        assert self.limit is not None
        self._granted = 0
        most = submit.most
        # Those that left before the last refusal was known say no more than that one did. Without it, 200 in flight and
        # answers after 1 s: a limit of 196 falls to 105 at once.
        step = 0.0
        if not submit.is_extra and submit.sent_at >= self._refused_at:
            self._refused_in_a_row += 1
            self._refused_at = now
            step = min(2.0 ** min(self._refused_in_a_row - 2, 20), _BACK * self.limit)
        if self.spare:  # fewer have ended unnoticed
            self.spare = max(0, min(self.spare, most - self.limit)) // 2
        else:
            lower = max(1, math.floor(min(self.limit, most) - (step if self._refused_in_a_row > 1 else 0)))
            if most >= self.limit:
                self.sure = lower
            if lower < self.limit:
                self.limit, self.found, self.since = lower, min(self.found, most), now
        shortest, longest = _GROWTH_WAIT * self._retry.wait_initial, max(self._retry.timeout, self._retry.wait_max)
        if per_second:
            shortest = max(shortest, _MIN_WAIT_JOBS / per_second)
            longest = min(longest, _MAX_WAIT_JOBS / per_second)
        wait = max(shortest, min(self._growth_wait, longest))
        self._next_extra_at = max(self._next_extra_at or now, now + wait)
        if submit.is_extra:
            self._growth_wait = 2 * wait

    def snapshot(self) -> dict[str, Any]:
        """Return the limit as JSON values."""
        return {"limit": self.limit, "growth_wait": self._growth_wait}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot."""
        self.limit, self._growth_wait = snapshot["limit"], snapshot["growth_wait"]
        self.sure = self.limit or 0
