"""`CheckPlanner`: when to check a job next, from durations, reported progress and webhooks.

Theory of operation. The gap that balances the cost c of a check against noticing the end late is ``sqrt(2 * c / h)``,
where h is the hazard of finishing now (inspection policies: Keller 1974). The hazard comes from the durations of jobs
of the same model, finished and unfinished ones. What is known changes while a job waits for its check: others like it
finish, or are found unfinished. So a planned check is evaluated again when its time has come, and occasionally before.

Plain code over values and times; the schedule and the poller call it. Figures in comments are costs per job, checks
plus seconds of detection delay, from simulations like those in tests/polling; see `durations`.
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


_QUEUED = frozenset({"submitted", "pending", "queued"})  # status strings of a task that was not started yet

# Multiples of `Polling.max_interval`: no gap is longer while few jobs of the model have ended, whatever the server
# estimates. Of 1,000 jobs submitted together whose estimate is three times too long, half costs 13.4 instead of 12.1
# per job, double 11.9. Double leaves the very first job of a model undetected for up to two minutes.
_ASSUMED_INTERVALS = 4
# Share of all durations by which a job may well be finished, so that `Polling.max_interval` holds from there on. Half
# costs 12.4 instead of 11.8 per job; double costs the same, but the first 20 jobs of a model cost 21 instead of 18 if
# the estimate is three times too long.
_POSSIBLY_FINISHED = 0.1
# Seconds by which a duration that the server reports may contradict what was observed, and still be used: its clock and
# ours differ, and a response takes its time. More accepts wrong values, less discards right ones. Chosen, not measured.
_CLOCK_TOLERANCE = 2.0

# While durations are unknown, the server's estimate may be far too long. So a few sample jobs are checked more often
# than is worth it for them alone: what they show is true of the others. If jobs take 20 s and the server estimates 600
# s, the first 100 jobs cost 8 each with samples and 39 without; with half as many samples 15, with double 8. If the
# estimate is right, samples cost nothing that can be measured.
_SAMPLES = 8  # of each model
_SAMPLE_EVERY = 16  # jobs; with half, the first 20 jobs of a model need 10 checks each instead of 7
_SAMPLE_GAP = 1 / 8  # of its age; with half, the 100 jobs above cost the same, with double 9

# Progress. Where the percentage is true, jobs of 110 s cost 0.40 of what they cost without it.
# One job in 16 ignores its progress, as a control group. With one in 32 the jobs cost 0.37, with one in 8 0.43; but a
# smaller group finds out later that percentages mean something else.
_CONTROL_EVERY = 16
# The first check asks a job for its progress when this share of all jobs has ended. Before, the percentage is too
# coarse to predict the end. From 0.01 to 0.1 the cost is the same within 2 %.
_FIRST_PROGRESS = 0.02
# Seconds by which the start of a job is uncertain, unless it waited in the server's queue: about the latency of a
# submit. 0.1 costs 1 % more, 0.5 costs 4 % more.
_START_ERROR = 0.05
# Seconds by which a duration that the server reports may be wrong, because it is in whole seconds. Half is the same;
# double makes fewer predictions count for jobs of 5 s, which then cost 4 % more.
_DURATION_ERROR = 0.6
# Above this cost factor, webhooks do arrive: they report the end, and a check at the predicted time is not needed. The
# factor is about 1 if none ever arrives, 2 before the first job has ended, and more if they do. Chosen, not measured.
_WEBHOOK_COST_FACTOR = 1.25
# Share of `Polling.min_interval` by which a predicted check is later: half a tick of the schedule, which rounds. A
# check that comes a little too early is repeated a whole interval later. Double costs 4 % more for jobs of 20 s.
_LATER_BY = 1 / 8

# While few jobs have ended, a planned check is evaluated again after this share of the job's age. Half needs 35 instead
# of 24 evaluations for each of the first 20 jobs. The cost per job stays the same within the noise.
_REEVALUATION_GAP = 2 / 5
# Evaluations per second: with more jobs than this, each is evaluated less often. An evaluation takes about 10
# microseconds, so 250 of them take less than 1 % of a core. Chosen, not measured.
_REEVALUATIONS_PER_SECOND = 250


@dataclass(slots=True)
class CheckHistory:
    """What the checks of one job have shown. Times are in seconds of one clock, ages count from `started`."""

    model: str
    started: float  # when it was accepted, or left the server's queue
    last_check: float  # the last check that found it unfinished; at first, when it was accepted
    observed_until: float | None = 0.0  # the age up to which it was observed; None: not checked so far
    start_error: float = _START_ERROR  # seconds by which `started` may be wrong
    is_queued: bool = False
    is_sample: bool = False
    uses_progress: bool = True  # whether its progress is acted on
    first_prediction: FinishWindow | None = None  # from its first progress; None once it was compared with the end
    prediction: FinishWindow | None = None  # from its latest progress

    def age(self, now: float) -> float:
        """Return for how many seconds the server has been working on it."""
        return max(0.0, now - self.started)


class CheckPlanner:
    """Plans the checks of all jobs, and learns from each check how long jobs take."""

    def __init__(self, polling: Polling) -> None:
        self._polling = polling
        self._estimators: dict[str, DurationEstimator] = {}
        self._accuracies: dict[str, PredictionAccuracy] = {}
        self._begun: Counter[str] = Counter()
        self._gap_basis: tuple[str, int, float, float, bool] | None = None  # what the latest `_gap` follows from
        self._gap = 0.0
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
        """Learn how long a job of a model took in an earlier run."""
        self._estimator(model).observe_end(0.0, seconds)

    def begin(self, model: str, accepted_at: float, now: float, *, is_new: bool) -> CheckHistory:
        """Return the history of a job that was accepted at this time. One that is not new is due for a check now."""
        number = self._begun[model]
        self._begun[model] += 1
        is_sample = number % _SAMPLE_EVERY == _SAMPLE_EVERY // 4 and number < _SAMPLES * _SAMPLE_EVERY
        uses_progress = number % _CONTROL_EVERY != _CONTROL_EVERY - 1
        last_check, observed_until = (accepted_at, 0.0) if is_new else (now, None)
        return CheckHistory(
            model, accepted_at, last_check, observed_until, is_sample=is_sample, uses_progress=uses_progress
        )

    def observe_running(self, history: CheckHistory, task: Task, now: float) -> None:
        """Learn from a check that found a job unfinished."""
        durations = self._estimator(history.model)
        durations.set_server_estimate(task.estimated_time or 0.0)
        if task.status in _QUEUED and not task.progress:
            history.is_queued = True
            history.observed_until = history.observed_until or 0.0
            history.prediction = history.first_prediction = None
        else:
            if history.is_queued:  # it was started since the last check
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
        """Learn from a check that found a job finished. Return the seconds that the server took, None if unknown.

        What the server reports is used if it agrees with what was observed, because clocks may be wrong. Otherwise it
        is the middle between the last two checks.
        """
        earliest, latest = history.age(history.last_check), history.age(now)
        has_both = task.completed is not None and task.created is not None
        reported = [(task.completed or 0) - (task.created or 0)] if has_both else []
        reported += [task.actual_time] if task.actual_time is not None else []
        lower, upper = earliest - _CLOCK_TOLERANCE, latest + _CLOCK_TOLERANCE
        duration = next((seconds for seconds in reported if lower <= seconds <= upper and seconds > 0), None)
        self._compare_prediction(history, FinishWindow(earliest, latest), duration)
        if duration is None and history.observed_until is not None:
            duration = (earliest + latest) / 2
        if duration is not None:
            self._estimator(history.model).observe_end(history.observed_until or 0.0, duration)
            self._noticed += 1
            self._delays += max(0.0, latest - duration)
        return duration

    def next_check(self, history: CheckHistory, *, cost_factor: float = 1.0) -> float:
        """Return the time of the next check, by what is known now.

        `cost_factor` multiplies the cost of a check: more than 1 if webhooks make most checks needless, less if other
        jobs wait for the slot of this one. By the square-root rule, gaps grow with its root.
        """
        if history.observed_until is None:
            return history.last_check
        polling, durations = self._polling, self._estimator(history.model)
        distribution = durations.distribution()
        # A job in the server's queue may at best be started now.
        age = 0.0 if history.is_queued else history.age(history.last_check)
        basis = (history.model, durations.fits, age, cost_factor, history.is_sample)
        if basis != self._gap_basis:  # it is the same for all jobs that were not checked so far: most of a large batch
            self._gap = self._gap_by(durations, distribution, age, cost_factor, is_sample=history.is_sample)
            self._gap_basis = basis
        gap = self._gap
        if cost_factor <= _WEBHOOK_COST_FACTOR and self._uses_progress(history):
            gap = self._predicted_gap(history, distribution, gap, polling.check_cost * cost_factor)
        return history.last_check + max(polling.min_interval, gap)

    def _gap_by(
        self,
        durations: DurationEstimator,
        distribution: DurationDistribution,
        age: float,
        cost_factor: float,
        *,
        is_sample: bool,
    ) -> float:
        """Return the gap after a check at `age` by the durations alone."""
        polling = self._polling
        gap = distribution.next_check(age, polling.check_cost * cost_factor) - age
        not_before = distribution.quantile(_POSSIBLY_FINISHED) - age
        if not durations.has_enough_data:
            not_before = min(not_before, _ASSUMED_INTERVALS * polling.max_interval)
            gap = min(gap, age * _SAMPLE_GAP) if is_sample else gap
        return min(gap, max(polling.max_interval * math.sqrt(cost_factor), not_before))

    def reevaluate_in(self, history: CheckHistory, now: float, *, tracked: int) -> float:
        """Return the seconds after which `next_check` should be evaluated again, while `tracked` jobs are in flight."""
        polling = self._polling
        if self._estimator(history.model).has_enough_data:
            return polling.max_interval
        return max(polling.min_interval, history.age(now) * _REEVALUATION_GAP, tracked / _REEVALUATIONS_PER_SECOND)

    def expected_delay(self, history: CheckHistory, now: float) -> float:
        """Return for how many seconds a job is expected to be finished without having been noticed."""
        durations = self._estimator(history.model)
        if history.prediction is not None and self._uses_progress(history):
            return min(max(0.0, history.age(now) - history.prediction.middle), now - history.last_check)
        if history.is_queued or not durations.has_enough_data:
            return now - history.last_check
        return durations.distribution().expected_delay(history.age(now), history.age(history.last_check))

    def _uses_progress(self, history: CheckHistory) -> bool:
        return history.uses_progress and self._accuracy(history.model).is_reliable

    def _predicted_gap(
        self, history: CheckHistory, distribution: DurationDistribution, gap: float, check_cost: float
    ) -> float:
        """Return the gap by the job's progress.

        Before it has reported any, that is the gap until it should be asked.
        """
        minimum, age = self._polling.min_interval, history.age(history.last_check)
        if history.prediction is None or age > history.prediction.latest:
            is_new = history.observed_until == 0.0 and not history.is_queued
            return min(gap, distribution.quantile(_FIRST_PROGRESS) - minimum) if is_new else gap
        check_at = next_check(history.prediction, age, history.start_error, check_cost=check_cost, min_gap=minimum)
        return min(
            check_at + _LATER_BY * minimum - age, self._polling.max_interval * self._accuracy(history.model).odds
        )

    def _observe_progress(self, history: CheckHistory, progress: float | None, age: float) -> None:
        """Learn the progress of a job.

        If it should have ended by its first prediction, or now predicts that it will not, its progress is ignored from
        then on.
        """
        prediction, first = predict_finish(age, progress, history.start_error), history.first_prediction
        if first is not None and first.is_missed_at(prediction.earliest if prediction else age):
            self._accuracy(history.model).record_miss()
            history.uses_progress, history.first_prediction = False, None
        elif history.prediction is None:
            history.first_prediction = prediction
        history.prediction = prediction or history.prediction

    def _compare_prediction(self, history: CheckHistory, end: FinishWindow, duration: float | None) -> None:
        """Compare the first prediction of a job with its end, narrowed to the duration that the server reports."""
        if history.first_prediction is None:
            return
        if duration is not None:
            earliest, latest = duration - _DURATION_ERROR, duration + _DURATION_ERROR
            reported = FinishWindow(max(end.earliest, earliest), min(end.latest, latest))
            end = reported if reported.width >= 0 else end
        self._accuracy(history.model).compare(history.first_prediction, end)

    def _accuracy(self, model: str) -> PredictionAccuracy:
        accuracy = self._accuracies.get(model)
        if accuracy is None:
            accuracy = self._accuracies[model] = PredictionAccuracy()
        return accuracy

    def _estimator(self, model: str) -> DurationEstimator:
        estimator = self._estimators.get(model)
        if estimator is None:
            estimator = self._estimators[model] = DurationEstimator()
        return estimator
