"""When a job is checked next: often where it is likely to finish, and not before anything can be done.

What is known changes while a job rests: others like it finish, or are seen not to. So the time of its next look is no
appointment. It is asked for anew when it has come, and once in a while before that.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .durations import DurationDistribution, DurationEstimator
from .progress import FinishWindow, PredictionAccuracy, next_check, predict_finish

if TYPE_CHECKING:
    from ..models.responses import Task
    from ..settings import Polling


_QUEUED = frozenset({"submitted", "pending", "queued"})  # the words of a server that has not begun yet

_TRUST = 4  # maxima: so long it is believed that nothing is done yet, where no job was seen to finish
_POSSIBLE = 0.1  # of all durations are over: from there on `Polling.max_interval` holds
_LATENCY = 2.0  # seconds by which the server's word about a duration may differ from what was seen

# Where nothing is known, and a server's estimate may be far off, a few jobs are looked at more often than would be
# right for themselves alone: what they show, the others need not be asked.
_SCOUTS = 8
_ONE_OF = 16  # jobs that begin is a scout
_SCOUTING = 1 / 8  # of its age: after so long a scout is looked at again

# Where servers tell how far they are, and have been right so far.
_WITNESS = 16  # one job of so many is followed as if they had told nothing
_EARLY = 0.02  # of all durations are over: before that a job is asked how far it is
_DOUBT = 0.05  # seconds by which the age of a job may be wrong, unless it waited in a queue
_WHOLE = 0.6  # seconds by which the server's word about a duration may be wrong, for it is told in whole ones
_HARDLY_EASED = 1.25  # more, and hooks do come: they tell the end, and not a look at the foretold time
_MARGIN = 1 / 8  # of `Polling.min_interval`, half a turn: who comes a little too early waits for all of it

_AGAIN = 1 / 5  # of its age: where little is known, a job is thought about anew after so long
_THOUGHTS = 250  # jobs a second that are thought about anew


@dataclass(slots=True)
class CheckHistory:
    """What has been seen of one job. Times are of any one clock, in seconds."""

    model: str
    started: float  # accepted, or first seen not to be queued any more
    last_check: float  # the last look that found it unfinished; at first, when it was accepted
    observed_until: float | None = 0.0  # the age up to which it was watched; None: nobody has looked so far
    start_error: float = _DOUBT  # seconds by which `since` may be wrong
    is_queued: bool = False
    is_sample: bool = False
    uses_progress: bool = True  # whether what it tells of its progress is acted on
    first_prediction: FinishWindow | None = None  # when it would end, by what it told first; None once that was judged
    prediction: FinishWindow | None = None  # ... and last

    def age(self, now: float) -> float:
        """Give for how long the server has been at work."""
        return max(0.0, now - self.started)


class CheckPlanner:
    """Tells when to look at a job, and learns from each look how long they take."""

    def __init__(self, polling: Polling) -> None:
        self._polling = polling
        self._estimators: dict[str, DurationEstimator] = {}
        self._accuracies: dict[str, PredictionAccuracy] = {}
        self._begun: Counter[str] = Counter()
        self._noticed = 0
        self._delays = 0.0

    @property
    def detection_delay(self) -> float:
        """The mean number of seconds between the end of a job and the check that shows it."""
        return self._delays / self._noticed if self._noticed else 0.0

    def durations(self) -> DurationDistribution | None:
        """Return the durations of the model with the most finished jobs, None until one job has ended."""
        best = max(self._estimators.values(), key=lambda each: each.ended, default=None)
        return best.distribution(for_forecast=True) if best is not None and best.ended else None

    def seed(self, model: str, seconds: float) -> None:
        """Take in how long a job of a model has taken."""
        self._estimator(model).observe_end(0.0, seconds)

    def begin(self, model: str, accepted_at: float, now: float, *, is_new: bool) -> CheckHistory:
        """Take in a job that was accepted at `since`; one that was not watched since then is looked at at once."""
        number = self._begun[model]
        self._begun[model] += 1
        is_scout = number % _ONE_OF == _ONE_OF // 4 and number < _SCOUTS * _ONE_OF
        is_heeded = number % _WITNESS != _WITNESS - 1
        seen, watched = (accepted_at, 0.0) if is_new else (now, None)
        return CheckHistory(model, accepted_at, seen, watched, is_sample=is_scout, uses_progress=is_heeded)

    def observe_running(self, history: CheckHistory, task: Task, now: float) -> None:
        """Take in a look that found a job unfinished."""
        durations = self._estimator(history.model)
        durations.set_server_estimate(task.estimated_time or 0.0)
        if task.status in _QUEUED and not task.progress:
            history.is_queued = True
            history.observed_until = history.observed_until or 0.0
            history.prediction = history.first_prediction = None
        else:
            if history.is_queued:  # it has begun since the last look
                history.is_queued = False
                history.start_error = (now - history.last_check) / 2
                history.started = history.last_check + history.start_error
            age = history.age(now)
            if history.observed_until is not None:
                durations.observe_running(history.observed_until, age)
            history.observed_until = age
            self._observe_progress(history, task.progress, age)
        history.last_check = now

    def observe_finished(self, history: CheckHistory, task: Task, now: float) -> float | None:
        """Take in a look that found a job finished; gives how long the server took, if that can be told.

        The server's word counts where it fits what was seen (clocks may be wrong); else the middle between the last
        two looks.
        """
        earliest, latest = history.age(history.last_check), history.age(now)
        is_whole = task.completed is not None and task.created is not None
        told = [(task.completed or 0) - (task.created or 0)] if is_whole else []
        told += [task.actual_time] if task.actual_time is not None else []
        took = next((time for time in told if earliest - _LATENCY <= time <= latest + _LATENCY and time > 0), None)
        self._judge(history, FinishWindow(earliest, latest), took)
        if took is None and history.observed_until is not None:
            took = (earliest + latest) / 2
        if took is not None:
            self._estimator(history.model).observe_end(history.observed_until or 0.0, took)
            self._noticed += 1
            self._delays += max(0.0, latest - took)
        return took

    def next_check(self, history: CheckHistory, *, cost_factor: float = 1.0) -> float:
        """Give the time of the next look, as far as is known now.

        `ease` is how many times the cost of a check on its own this one has: more where a hook makes most of them
        needless, less where one request is shared by many jobs. By the square-root rule gaps go with its root.
        """
        if history.observed_until is None:
            return history.last_check
        polling, durations = self._polling, self._estimator(history.model)
        law = durations.distribution()
        age = (
            0.0 if history.is_queued else history.age(history.last_check)
        )  # of one that waits there, it may at best begin now
        gap = law.next_check(age, polling.check_cost * cost_factor) - age
        not_before = law.quantile(_POSSIBLE) - age
        if not durations.has_enough_data:
            not_before = min(not_before, _TRUST * polling.max_interval)
            gap = min(gap, age * _SCOUTING) if history.is_sample else gap
        gap = min(gap, max(polling.max_interval * math.sqrt(cost_factor), not_before))
        if cost_factor <= _HARDLY_EASED and self._uses_progress(history):
            gap = self._predicted_gap(history, law, gap, polling.check_cost * cost_factor)
        return history.last_check + max(polling.min_interval, gap)

    def reevaluate_in(self, history: CheckHistory, now: float, *, tracked: int) -> float:
        """Give the seconds after which `next_look` may have become earlier, while so many jobs are followed."""
        polling = self._polling
        if self._estimator(history.model).has_enough_data:
            return polling.max_interval
        return max(polling.min_interval, history.age(now) * _AGAIN, tracked / _THOUGHTS)

    def expected_delay(self, history: CheckHistory, now: float) -> float:
        """Give how many seconds a job is expected to have been finished without anybody knowing."""
        durations = self._estimator(history.model)
        if history.prediction is not None and self._uses_progress(history):
            return min(max(0.0, history.age(now) - history.prediction.middle), now - history.last_check)
        if history.is_queued or not durations.has_enough_data:
            return now - history.last_check
        return durations.distribution().expected_delay(history.age(now), history.age(history.last_check))

    def _uses_progress(self, course: CheckHistory) -> bool:
        return course.uses_progress and self._accuracy(course.model).is_reliable

    def _predicted_gap(self, course: CheckHistory, law: DurationDistribution, gap: float, check_cost: float) -> float:
        """Give the gap by what the job has told of its progress; before it has, the one until it should be asked."""
        minimum, age = self._polling.min_interval, course.age(course.last_check)
        if course.prediction is None or age > course.prediction.latest:
            is_new = course.observed_until == 0.0 and not course.is_queued
            return min(gap, law.quantile(_EARLY) - minimum) if is_new else gap
        look = next_check(course.prediction, age, course.start_error, check_cost=check_cost, min_gap=minimum)
        return min(look + _MARGIN * minimum - age, self._polling.max_interval * self._accuracy(course.model).odds)

    def _observe_progress(self, course: CheckHistory, progress: float | None, age: float) -> None:
        """Take in how far a job is.

        One that should be done by its first word, or says now that it will not be, is not heeded any longer.
        """
        word, foresight = predict_finish(age, progress, course.start_error), self._accuracy(course.model)
        if course.first_prediction is not None and course.first_prediction.is_missed_at(word.earliest if word else age):
            foresight.record_miss()
            course.uses_progress, course.first_prediction = False, None
        elif course.prediction is None:
            course.first_prediction = word
        course.prediction = word or course.prediction

    def _judge(self, course: CheckHistory, seen: FinishWindow, took: float | None) -> None:
        """Compare the first word of a job with its end: between two looks, and by the server's word if there is one."""
        if course.first_prediction is None:
            return
        if took is not None:
            told = FinishWindow(max(seen.earliest, took - _WHOLE), min(seen.latest, took + _WHOLE))
            seen = told if told.width >= 0 else seen
        self._accuracy(course.model).compare(course.first_prediction, seen)

    def _accuracy(self, model: str) -> PredictionAccuracy:
        return self._accuracies.setdefault(model, PredictionAccuracy())

    def _estimator(self, model: str) -> DurationEstimator:
        return self._estimators.setdefault(model, DurationEstimator())
