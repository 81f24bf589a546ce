"""How many requests a second an account takes: found out from what it accepts and refuses.

Theory of operation. A limiter, whatever its kind, is a number N and a period P: a token bucket of one is N = 1, a window
is N in P; over time both let N / P through. All that is known of it is a bracket: `low`, a rate that has held, and
`high`, one that was refused. As long as nothing was refused the pace *ramps* up with each request that is accepted
(slow start, Jacobson 1988, by the clock instead of by the window). After that it bisects the bracket until both ends
lie close together, and *cruises* at the lower one. Limits may be raised: now and then, ever more seldom, it asks for a
little more, and for much more where that is granted.

Two sources feed the bracket. *Gaps*: a request refused x seconds after the last one was accepted shows that a token
takes longer than x, in any bucket; one accepted at the pace shows that the pace holds. *Cycles*: from one opening of
the gate to the next, the number accepted over the time elapsed is N / P, whatever N. The first is quick and sees a
bucket of one only; it contradicts itself (`high` below `low`) where a saved-up burst or a window has been emptied, and
then the second counts (the two-429 estimator, measured between openings, where a bucket has just one token and a
window has just begun).

All times are those at which requests left; the way to the server is equally long for all of them, and cancels out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import Retry

_RAMP = 0.7  # each interval of the ramp, over the one before: what is refused first is at most 1/0.7 of the limit
_CLOSE = 1.08  # a bracket this narrow is not worth another refusal
_STEP = 0.05  # by which a pace that has held for long is raised
_MARGIN = 0.97  # of a rate that was computed, not tried: clocks and networks are uneven
_PROOF = 2  # requests accepted at a pace before it counts as holding
_HABIT = 5  # ... before one refusal at it is taken for bad luck
_ON_TIME = 1.1  # a gap of up to so many intervals is kept by the pace; in a longer one, there was no demand
_CAUTION = 1 / 3  # of the way up the bracket: a step too small costs less than a refusal
_BURST = 1.1  # a pace that held, and is refused at less than 1/1.1 of itself, was lent by a burst
_BRISK = 5  # requests a second that the ramp may reach however long the way to the server is
_SHARE = 20  # of the requests accepted so far, one in so many may be on the wire to meet an unknown limit


class Rate:
    """The bracket of one limit, and the pace that follows from it. `is_told`: somebody else keeps a known pace."""

    def __init__(self, retry: Retry, *, is_told: bool = False, low: float = 0.0) -> None:
        self.low = low
        self.high = math.inf
        self._start = math.inf if is_told else 1 / retry.initial
        self.pace = low or self._start
        self._retry = retry
        self.is_ramping = not is_told and not low
        self._is_bursty = False
        self._is_growing = False
        self.is_closed = False
        self._left_at = -math.inf
        self._accepted_at = -math.inf
        self._refused_at = 0.0
        self._advised: float | None = None  # when it should open, as the last refusal said
        self._opened_at: float | None = None
        self._count = 0
        self._held = self._had_held = 0
        self._floor = self._last = 0.0
        self._from_ramp = False
        self._step = _STEP
        self._hold = retry.maximum
        self._proof = _PROOF
        self._since = 0.0
        self._scale = retry.initial
        self.latency = 0.0  # of the last answer, in seconds

    @property
    def found(self) -> float | None:
        """The rate that holds, per second; None until a refusal has shown that there is a limit."""
        return self.low or None if not self.is_ramping else None

    def opens_in(self, now: float) -> float:
        """Give the seconds until the pace lets the next one leave."""
        return max(0.0, self._left_at + 1 / self.pace - now)

    def width(self, most: int) -> int:
        """Give how many may be on the wire: where no limit is known, all of them might be refused."""
        if self._is_growing:
            return min(most, 2)
        return min(most, max(2, self._count // _SHARE, math.ceil(_BRISK * self.latency))) if self.is_ramping else most

    def left(self, now: float) -> float:
        """Take note that one leaves, and give the pace that it keeps; 0 if it left later than it might have."""
        if self._opened_at is None:
            self._opened_at = self._since = now
        if not (self.is_ramping or self._is_growing or self.is_closed) and self.low and now - self._since > self._hold_for():
            self._grow()
        is_on_time = now - self._left_at <= _ON_TIME / self.pace
        self._left_at = now
        return self.pace if is_on_time else 0.0

    def accepted(self, left_at: float, pace: float) -> None:
        """Take note that one which left then, at that pace, was accepted."""
        self._count += 1
        self._accepted_at = max(self._accepted_at, left_at)
        if pace < self.pace:
            return
        self._held += 1
        if self.is_ramping:
            self.low, self.pace, self._held = pace, pace / _RAMP, 0
        elif self._held == self._proof and pace > self.low:
            self.low = pace
            if self._is_growing:
                self._step = min(self._step * 2, 1 / _RAMP - 1)
            self._go_on(left_at)

    def refused(self, left_at: float, advice: float | None) -> None:
        """Take note that one which left then was refused, until `advice` seconds later."""
        was_growing = self._is_growing
        if was_growing:
            self._hold = min(self._hold * 2, max(self._retry.budget, self._retry.maximum) * (1 + self._is_bursty))
        was_ramping, self.is_ramping, self._is_growing = self.is_ramping, False, False
        self._step = _STEP
        is_probe, self.is_closed = self.is_closed, True
        if was_ramping and self._opened_at is not None:
            self._scale = max(self._retry.initial, min(left_at - self._opened_at, self._retry.maximum))
        elif not is_probe:
            self._scale = max(self._retry.initial, 1 / self.pace)
        self._refused_at = self._since = left_at
        self._advised = left_at + advice - min(advice, 1) / 2 if advice else None
        gap = left_at - self._accepted_at
        if not 0 < gap < math.inf:
            return
        self.high = min(self.high, 1 / gap)
        hint = 1 / (gap + max(0.0, (advice or 0) - 1))
        if not is_probe:
            self._had_held, self._held = self._held, 0
            self._from_ramp = was_ramping
        if not is_probe:
            self._floor = self.low if was_growing else 0.0
            self._last = 0.0 if was_ramping else self.low
        if self._see_burst():
            pass
        elif self.high < self.low * 1.01:
            self.low = 0.0 if is_probe else self.low * _MARGIN if self._had_held >= _HABIT else self.low / _BURST
        if self._is_bursty:
            self.low = 0.0
        if hint > self.low:
            self.high = min(self.high, hint)

    def refused_too(self, left_at: float) -> None:
        """Take note that one was refused which had left before the refusal that closed the gate was known."""
        gap = left_at - self._accepted_at
        if 0 < gap < math.inf:
            self.high = min(self.high, 1 / gap)
            self._see_burst()

    def counted(self, left_at: float) -> None:
        """Take note that one was accepted which had left before the gate closed."""
        self._count += 1
        self._accepted_at = max(self._accepted_at, left_at)

    def _see_burst(self) -> bool:
        if self.high >= self.low / _BURST:
            return False
        if self._from_ramp and not self._is_bursty:
            self._is_bursty, self._proof = True, max(_HABIT, self._count)
        self.low = 0.0
        return True

    def reopened(self, left_at: float) -> None:
        """Take note that the probe which left then was accepted, after refusals."""
        opened_at = min(left_at, self._advised or (self._refused_at + left_at) / 2)
        is_rough = self._opened_at is not None and left_at - opened_at > (left_at - self._opened_at) / 10
        if not self.low:
            cycle = self._count / max(opened_at - self._opened_at, 1e-3) if self._opened_at is not None else 0.0
            if self._is_bursty and self._count < _HABIT and self._last:
                self.low = max(self._floor, self._last * _RAMP)
            elif self._is_bursty or 0 < cycle < self.high:
                self.low = max(self._floor, _MARGIN * max(cycle, 1e-6))
            elif left_at > self._accepted_at > -math.inf:
                self.low = 1 / (left_at - self._accepted_at)
        if self._is_bursty or self.high <= self.low:
            self.high = math.inf
        if self._opened_at is None or self._count >= _HABIT:
            self._opened_at, self._count = opened_at, 0
        self._count += 1
        self._accepted_at = left_at
        self._go_on(left_at)
        if self._is_bursty and is_rough:
            self._since, self._step = left_at - self._hold_for() + _HABIT / self.low, 1 / _RAMP - 1
        self.is_closed = False

    def resumed(self, left_at: float) -> None:
        """Take note that what has been refused since this was the rate was not its doing, and that this one was accepted."""
        self._left_at = self._accepted_at = self._opened_at = self._since = left_at
        self._count = 1

    def rested(self) -> None:
        """Take note that nobody wants through: what is counted from here on begins with the next."""
        self._opened_at, self._count = None, 0

    def pause(self, now: float, in_a_row: int, dice: float) -> float:
        """Give the seconds until a token should be there, for a server that does not say; longer each time it is not."""
        if self.low and self._accepted_at > -math.inf:
            return max(0.0, self._accepted_at + 1 / self.low - now)
        most = max(self._retry.maximum, self._scale)
        return min(most, self._scale * 2.0 ** min(in_a_row, 60)) * (1 + dice) / 2

    def _go_on(self, now: float) -> None:
        """Choose the next pace from the bracket."""
        self._held, self._since = 0, now
        if not self.low:  # nothing was accepted before the refusals: nothing is known
            self.high, self.pace, self.is_ramping = math.inf, self._start, math.isfinite(self._start)
            return
        if self._is_growing:
            self.pace = self.low * (1 + self._step)
        elif math.isinf(self.high) or self.high / self.low <= _CLOSE:
            self.pace = self.low
        else:
            self.pace = self.low * (self.high / self.low) ** _CAUTION

    def _hold_for(self) -> float:
        return max(self._hold, 20 / self.low)

    def _grow(self) -> None:
        self._is_growing, self.high = True, math.inf
        self.pace = self.low * (1 + self._step)
        self._held = 0
