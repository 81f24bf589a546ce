"""What one account has shown of its limits: the rate and the capacity, fed with the same events, and told apart.

Time opens a rate, a finished job opens a capacity; both may hold at once. A refusal is taken for the rate's, until
`Capacity` shows that it was its own; the rate is then put back to what was known before.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .capacity import Capacity
from .rate import Rate

if TYPE_CHECKING:
    from .settings import Retry


_CALM = 5  # requests accepted in a row before the refusals before them count as explained


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """Limits that were found, as plain numbers to be kept; None where none was met."""

    per_second: float | None = None
    at_once: int | None = None


@dataclass(frozen=True, slots=True)
class Departure:
    """How one request left."""

    at: float
    pace: float = 0.0  # that it kept; 0 if it left later than it might have
    in_flight: int = 0
    is_extra: bool = False  # beyond the capacity, to see whether it has grown


class Learner:
    """Finds the limits of one account. `is_paced`: the user told a rate, and somebody else keeps it."""

    def __init__(self, retry: Retry, *, is_paced: bool = False, learnt: Learnt | None = None) -> None:
        learnt = learnt or Learnt()
        self.rate = Rate(retry, is_told=is_paced, low=learnt.per_second or 0.0)
        self.capacity = Capacity(retry, limit=learnt.at_once)
        self._retry = retry
        self._before: Rate | None = None  # the rate as it was before refusals that may be the capacity's
        self._in_a_row = 0

    def learnt(self) -> Learnt:
        """Give what has been found."""
        return Learnt(per_second=self.rate.found, at_once=self.capacity.limit)

    def opens_in(self, now: float, in_flight: int, on_wire: int) -> float | None:
        """Give the seconds until one more may leave, as far as the limits are known; None if a place must be free."""
        wait = self.rate.opens_in(now)
        if not self.capacity.is_full(in_flight + on_wire):
            return wait
        return None if on_wire else max(wait, self.capacity.grows_in(now))

    def left(self, now: float, in_flight: int, on_wire: int, *, is_probe: bool) -> Departure:
        """Take note that one leaves."""
        is_extra = self.capacity.is_full(in_flight + on_wire) and not is_probe
        return Departure(now, self.rate.left(now), in_flight, is_extra)

    def accepted(self, departure: Departure, in_flight: int) -> None:
        """Take note that it was accepted, while the gate was open; so many others are in flight now."""
        if departure.is_extra:
            self.capacity.tried(departure.at, has_grown=in_flight >= departure.in_flight)
        self.capacity.accepted(min(departure.in_flight, in_flight))
        self.rate.accepted(departure.at, departure.pace)
        self._in_a_row += 1
        if self._in_a_row >= _CALM and not self.capacity.suspects:
            self._before = None

    def reopened(self, departure: Departure, in_flight: int) -> None:
        """Take note that the probe was accepted; so many others are in flight now."""
        if not self.rate.is_closed:  # what had closed the gate was no refusal
            self.accepted(departure, in_flight)
            return
        in_flight = min(departure.in_flight, in_flight)
        if self.capacity.reopened(in_flight, departure.at):
            if self._before is not None:
                self.rate, self._before = self._before, None
                self.rate.resumed(departure.at)
        else:
            self.rate.reopened(departure.at)
        self.capacity.accepted(in_flight)

    def refused(self, departure: Departure, in_flight: int, advice: float | None) -> None:
        """Take note that it was refused."""
        self._in_a_row = 0
        if self._before is None:
            self._before = copy.copy(self.rate)
        self.capacity.refused(max(departure.in_flight, in_flight), is_first=self.rate.is_ramping)
        self.rate.refused(departure.at, self._sensible(advice))

    def takes_back(self, departure: Departure, in_flight: int, now: float) -> bool:
        """Tell whether a refusal only shows that the capacity has not grown after all: a finished job will mend it."""
        return self.capacity.takes_back(max(departure.in_flight, in_flight), now)

    def refused_too(self, departure: Departure) -> None:
        """Take note that one was refused which had left before the gate closed."""
        self.rate.refused_too(departure.at)

    def pause(self, now: float, advice: float | None, in_a_row: int, dice: float) -> float:
        """Give the seconds until a probe should leave."""
        own = self.rate.pause(now, in_a_row, dice)
        advice = self._sensible(advice)
        return own if advice is None else max(advice * (1 + dice / 20), own if in_a_row else 0.0)

    def _sensible(self, advice: float | None) -> float | None:
        return advice if advice and 0 < advice <= self._retry.budget else None
