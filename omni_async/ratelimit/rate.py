"""How many requests a second an account takes: found out from what it accepts and refuses.

Theory of operation. A limiter, whatever its kind, is a number N and a period P: a token bucket of one is N = 1, a
window is N in P; in the long run each lets N / P through. All that is known of it is a bracket: `low`, a rate that has
held, and `high`, one that was refused. As long as nothing was refused the pace *ramps* up with each request that is
accepted (slow start, after Jacobson 1988). After that it climbs up the bracket until both ends lie close together, and
*cruises* at the lower one. Limits may be raised: now and then, ever more seldom, it *grows* by a little, and by much
more where that is granted (a multiplicative increase, as in scalable TCP, Kelly 2003: the same for slow and fast).
Where ever fewer are in flight, it may be far too low, and no rate may have been refused at all: then it *leaps*, twice
as fast with each that is accepted (by less where a burst may be saved up), and what holds far beyond refutes the
bracket.

Two sources feed the bracket. *Gaps*: a request refused x seconds after the last one was accepted shows that a token
takes longer than x, in any bucket; one accepted at the pace shows that the pace holds. *Cycles*: from one opening of
the gate to the next, the number accepted over the time elapsed is N / P, whatever N. The first is quick, and sees a
bucket of one only; it contradicts itself (`high` far below `low`) where a saved-up burst or a window has been emptied.
Then the account is *bursty*, and the second counts: the two-429 estimator, measured between openings, where a bucket
has just one token and a window has just begun.

All times are those at which requests left: the way to the server is equally long for all of them, and cancels out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..settings import Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What a closing is judged by. Times are those at which requests left."""

    from_ramp: bool  # no limit had been met before
    had_held: int  # requests accepted at the pace that was refused
    tried: float  # the highest rate that had seemed to hold
    rate: float  # the same, unless it was only the ramp's: then 0
    floor: float  # a rate that is good for sure: more than it was tried, and that was refused
    scale: float  # the first pause where nothing is known of the rate, in seconds
    refused_at: float = 0.0
    retry_at: float | None = None  # when it is over, as the last refusal said

    def refused(self, left_at: float, retry_after: float | None) -> Pause:
        """Give this closing after another refusal."""
        # Advice comes in whole seconds, rounded up: on average it is half a second late.
        over = None if retry_after is None else left_at + retry_after - min(retry_after, 1) / 2
        return replace(self, refused_at=left_at, retry_at=over)

    def resumed_at(self, left_at: float) -> float:
        """Give when it was over, the probe that left then being the first that was accepted."""
        between = (self.refused_at + left_at) / 2  # without advice: some time after the last refusal
        return min(left_at, between if self.retry_at is None else self.retry_at)


_RAMP = 0.7  # each interval of the ramp over the one before: the pace first refused is at most 1/0.7 of the limit
_CAUTION = 1 / 3  # of the way up the bracket: a step too small costs less than a refusal
_CLOSE = 1.08  # a bracket this narrow is not worth another refusal
_STEP = 0.05  # by which a pace that has held for long is raised
_JUMP = 2  # times the pace, with each that is accepted in a leap; and what refutes a bracket is so far beyond it
_MARGIN = 0.97  # of a rate that was computed, not tried: clocks and networks are uneven
_BURST = 1.1  # a pace that held, and is refused at less than 1/1.1 of itself, was lent by a burst
_EVEN = 1.01  # two rates closer than this are the same

_ON_TIME = 1.1  # a gap of up to so many intervals is kept by the pace; in a longer one, nobody was there
_PROOF = 2  # requests accepted at a pace before it counts as holding
_HABIT = 5  # ... before one refusal at it is bad luck; and before a cycle is long enough to be measured
_CALM = 20  # ... at least, before more is asked for
_LONGEST_PROOF = 100  # ... of an account that lets a burst through, as large as that
_BRISK = 5  # requests a second that the ramp may reach however long the way to the server is
_SHARE = 11  # of the requests accepted so far, one in so many may be on the wire to meet an unknown limit


class RateEstimator:
    """The bracket of one limit, and the pace that follows from it.

    `told` is a rate that somebody else keeps. `low` and `burst` are what was found at another time: a rate, and how
    many were let through at once (0: it was no bursty account).
    """

    def __init__(self, retry: Retry, *, configured: float | None = None, lower: float = 0.0, burst: int = 0) -> None:
        self.lower = lower
        self.upper = math.inf
        self.burst = burst
        self.latency = 0.0  # seconds there and back, of the last answer
        self._retry = retry
        self._configured = configured  # None once it was refused
        self._is_believed = False  # what was told is the pace still, after a refusal
        self._start = math.inf if configured else 1 / retry.wait_initial
        self._pace = lower or self._start
        self._is_ramping = not configured and not lower
        self._pause: Pause | None = None
        self._left_at = self._accepted_at = -math.inf
        self._resumed_at: float | None = None  # the cycle: since when, and how many were accepted in it
        self._count = 0
        self._held = 0  # accepted at the present pace
        self._is_growing = False
        self._jump_target = 0.0  # the pace beyond which a leap refutes the bracket; 0: it does not leap
        self._jump_origin = -math.inf  # when it may leap again
        self._jump_hold = retry.wait_max  # seconds until then, once it was refused; twice as long each time
        self._step = _STEP
        self._hold = retry.wait_max  # seconds of calm before more is asked for
        self._calm_since = 0.0

    # What it says

    @property
    def found(self) -> float | None:
        """The rate that holds, per second; None until a refusal has shown that there is a limit."""
        return None if self._is_ramping else self.lower or None

    @property
    def is_ramping(self) -> bool:
        """Tell whether no limit has been met yet."""
        return self._is_ramping

    @property
    def is_refuted(self) -> bool:
        """Tell whether far more has been let through than the bracket allows that was known before."""
        return 0 < self._jump_target < self.lower

    @property
    def is_paused(self) -> bool:
        """Tell whether the last thing that it heard was a refusal."""
        return self._pause is not None

    def delay(self, now: float) -> float:
        """Give the seconds until the pace lets the next one leave."""
        return max(0.0, self._left_at + 1 / self._pace - now)

    def max_concurrent(self, most: int) -> int:
        """Give how many may be on the wire: all those that look for a limit may be refused by it."""
        if self._is_growing:
            return min(most, max(2, math.ceil(self._pace * self.latency) + 1))
        if self._is_ramping:
            return min(most, max(2, self._count // _SHARE, math.ceil(_BRISK * self.latency)))
        return most

    def pause_length(self, now: float, in_a_row: int, jitter: float) -> float:
        """Give the seconds until a token should be there; each time it is not, twice as long."""
        if self.lower and self._accepted_at > -math.inf:
            return min(max(0.0, self._accepted_at + 1 / self.lower - now), self._retry.timeout)
        first = self._pause.scale if self._pause else self._retry.wait_initial
        most = min(max(self._retry.wait_max, first), max(self._retry.timeout, self._retry.wait_max))
        return min(most, first * 2.0 ** min(in_a_row, 60)) * (1 + jitter) / 2

    # What it hears while the gate is open

    def on_send(self, now: float, *, is_lonely: bool = False) -> float:
        """Take note that one leaves, and give the pace that it keeps; 0 if it left later than it might have.

        `is_lonely`: far fewer are in flight than a refusal met, and ever fewer. The end of a job is noticed late, and
        so a capacity may have been taken for a rate that is far too low.
        """
        if self._resumed_at is None:
            self._resumed_at = self._calm_since = now
        is_cruising = self.lower and not (self._is_ramping or self._is_growing or self._pause)
        if is_cruising and is_lonely and self._may_jump(now):
            self._jump_target = _JUMP * (_JUMP * self.lower if math.isinf(self.upper) else self.upper)
            self._step = 1 / _RAMP - 1 if self.burst else _JUMP - 1  # what was saved up would let any leap pass
            self._grow()
        elif is_cruising and now - self._calm_since > max(self._hold, _CALM / self.lower):
            self._grow()
        is_on_time = math.isfinite(self._pace) and now - self._left_at <= _ON_TIME / self._pace
        self._left_at = now
        return self._pace if is_on_time else 0.0

    def on_accepted(self, left_at: float, pace: float) -> None:
        """Take note that one which left then, at that pace, was accepted."""
        self.on_accepted_late(left_at)
        if pace < self._pace:
            return
        if self._is_ramping:
            self.lower, self._pace = pace, pace / _RAMP
            return
        if self._jump_target and not self.burst:
            self.lower, self._is_believed = pace, False
            self._go_on(left_at)
            return
        self._held += 1
        if self._held == (max(_HABIT, self.burst) if self.burst else _PROOF) and pace > self.lower:
            self.lower, self._is_believed = pace, False
            self._step = min(self._step * 2, 1 / _RAMP - 1)
            self._go_on(left_at)

    def on_accepted_late(self, left_at: float) -> None:
        """Take note that one was accepted, of which nothing more can be learnt."""
        self._count += 1
        self._accepted_at = max(self._accepted_at, left_at)

    def on_idle(self) -> None:
        """Take note that nobody wants through: what is counted from here on begins with the next."""
        self._resumed_at, self._count = None, 0

    # Closing and opening

    def on_rate_limited(self, left_at: float, retry_after: float | None) -> None:
        """Take note that one which left then was refused, until `advice` seconds later."""
        is_probe = self._pause is not None
        closing = self._pause = (self._pause or self._start_pause(left_at)).refused(left_at, retry_after)
        gap = left_at - self._accepted_at
        if not 0 < gap < math.inf:
            return
        self.upper = min(self.upper, 1 / gap)
        if not self._see_burst(closing) and self.upper < self.lower * _EVEN:
            if is_probe or (self._is_believed and closing.had_held < _HABIT):  # where a token should have been there
                self.lower = 0.0
            else:
                self.lower *= _MARGIN if closing.had_held >= _HABIT else 1 / _BURST
        if self.burst:
            self.lower = 0.0
        if retry_after is not None and 1 / (gap + max(0.0, retry_after - 1)) > self.lower:  # whole seconds, rounded up
            self.upper = min(self.upper, 1 / (gap + max(0.0, retry_after - 1)))

    def on_rate_limited_late(self, left_at: float) -> None:
        """Take note that one was refused which had left before the refusal that closed the gate was known."""
        gap = left_at - self._accepted_at
        if self._pause and 0 < gap < math.inf:
            self.upper = min(self.upper, 1 / gap)
            self._see_burst(self._pause)

    def on_resumed(self, left_at: float) -> None:
        """Take note that the probe which left then was accepted, after refusals."""
        assert self._pause is not None, "what is open cannot be reopened"
        opened_at = self._pause.resumed_at(left_at)
        is_rough = self._resumed_at is not None and left_at - opened_at > (left_at - self._resumed_at) / 10
        if not self.lower:
            self.lower = self._measure(self._pause, opened_at, left_at)
        if self.burst or self.upper <= self.lower:
            self.upper = math.inf
        if self._resumed_at is None or self._count >= _HABIT:
            self._resumed_at, self._count = opened_at, 0
        self._pause = None
        self.on_accepted_late(left_at)
        self._go_on(left_at)
        if (
            self.burst and is_rough and not self._is_ramping
        ):  # it came late, by nobody knows how much: see soon whether there is much more
            self._calm_since = left_at - max(self._hold, _CALM / self.lower) + _HABIT / self.lower
            self._step = 1 / _RAMP - 1

    def resume(self, left_at: float) -> None:
        """Take note that all refusals since it was as it is now were not its doing; this one was accepted."""
        self._left_at = self._accepted_at = self._resumed_at = self._calm_since = left_at
        self._count = 1

    # How it decides

    def _start_pause(self, left_at: float) -> Pause:
        """End what was going on, and keep what the closing will be judged by."""
        elapsed = 0.0 if self._resumed_at is None else min(left_at - self._resumed_at, self._retry.wait_max)
        closing = Pause(
            from_ramp=self._is_ramping,
            had_held=self._held,
            tried=self.lower,
            rate=0.0 if self._is_ramping else self.lower,
            floor=self.lower if self._is_growing else 0.0,
            scale=max(self._retry.wait_initial, elapsed if self._is_ramping else 1 / self._pace),
        )
        if self._is_growing:
            most = max(self._retry.timeout, self._retry.wait_max) * (2 if self.burst else 1)  # there, it costs two
            self._hold = min(self._hold * 2, most)
        if self._jump_target:
            self._jump_origin, self._jump_hold = left_at + self._jump_hold, self._jump_hold * 2
            self._jump_target = 0.0
        self._is_ramping = self._is_growing = False
        self._step, self._held = _STEP, 0
        return closing

    def _see_burst(self, closing: Pause) -> bool:
        """See whether the bracket contradicts itself; if so, nothing is left of its lower end."""
        if self.upper >= closing.tried / _BURST:
            return False
        if closing.from_ramp and not self.burst:
            self.burst = min(max(1, self._count), _LONGEST_PROOF)
        self.lower = 0.0
        return True

    def _measure(self, closing: Pause, opened_at: float, left_at: float) -> float:
        """Give the rate that this cycle shows, or the last gap where the cycle says nothing."""
        if self._configured:  # it is believed once more: the first refusal may have been bad luck
            told, self._configured, self._is_believed = self._configured, None, True
            return told * _MARGIN
        cycle = 0.0 if self._resumed_at is None else self._count / max(opened_at - self._resumed_at, 1e-3)
        if self.burst and self._count < _HABIT:  # too few to measure: a multiplicative decrease, or the ramp once more
            return max(closing.floor, closing.rate * _RAMP)
        if self.burst or 0 < cycle < self.upper:
            return max(closing.floor, cycle * _MARGIN)
        gap = left_at - self._accepted_at
        return 1 / gap if 0 < gap < math.inf else 0.0

    def _go_on(self, now: float) -> None:
        """Choose the next pace from the bracket."""
        self._held, self._calm_since = 0, now
        if not self.lower:  # nothing was accepted before the refusals: nothing is known
            self.upper, self._pace, self._is_ramping = math.inf, self._start, math.isfinite(self._start)
            return
        self.lower = max(self.lower, 1 / max(self._retry.timeout, self._retry.wait_max))  # nobody waits for ever
        if self._is_growing:
            self._pace = self.lower * (1 + self._step)
        elif math.isinf(self.upper) or self.upper / self.lower <= _CLOSE:
            self._pace = self.lower
        else:
            self._pace = self.lower * (self.upper / self.lower) ** _CAUTION

    def _may_jump(self, now: float) -> bool:
        is_calm = not self.burst or now - self._calm_since > _PROOF / self.lower
        return is_calm and now >= self._jump_origin

    def _grow(self) -> None:
        self._is_growing, self.upper, self._held = True, math.inf, 0
        self._pace = self.lower * (1 + self._step)
