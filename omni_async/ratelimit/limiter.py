"""What decides when the next request may leave: fed with events and times, it answers; it never waits.

Theory of operation. The gate is *open*, *closed*, or *probing*. Open, it lets through what capacity and a window of
requests on the wire allow; the window begins with one and grows by one with each request let through, so that traffic
after a pause (and at the very start, when not even the key has been proved) ramps up and does not burst. A refusal
(429) closes it for everybody. When the pause is over, or a job finishes on the server, exactly one probe leaves: what
becomes of it opens the gate or closes it again for longer. Refusals of requests that had left before the closing
count as that same closing; each request carries a `Permit` that tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from .adaptive import Departure, Learner, Learnt
from .backoff import backoff, obey, patience
from .throughput import Flow

if TYPE_CHECKING:
    from ..settings import Retry


_UNCLEAR_IN_A_ROW = 5  # so many unclear outcomes without a clear one: the server is in trouble, not the request


class _State(Enum):
    OPEN = auto()
    CLOSED = auto()
    PROBING = auto()


class _Cause(Enum):
    """Why the gate is closed; it decides for how long one keeps trying."""

    REFUSED = auto()
    UNREACHABLE = auto()
    TROUBLE = auto()


@dataclass(frozen=True, slots=True)
class Permit:
    """One request let through; to be handed back with what became of it."""

    closing: int  # how often the gate had closed when it left
    is_probe: bool
    departure: Departure | None = None  # how it left, where the gate learns


class Gate:
    """Lets requests through one by one. Times are of any one clock that only moves forward, in seconds.

    `capacity` is how many accepted jobs may be unfinished at once (None: no ceiling), `width` how many requests may
    be on the wire at once. With a `learner` it finds the account's limits and keeps just within them.
    """

    def __init__(self, *, capacity: int | None, width: int, retry: Retry, learner: Learner | None = None) -> None:
        self.in_flight = 0
        self.flow = Flow()
        self._capacity = capacity
        self._width = width
        self._retry = retry
        self._learner = learner
        self._state = _State.OPEN
        self._cause = _Cause.REFUSED
        self._window = 1
        self._on_wire = 0
        self._closings = 0  # ever
        self._in_a_row = 0  # closings since a request was last let through
        self._unclear = 0
        self._opens_at = 0.0
        self._planned_at = 0.0  # when it would have opened, had no job finished
        self._has_rested = False  # for a while, nobody wanted through
        self._closed_since: float | None = None  # since when nothing has been let through
        self._cause_since = 0.0  # since when it has been for the present cause
        self._early_probe = False  # the last probe left because a job finished
        self._early_allowed = True  # ... which in this closing has not failed yet

    def opens_in(self, now: float, *, held: int = 0) -> float | None:
        """Give the seconds until the next request may leave: 0 means now, None means not before an event.

        `held` is how many places on the server may be held by others of which nothing is known.
        """
        if self._is_full(held) or self._state is _State.PROBING:
            return None
        if self._state is _State.CLOSED:
            return max(0.0, self._opens_at - now)
        if self._learner is None:
            return 0.0 if self._on_wire < self._window else None
        return self._learner.opens_in(now, in_flight=self.in_flight, on_wire=self._on_wire, window=self._window)

    def recall(self, learnt: Learnt) -> None:
        """Begin with limits that were found at another time; before the first request."""
        if self._learner:
            self._learner.recall(learnt)

    def learnt(self) -> Learnt:
        """Give the limits found so far."""
        return self._learner.learnt() if self._learner else Learnt()

    @property
    def is_full(self) -> bool:
        """Tell whether those who want through wait for a job to finish, as far as is known."""
        if self._learner is None or self._is_full(0):
            return self._is_full(0)
        at_once = self._learner.learnt().at_once
        if self._state is _State.OPEN:
            return at_once is not None and self.in_flight + self._on_wire >= at_once
        return self._cause is _Cause.REFUSED and self._learner.may_open_early()

    @property
    def is_closed(self) -> bool:
        """Tell whether something has closed it, and nothing has come through since."""
        return self._state is not _State.OPEN

    def rested(self) -> None:
        """Take note that nobody wants through for now, or that whoever comes next comes with new patience."""
        self._has_rested = True
        self.flow.rested()
        if self._learner:
            self._learner.rested()

    def leave(self, now: float) -> Permit:
        """Let one request through; only after `opens_in` gave 0."""
        is_probe = self._state is _State.CLOSED
        if is_probe:
            self._state = _State.PROBING
            if self._has_rested or now - self._opens_at > patience(self._retry):
                self._closed_since = self._cause_since = now  # time in which nobody asks tries no patience
        self._has_rested = False
        departure = None
        if self._learner:
            departure = self._learner.left(now, in_flight=self.in_flight, on_wire=self._on_wire, is_probe=is_probe)
        self._on_wire += 1
        return Permit(self._closings, is_probe, departure)

    def passed(self, permit: Permit, now: float | None = None, *, accepted: bool) -> None:
        """Take note that the server let this request through; `accepted` if a job is in flight from now on."""
        self._on_wire -= 1
        self.in_flight += accepted
        self._unclear = 0
        is_late = permit.closing != self._closings
        if accepted:
            self._learn_acceptance(permit, now, is_late=is_late)
        if is_late:
            return  # it left before the gate closed, and tells nothing about now
        self._state = _State.OPEN
        self._in_a_row = 0
        self._closed_since = None
        self._early_allowed = True
        self._window = min(self._width, self._window + 1)

    def refused(self, permit: Permit, now: float, *, advice: float | None, dice: float) -> None:
        """Take note of a 429, with the server's advice (`Retry-After`, seconds) if it gave any."""
        self._on_wire -= 1
        is_late = permit.closing != self._closings
        if self._learner and permit.departure:
            may_mend = not permit.is_probe and not is_late
            if self._learner.is_harmless(permit.departure, self.in_flight, now, is_late=not may_mend):
                return
            if is_late:
                self._learner.refused_late(permit.departure)
            else:
                self._learner.refused(permit.departure, self.in_flight, advice)
        if is_late:
            if self._state is _State.CLOSED and (advice is not None or self._learner):
                self._opens_at = max(self._opens_at, now + self._pause(now, advice, 0, dice))
        elif permit.is_probe and self._early_probe:
            self._refuse_early(now, advice, dice)
        else:
            self._close(now, _Cause.REFUSED, self._pause(now, advice, self._in_a_row, dice))

    def unreachable(self, permit: Permit, now: float, *, dice: float) -> None:
        """Take note that this request could not even be sent."""
        self._on_wire -= 1
        if permit.closing == self._closings:
            self._close(now, _Cause.UNREACHABLE, backoff(self._in_a_row, self._retry, dice))

    def unclear(self, permit: Permit, now: float, *, dice: float) -> None:
        """Take note that nobody knows what became of this request."""
        self._on_wire -= 1
        self._unclear += 1
        if permit.closing != self._closings:
            return
        if permit.is_probe or self._unclear >= _UNCLEAR_IN_A_ROW:
            self._close(now, _Cause.TROUBLE, backoff(self._in_a_row, self._retry, dice))

    def withdrawn(self, permit: Permit) -> None:
        """Take back a request that never left; a probe's place is free again at once."""
        self._on_wire -= 1
        if permit.is_probe and permit.closing == self._closings:
            self._state = _State.CLOSED

    def joined(self) -> None:
        """Count a job that is in flight without having left through this gate."""
        self.in_flight += 1

    def finished(self, now: float, *, ended_at: float | None = None) -> None:
        """Take note that a job in flight has ended on the server (some time ago), which may have freed a place."""
        self.in_flight = max(0, self.in_flight - 1)
        if self._learner:
            self._learner.ended(now if ended_at is None else ended_at, now)
        if self._state is _State.CLOSED and self._cause is _Cause.REFUSED and self._early_allowed:
            if self._learner and not self._learner.may_open_early():
                return
            if not self._early_probe:
                self._planned_at = self._opens_at
            self._early_probe = self._early_probe or self._opens_at > now
            self._opens_at = min(self._opens_at, now)

    def has_lost_patience(self, now: float) -> bool:
        """Tell whether asking on is pointless: no way to the server for a budget, or nothing but no for far longer."""
        if self._closed_since is None:
            return False
        if self._cause is _Cause.UNREACHABLE and now - self._cause_since > self._retry.budget:
            return True
        return now - self._closed_since > patience(self._retry) and self.in_flight == 0

    def _learn_acceptance(self, permit: Permit, now: float | None, *, is_late: bool) -> None:
        if now is not None:
            self.flow.accepted(now)
        if self._learner is None or permit.departure is None:
            return
        if now is not None:
            self._learner.answered(permit.departure, now)
        others = self.in_flight - 1
        if is_late:
            self._learner.accepted_late(permit.departure)
        elif permit.is_probe:
            self._learner.reopened(permit.departure, others)
        else:
            self._learner.accepted(permit.departure, others)

    def _refuse_early(self, now: float, advice: float | None, dice: float) -> None:
        """Close again after a probe that left because a job had finished: time has to open, as it would have anyway."""
        self._early_allowed = False
        if self._learner is None:
            self._close(now, _Cause.REFUSED, self._pause(now, advice, self._in_a_row, dice))
            return
        self._learner.opened_in_vain()
        planned = self._planned_at - now
        pause = planned if advice is None else max(planned, self._pause(now, advice, 0, dice))
        self._in_a_row -= 1
        self._close(now, _Cause.REFUSED, max(0.0, pause))

    def _pause(self, now: float, advice: float | None, in_a_row: int, dice: float) -> float:
        if self._learner is None:
            return obey(advice, in_a_row, self._retry, dice)
        return self._learner.pause(now, advice, in_a_row, dice)

    def _is_full(self, held: int) -> bool:
        return self._capacity is not None and self.in_flight + self._on_wire + held >= self._capacity

    def _close(self, now: float, cause: _Cause, pause: float) -> None:
        if self._closed_since is None:
            self._closed_since = self._cause_since = now
        elif cause is not self._cause:
            self._cause_since = now  # an outage has lasted since it began, not since an earlier trouble did
        self._state = _State.CLOSED
        self._cause = cause
        self._closings += 1
        self._in_a_row += 1
        self._window = 1
        self._opens_at = now + pause
        self._early_probe = False
