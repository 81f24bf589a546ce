"""What is learned about how long jobs take, for planning checks and for forecasts."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from omni_async.models.responses import Task
from omni_async.polling.durations import DurationEstimator
from omni_async.polling.planner import CheckPlanner
from omni_async.settings import Polling
from tests.support.check_replies import task


@pytest.mark.parametrize(("number", "tolerance"), [(1, 0.2), (8, 0.15), (300, 0.03)])
def test_the_mean_is_that_of_the_durations(number: int, tolerance: float) -> None:
    """With one duration it is right within a fifth, with 300 within 3 percent."""
    jitter = random.Random(number)
    durations = [jitter.lognormvariate(4, 0.35) for _ in range(number)]
    estimator = DurationEstimator()
    for seconds in durations:
        estimator.observe_end(0.0, seconds)
    assert estimator.distribution(for_forecast=True).mean == pytest.approx(fmean(durations), rel=tolerance)


def test_running_jobs_raise_the_mean() -> None:
    """One job ended after 20 s; that ten others are still running after 30 s shows that most take longer."""
    estimator = DurationEstimator()
    estimator.observe_end(0.0, 20.0)
    before = estimator.distribution(for_forecast=True).mean
    for _ in range(10):
        estimator.observe_running(0.0, 30.0)
    assert estimator.distribution(for_forecast=True).mean > max(30.0, 1.3 * before)


def test_the_servers_estimate_is_for_planning_only() -> None:
    """Checks are planned by it while few jobs have ended; a forecast ignores it."""
    estimator, estimated = DurationEstimator(), DurationEstimator()
    for each in (estimator, estimated):
        each.observe_end(0.0, 20.0)
        for _ in range(10):
            each.observe_running(0.0, 20.0)
    estimated.set_server_estimate(600.0)
    assert estimated.distribution().quantile(0.5) > 3 * estimator.distribution().quantile(0.5)
    assert estimated.distribution(for_forecast=True).mean == estimator.distribution(for_forecast=True).mean


def finished(seconds: float) -> Task:
    """Return a finished task that took this long."""
    return task("completed", actual_time=seconds)


def test_durations_are_those_of_the_model_with_most_finished_jobs() -> None:
    """They are unknown until one job has finished."""
    planner = CheckPlanner(Polling())
    for model, seconds in [("rare", 300.0), ("usual", 60.0), ("usual", 60.0)]:
        history = planner.begin(model, 0.0, 0.0, is_new=True)
        if model == "rare":
            assert planner.durations() is None
        planner.observe_finished(history, finished(seconds), seconds + 2.0)
    durations = planner.durations()
    assert durations is not None
    assert durations.quantile(0.5) == pytest.approx(60, rel=0.1)
    assert planner.detection_delay == 2.0
