"""When a job is checked next: often where it is likely to finish, and not before anything can be done.

What is known changes while a job rests: others like it finish, or are seen not to. So the time of its next look is no
appointment. It is asked for anew when it has come, and once in a while before that.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .durations import Durations
from .forecast import Experience

if TYPE_CHECKING:
    from .models import Task
    from .settings import Polling

_QUEUED = frozenset({"submitted", "pending", "queued"})  # the words of a server that has not begun yet

_TRUST = 4  # maxima: so long it is believed that nothing is done yet, where no job was seen to finish
_POSSIBLE = 0.1  # of all durations are over: from there on `Polling.maximum` holds
_LATENCY = 2.0  # seconds by which the server's word about a duration may differ from what was seen

# Where nothing is known, and a server's estimate may be far off, a few jobs are looked at more often than would be
# right for themselves alone: what they show, the others need not be asked.
_SCOUTS = 8
_ONE_OF = 16  # jobs that begin is a scout
_SCOUTING = 1 / 8  # of its age: after so long a scout is looked at again

_AGAIN = 1 / 5  # of its age: where little is known, a job is thought about anew after so long
_THOUGHTS = 250  # jobs a second that are thought about anew


@dataclass(slots=True)
class Course:
    """What has been seen of one job. Times are of any one clock, in seconds."""

    model: str
    since: float  # accepted, or first seen not to be queued any more
    seen: float  # the last look that found it unfinished; at first, when it was accepted
    watched: float | None = 0.0  # the age up to which it was watched; None: nobody has looked so far
    is_queued: bool = False
    is_scout: bool = False

    def age(self, now: float) -> float:
        """Give for how long the server has been at work."""
        return max(0.0, now - self.since)


class Cadence:
    """Tells when to look at a job, and learns from each look how long they take."""

    def __init__(self, polling: Polling) -> None:
        self._polling = polling
        self._kinds: dict[str, Durations] = {}
        self._begun: Counter[str] = Counter()
        self.experience = Experience()

    def learn(self, model: str, seconds: float) -> None:
        """Take in how long a job of a model has taken."""
        self._kind(model).ended(0.0, seconds)
        self.experience.add(model, seconds)

    def begin(self, model: str, since: float, now: float, *, is_watched: bool) -> Course:
        """Take in a job that was accepted at `since`; one that was not watched since then is looked at at once."""
        number = self._begun[model]
        self._begun[model] += 1
        is_scout = number % _ONE_OF == _ONE_OF // 4 and number < _SCOUTS * _ONE_OF
        return Course(model, since, since if is_watched else now, 0.0 if is_watched else None, is_scout=is_scout)

    def see(self, course: Course, task: Task, now: float) -> None:
        """Take in a look that found a job unfinished."""
        durations = self._kind(course.model)
        durations.expect(task.estimated_time or 0.0)
        if task.status in _QUEUED and not task.progress:
            course.is_queued = True
            course.watched = course.watched or 0.0
        else:
            if course.is_queued:  # it has begun since the last look
                course.is_queued = False
                course.since = (course.seen + now) / 2
            age = course.age(now)
            if course.watched is not None:
                durations.outlasted(course.watched, age)
            course.watched = age
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
        if took is None and course.watched is not None:
            took = (earliest + latest) / 2
        if took is not None:
            self._kind(course.model).ended(course.watched or 0.0, took)
            self.experience.add(course.model, took, late=latest - took)
        return took

    def next_look(self, course: Course, *, ease: float = 1.0) -> float:
        """Give the time of the next look, as far as is known now.

        `ease` is how many times the cost of a check on its own this one has: more where a hook makes most of them
        needless, less where one request is shared by many jobs. By the square-root rule gaps go with its root.
        """
        if course.watched is None:
            return course.seen
        polling, durations = self._polling, self._kind(course.model)
        law = durations.law()
        age = 0.0 if course.is_queued else course.age(course.seen)  # of one that waits there, it may at best begin now
        gap = law.next_look(age, polling.check_cost * ease) - age
        not_before = law.quantile(_POSSIBLE) - age
        if not durations.is_known:
            not_before = min(not_before, _TRUST * polling.maximum)
            gap = min(gap, age * _SCOUTING) if course.is_scout else gap
        return course.seen + max(polling.minimum, min(gap, max(polling.maximum * math.sqrt(ease), not_before)))

    def think_again_in(self, course: Course, now: float, *, followed: int) -> float:
        """Give the seconds after which `next_look` may have become earlier, while so many jobs are followed."""
        polling = self._polling
        if self._kind(course.model).is_known:
            return polling.maximum
        return max(polling.minimum, course.age(now) * _AGAIN, followed / _THOUGHTS)

    def wasted(self, course: Course, now: float) -> float:
        """Give how many seconds a job is expected to have been finished without anybody knowing."""
        durations = self._kind(course.model)
        if course.is_queued or not durations.is_known:
            return now - course.seen
        return durations.law().wasted(course.age(now), course.age(course.seen))

    def _kind(self, model: str) -> Durations:
        return self._kinds.setdefault(model, Durations())
