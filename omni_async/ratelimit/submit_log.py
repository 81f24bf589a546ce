"""`SubmitLog`: the latest submits, what became of them, and how many other jobs each of them met on the server.

Theory of operation. The end of a job is noticed late, and answers overtake each other. So how many other jobs a submit
met is not known when it leaves, but it is bounded: at most those that were not known to have ended by then, at least
those of them that had certainly not ended. Both bounds are corrected whenever something is learned that happened before
the submit left. A refusal may be due to the concurrency limit only if the larger number reaches that, and an acceptance
disproves the limit only if the smaller number does.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from dataclasses import dataclass
from itertools import dropwhile
from typing import TYPE_CHECKING, NamedTuple

from .chance import Observation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .rate import RateEstimator

# Submits that are remembered. They must cover the refusals that are compared with each other, at hundreds of jobs in
# flight.
_REMEMBERED = 400
# Those of them that are compared to tell chance from limits. Half: chance of .05 is found later. Double: limits that
# have changed since pass for chance. Chosen.
_COMPARED = 150

# The longest delay of noticing an end is forgotten by this factor with each end.
_FADE = 0.99

# The longest delay known is multiplied by 1 + this / ends, and unknown before `_MIN_ENDS`: the first few ends say
# little, because they are those that were noticed soon. Without it, one seed of twelve takes a limit of 12 for a rate
# if ends are noticed half a second late: makespan 1.63.
_FEW_ENDS = 3
_MIN_ENDS = 5

# The shortest gaps between accepted submits that are not compared with those of refused ones: a saved-up submit or two
# may have paid for them. Chosen. Without the comparison itself, a false concurrency limit is found where answers are
# slow: makespan 1.16 -> 1.68 for 4/s with answers after 1 s.
_SHORTEST_GAPS = 4

# Seconds that count as "lately".
_LATELY = 30.0


@dataclass(slots=True, eq=False)
class Submit:
    """One submit: how it left, and what became of it. Times are in seconds, paces in submits per second."""

    sent_at: float
    pace: float  # the rate that it kept; 0 if it left later than the pace allowed
    is_extra: bool  # beyond the learned concurrency limit, to find out whether that has risen
    is_probe: bool
    most: int  # other jobs on the server when it arrived there
    least: int
    answered_at: float = math.inf
    is_refused: bool | None = None  # None: not answered yet, or neither accepted nor refused
    is_closed: bool = False  # the refusal is explained for good
    rate_before: RateEstimator | None = None  # what was known of the rate limit before this refusal
    contradicts_rate: bool = False  # refused although it kept a pace that has held, or left even later

    @property
    def is_test(self) -> bool:
        """Whether it left to find out something, though it was likely to be refused."""
        return self.is_probe or self.is_extra


class Explanation(NamedTuple):
    """A concurrency limit that explains all refusals since `first`."""

    limit: int
    first: Submit
    refusals: int  # those that began a pause or lengthened it
    accepted: int  # after the first refusal, once a job had ended


class SubmitLog:
    """The latest submits, in order of leaving. `is_whole`: no program has submitted anything for a while before."""

    def __init__(self, *, is_whole: bool = True) -> None:
        self._is_whole = is_whole
        self._submits: deque[Submit] = deque(maxlen=_REMEMBERED)
        self._refused: deque[Submit] = deque()  # those of them whose refusal is not explained
        self._delay = 0.0  # the longest time for which an end went unnoticed, fading
        self._ends = 0
        self._latency = 0.0
        self._mean_trip = 0.0
        self._deviation = 0.0  # of the round trips from their mean

    def add(self, submit: Submit) -> Submit:
        """Append a submit that leaves now."""
        self._submits.append(submit)
        return submit

    def on_answered(self, submit: Submit, now: float) -> None:
        """Record that the server has answered a submit."""
        submit.answered_at = now
        trip = now - submit.sent_at
        self._latency = max(self._latency * _FADE, trip)
        if not self._mean_trip:
            self._mean_trip = trip
        self._deviation += (abs(trip - self._mean_trip) - self._deviation) / 4
        self._mean_trip += (trip - self._mean_trip) / 8

    def on_refused(self, submit: Submit) -> None:
        """Record that a submit was refused: those that left after it met one job less."""
        self._refused.append(submit)
        for later in reversed(self._submits):
            if later is submit:
                return
            later.most -= 1
            later.least -= 1

    def on_job_ended(self, now: float, ended_at: float, uncertainty: float) -> None:
        """Record that a job ended at that time, give or take `uncertainty` seconds, which is known only now."""
        earliest, latest = ended_at - uncertainty, ended_at + uncertainty
        self._ends += 1
        self._delay = max(self._delay * _FADE, now - earliest)
        for submit in reversed(self._submits):
            if submit.sent_at <= earliest - self._latency:
                return
            submit.least -= submit.answered_at > earliest
            submit.most -= submit.sent_at > latest

    @property
    def has_refusals(self) -> bool:
        """Whether a refusal is remembered that is not explained for good."""
        while self._refused and self._refused[0].sent_at < self._submits[0].sent_at:
            self._refused.popleft()
        return bool(self._refused)

    @property
    def lowest_refused(self) -> int:
        """The least number of jobs that a submit has met whose refusal is not explained for good."""
        return min((each.most for each in self._refused), default=1 << 60)

    def close(self, refused: Submit) -> None:
        """Record that this refusal is explained for good."""
        refused.is_closed = True
        self._refused = deque(each for each in self._refused if each is not refused)

    def refused_with(self, number: float) -> list[Submit]:
        """Return the submits that met at most so many jobs, or more, and whose refusal is not explained for good."""
        return [each for each in self._refused if each.most >= number]

    def proven(self, now: float, *, since: float) -> int:
        """Return how many jobs have certainly been in flight at once since then."""
        settled = self._settled_before(now)
        accepted = (each for each in self._submits if each.is_refused is False and since < each.sent_at < settled)
        return 1 + max((each.least for each in accepted), default=-1)

    def explain(self, now: float) -> Explanation | None:
        """Return the concurrency limit that explains as many of the last refusals as possible.

        A submit that the concurrency limit refused has met exactly that number of jobs, and one that was accepted has
        met fewer.
        """
        if not self.has_refusals:
            return None
        found, refusals, settled = None, 0, self._settled_before(now)
        lowest, highest_refused, highest_accepted, highest_pending = 1 << 60, 0, -1, -1
        accepted: list[int] = []
        for submit, overtaking in self._latest_first():
            is_refused = submit.is_refused and not submit.is_closed
            if is_refused:
                lowest = min(lowest, submit.most + overtaking)
                highest_refused = max(highest_refused, submit.least)
                refusals += submit.rate_before is not None
            elif submit.is_refused is False:
                accepted.append(submit.most)
                if submit.sent_at < settled:
                    highest_accepted = max(highest_accepted, submit.least)
                else:
                    highest_pending = max(highest_pending, submit.least)
            if highest_accepted >= lowest or highest_refused > lowest:
                break
            if is_refused and lowest > 0:
                below = 0 if highest_pending >= lowest else sum(each < lowest for each in accepted)
                found = Explanation(lowest, submit, refusals, below)
                if submit is self._refused[0]:
                    break
        return found

    def _latest_first(self) -> Iterator[tuple[Submit, int]]:
        """Yield each submit, and how many of those that left after it may have arrived before it and been accepted.

        Without these, one seed of ten takes 200 in flight, answers after 1 s, for a rate: worst makespan 1.21 -> 1.47.
        """
        later: deque[float] = deque()  # when they left
        jitter = self.jitter()
        for submit in reversed(self._submits):
            while later and later[0] > submit.sent_at + jitter:
                later.popleft()
            yield submit, len(later)
            if not submit.is_refused:
                later.append(submit.sent_at)

    def refused_since(self, first: Submit) -> list[Submit]:
        """Return the submits since `first` whose refusal is not explained for good."""
        return [each for each in self._refused if each.sent_at >= first.sent_at]

    def fits_plain_rate(self, first: Submit) -> bool:
        """Return whether a rate limit without a burst explains all refusals since `first`, and what was accepted.

        Then each submit that was refused followed the last accepted one sooner than those that were accepted.
        """
        longest, before = 0.0, -math.inf
        gaps: list[float] = []
        for submit in self._submits:
            gap = submit.sent_at - before
            if submit.is_refused and submit.sent_at >= first.sent_at:
                longest = max(longest, gap)
            elif submit.is_refused is False:
                gaps.append(gap)
                before = submit.sent_at
        gaps.sort()
        return len(gaps) > _SHORTEST_GAPS and longest <= gaps[_SHORTEST_GAPS] + self.jitter()

    def observations(self, submit: Submit) -> tuple[list[Observation], int]:
        """Return the latest submits that were accepted or refused, and the index of this one."""
        latest = [each for each in self._submits if each.is_refused is not None][-_COMPARED:]
        observations = [
            Observation(
                each.sent_at, each.least, each.most, bool(each.is_refused), not (each.is_refused and each.is_test)
            )
            for each in latest
        ]
        return observations, next((index for index, each in enumerate(latest) if each is submit), -1)

    def rate_before(self) -> RateEstimator | None:
        """Return what was known of the rate limit before the first refusal that is remembered; None if unknown."""
        known = (each.rate_before for each in self._submits if not each.is_probe)
        return next((copy.copy(each) for each in known if each is not None), None)

    def accepted_after(self, refused_at: float) -> tuple[int, float]:
        """Return how many submits were accepted that had left after a refused one, and in how many seconds they left.

        The probes that follow are not counted.
        """
        sent = [each for each in self._submits if each.sent_at > refused_at and not each.is_probe]
        accepted = sum(each.is_refused is False for each in sent)
        return accepted, sent[-1].sent_at - refused_at if sent else 0.0

    def jitter(self) -> float:
        """Return by how many seconds two round trips may differ, estimated as in RFC 6298 (four mean deviations)."""
        return 4 * self._deviation

    def history(self) -> list[tuple[float, bool]]:
        """Return when each accepted submit left, and the first refused one of each pause, and whether it was accepted.

        Once submits were forgotten, it begins with a refusal: only then it is known how much was saved up.
        """
        history = [
            (each.sent_at, not each.is_refused)
            for each in self._submits
            if each.is_refused is False or (each.rate_before is not None and not each.is_probe and not each.is_closed)
        ]
        is_whole = self._is_whole and len(self._submits) < _REMEMBERED
        return history if is_whole else list(dropwhile(lambda event: event[1], history))

    def accepted_per_second(self, now: float) -> float:
        """Return the rate at which submits were accepted lately."""
        return sum(each.is_refused is False and each.sent_at > now - _LATELY for each in self._submits) / _LATELY

    def _settled_before(self, now: float) -> float:
        """Return the time before which every end has been noticed.

        Until some are noticed, any number of ends may be unnoticed: those that are noticed first were noticed soon.
        """
        return now - self._delay * (1 + _FEW_ENDS / self._ends) if self._ends >= _MIN_ENDS else -math.inf
