"""When a job is checked next: often where it is likely to finish, and not before anything can be done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .durations import Durations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .durations import Law
    from .models import Task
    from .settings import Polling

_QUEUED = frozenset({"submitted", "pending", "queued"})  # the words of a server that has not begun yet

_EARLIEST = 1 / 2  # of the estimated time: before that, hardly any job is done
_TRUST = 4  # maxima: so long a server's estimate is believed that nothing is done yet
_POSSIBLE = 0.1  # of all durations are over: from there on `Polling.maximum` holds
_LATENCY = 2.0  # seconds by which the server's word about a duration may differ from what was seen


@dataclass(slots=True)
class Course:
    """What has been seen of one job. Times are of any one clock, in seconds."""

    model: str
    since: float  # accepted, or first seen not to be queued any more
    seen: float  # the last look that found it unfinished; at first, when it was accepted
    is_watched: bool = True  # from its beginning; else nothing is known of the time before the first look
    is_queued: bool = False

    def age(self, now: float) -> float:
        """Give for how long the server has been at work."""
        return max(0.0, now - self.since)


class Cadence:
    """Tells when to look at a job, and learns from those that have finished how long they take."""

    def __init__(self, polling: Polling) -> None:
        self._polling = polling
        self._models: dict[str, Durations] = {}
        self._noticed = 0
        self._late = 0.0

    def learn(self, model: str, seconds: float) -> None:
        """Take in how long a job of a model has taken."""
        self._models.setdefault(model, Durations()).add(seconds)

    def see(self, course: Course, task: Task, now: float) -> None:
        """Take in a look that found a job unfinished."""
        if task.status in _QUEUED and not task.progress:
            course.is_queued = True
        elif course.is_queued:  # it has begun since the last look
            course.is_queued = False
            course.since = (course.seen + now) / 2
        course.seen = now

    def finish(self, course: Course, task: Task, now: float) -> float | None:
        """Take in a look that found a job finished; gives how long the server took, if that can be told.

        The server's word counts where it fits what was seen (clocks may be wrong); else the middle between the last
        two looks.
        """
        earliest, latest = course.age(course.seen), course.age(now)
        is_whole = task.completed is not None and task.created is not None
        told = [(task.completed or 0) - (task.created or 0)] if is_whole else []
        told += [task.actual_time] if task.actual_time is not None else []
        took = next((time for time in told if earliest - _LATENCY <= time <= latest + _LATENCY and time > 0), None)
        if took is None and course.is_watched:
            took = (earliest + latest) / 2
        if took is not None:
            self.learn(course.model, took)
            self._noticed += 1
            self._late += max(0.0, latest - took)
        return took

    @property
    def late(self) -> float:
        """How long a job that has finished has gone unnoticed so far, in the mean."""
        return self._late / self._noticed if self._noticed else 0.0

    def next_gap(self, course: Course, now: float, estimated_time: float | None = None) -> float:
        """Give the seconds until the next look; `estimated_time` is the server's own estimate, if it gave one."""
        polling, law = self._polling, self._law(course)
        age = 0.0 if course.is_queued else course.age(now)  # of one that waits there, it may at best begin now
        if law is None:
            gap, not_before = _guess(course.age(now), estimated_time, polling)
        else:
            gap = law.next_look(age, polling.check_cost) - age
            not_before = law.quantile(_POSSIBLE) - age
        return max(polling.minimum, min(gap, max(polling.maximum, not_before)))

    def wasted(self, course: Course, now: float) -> float:
        """Give how many seconds a job is expected to have been finished without anybody knowing."""
        law = self._law(course)
        if law is None or course.is_queued:
            return now - course.seen
        return law.wasted(course.age(now), course.age(course.seen))

    def logs(self) -> Sequence[float]:
        """Give the logarithms of the durations of the model of which most is known."""
        return max((each.logs() for each in self._models.values()), key=len, default=())

    def _law(self, course: Course) -> Law | None:
        durations = self._models.get(course.model)
        return durations.law() if durations else None


def _guess(age: float, estimated_time: float | None, polling: Polling) -> tuple[float, float]:
    """Give the gap where nothing is known but that a job has lasted for `age`, and how long nothing can be done.

    A duration that is known to exceed t, and no more, has the hazard ``h(t) = 2 / t``; the square-root rule makes of
    it a gap of ``sqrt(check_cost * t)``.
    """
    estimated_time = max(0.0, estimated_time or 0.0)
    not_before = min(estimated_time * _EARLIEST - age, _TRUST * polling.maximum)
    return max(math.sqrt(polling.check_cost * max(age, estimated_time)), not_before), not_before
