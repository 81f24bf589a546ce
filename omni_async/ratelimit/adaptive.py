"""What one account has shown of its limits: the rate and the capacity, fed with the same events, and told apart.

Time opens a rate, a finished job opens a capacity; both may hold at once. A refusal is taken for the rate's, until
`Capacity` shows that it was its own; the rate is then put back to what it was before.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .concurrency import Capacity
from .rate import Rate

if TYPE_CHECKING:
    from ..settings import Retry


_LONELY = 0.6  # with fewer in flight than so much of what a refusal met, it may well have been a capacity's
_CALM = 5  # requests accepted in a row, after which earlier refusals were the rate's and nobody else's


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """Limits that were found, as plain numbers to be kept and begun with another time.

    `per_second` and `at_once` are None where no such limit was met. `burst` is how many were let through before the
    rate was felt; 0 if hardly any.
    """

    per_second: float | None = None
    at_once: int | None = None
    burst: int = 0


@dataclass(frozen=True, slots=True)
class Departure:
    """How one request left."""

    at: float
    pace: float  # that it kept; 0 if it left later than it might have
    in_flight: int
    is_extra: bool  # beyond the capacity, to see whether that has grown


class Learner:
    """Finds the limits of one account. `told` is a rate, per second, that the user names, and somebody else keeps.

    What was learnt at another time is begun with, not believed: it is given up at the first refusals that contradict
    it, and more is asked for after a while, as of any other limit.
    """

    def __init__(self, retry: Retry, *, told: float | None = None, learnt: Learnt | None = None) -> None:
        self._told = told
        self._retry = retry
        self._before: Rate | None = None  # the rate as it was before refusals that may be the capacity's
        self._in_a_row = 0
        self._left_with = 0  # in flight when the last one left, and on the wire
        self._met = 0  # jobs in flight that the last refusal met
        self.recall(learnt or Learnt())

    def recall(self, learnt: Learnt) -> None:
        """Begin with what was learnt at another time."""
        low = 0.0 if self._told else learnt.per_second or 0.0
        self._rate = Rate(self._retry, told=self._told, low=low, burst=learnt.burst)
        self._capacity = Capacity(self._retry, limit=learnt.at_once)

    def learnt(self) -> Learnt:
        """Give what has been found."""
        return Learnt(per_second=self._rate.found, at_once=self._capacity.limit, burst=self._rate.burst)

    def opens_in(self, now: float, *, in_flight: int, on_wire: int, window: int) -> float | None:
        """Give the seconds until one more may leave, as far as the limits are known; None if not before an event."""
        if on_wire >= self._rate.width(window):
            return None
        wait = self._rate.opens_in(now)
        if not self._capacity.is_full(in_flight + on_wire):
            return wait
        return None if on_wire else max(wait, self._capacity.grows_in(now))

    def left(self, now: float, *, in_flight: int, on_wire: int, is_probe: bool) -> Departure:
        """Take note that one leaves."""
        is_extra = self._capacity.is_full(in_flight + on_wire) and not is_probe
        is_lonely = in_flight + on_wire < min(_LONELY * self._met, self._left_with)
        self._left_with = in_flight + on_wire
        return Departure(now, self._rate.left(now, is_lonely=is_lonely), in_flight, is_extra)

    def rested(self) -> None:
        """Take note that nobody wants through for now: that fewer are in flight then proves nothing."""
        self._left_with = 0
        self._rate.rested()

    # Accepted

    def answered(self, departure: Departure, now: float) -> None:
        """Take note that an answer came."""
        self._rate.latency = now - departure.at

    def accepted(self, departure: Departure, in_flight: int) -> None:
        """Take note that it was accepted, while the gate was open; so many others are in flight now."""
        in_flight = min(departure.in_flight, in_flight)
        if departure.is_extra:
            self._capacity.tried(departure.at, has_grown=in_flight >= departure.in_flight)
        self._capacity.accepted(in_flight, departure.at)
        self._rate.accepted(departure.at, departure.pace)
        if self._rate.is_refuted:
            self._look_back(departure.at)
        self._in_a_row += 1
        if self._in_a_row >= _CALM and not self._capacity.is_suspected:
            self._before = None

    def accepted_late(self, departure: Departure) -> None:
        """Take note that one was accepted which had left before the gate closed."""
        self._rate.counted(departure.at)

    def reopened(self, departure: Departure, in_flight: int) -> None:
        """Take note that the probe was accepted; so many others are in flight now."""
        if not self._rate.is_closed:  # what had closed the gate was no refusal
            self.accepted(departure, in_flight)
            return
        in_flight = min(departure.in_flight, in_flight)
        is_capacity = self._capacity.reopened(in_flight, departure.at)
        if is_capacity and self._before is not None:
            self._rate, self._before = self._before, None
            self._rate.resumed(departure.at)
        elif not is_capacity:
            self._rate.reopened(departure.at)
        self._capacity.accepted(in_flight, departure.at)

    def ended(self, ended_at: float, now: float) -> None:
        """Take note that a job has ended on the server, which is known only now."""
        self._capacity.ended(ended_at)
        self._look_back(now)

    def _look_back(self, now: float) -> None:
        """See whether the capacity explains all that was refused of late; then the rate has nothing to do with it."""
        if self._capacity.explains_all(now, is_alone=self._rate.is_refuted):
            self._rate, self._before = self._before or Rate(self._retry, told=self._told), None
            self._rate.resumed(now)

    # Refused

    def is_harmless(self, departure: Departure, in_flight: int, now: float, *, is_late: bool) -> bool:
        """Tell whether a refusal only shows that the capacity has not grown: the next job that finishes mends it."""
        if departure.is_extra:
            self._capacity.tried(now, has_grown=False)
            return True
        return not is_late and self._capacity.takes_back(max(departure.in_flight, in_flight), now)

    def refused(self, departure: Departure, in_flight: int, advice: float | None) -> None:
        """Take note that one was refused, with so many others in flight."""
        self._in_a_row = 0
        if self._before is None:
            self._before = copy.copy(self._rate)
        self._met = max(departure.in_flight, in_flight)
        self._capacity.refused(self._met, departure.at, is_first=self._rate.is_ramping)
        self._rate.refused(departure.at, self._sensible(advice))
        self._look_back(departure.at)

    def refused_late(self, departure: Departure) -> None:
        """Take note that one was refused which had left before the gate closed."""
        self._rate.refused_too(departure.at)

    def may_open_early(self) -> bool:
        """Tell whether a job that finishes is worth a probe."""
        return self._capacity.may_open

    def opened_in_vain(self) -> None:
        """Take note that such a probe was refused."""
        self._capacity.failed()

    def pause(self, now: float, advice: float | None, in_a_row: int, dice: float) -> float:
        """Give the seconds until a probe should leave: as advised, or, where that did not help, as computed."""
        own = self._rate.pause(now, in_a_row, dice)
        sensible = self._sensible(advice)
        if sensible is not None:
            return max(sensible * (1 + dice / 20), own if in_a_row else 0.0)
        stretched = self._retry.initial * 2.0 ** min(in_a_row, 60)
        if not advice or advice < 0 or stretched <= self._retry.maximum:
            return own
        return max(own, min(stretched, self._retry.budget))  # not believed at first, but it seems to be true

    def _sensible(self, advice: float | None) -> float | None:
        """Give the advice if anybody would wait for so long. What no budget bears says no more than none."""
        return advice if advice and 0 < advice <= self._retry.budget else None
