"""The forecast against a simulated server, and what it says before limits and durations are known."""

from __future__ import annotations

import heapq
import math
import random
from statistics import NormalDist, median
from typing import TYPE_CHECKING, Any

import pytest

from omni_async.client.forecast import Forecast, Workload, seconds_left
from omni_async.polling.durations import GRID, DurationDistribution, DurationEstimator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MEDIAN, SIGMA = 40.0, 0.35


def distribution(cdf: Callable[[float], float]) -> DurationDistribution:
    """Return the distribution with this cumulative distribution function."""
    return DurationDistribution([min(cdf(seconds), 1 - 1e-12) for seconds in GRID])


TRUTH = distribution(lambda seconds: NormalDist(math.log(MEDIAN), SIGMA).cdf(math.log(seconds)))


def learned(ended: Iterable[float], running: Iterable[float] = ()) -> DurationDistribution:
    """Return what is learned from jobs that took this long, and from others that are still running at these ages."""
    estimator = DurationEstimator()
    for seconds in ended:
        estimator.observe_end(0.0, seconds)
    for age in running:
        estimator.observe_running(0.0, age)
    return estimator.distribution(for_forecast=True)


def draw(jitter: random.Random, age: float = 0.0) -> float:
    """Return a random duration that is longer than an age."""
    while (seconds := jitter.lognormvariate(math.log(MEDIAN), SIGMA)) <= age:
        pass
    return seconds


def simulate(jitter: random.Random, load: Workload) -> float:
    """Let the jobs of a workload run on a server with its limits. Return when the last one ends."""
    running = [draw(jitter, age) - age for age in load.ages]
    heapq.heapify(running)
    last, now = max(running, default=0.0), 0.0
    for _ in range(load.waiting):
        now += 1 / load.rate if load.rate else 0.0
        if load.max_in_flight is not None and len(running) >= load.max_in_flight:
            now = max(now, heapq.heappop(running))
        heapq.heappush(running, now + draw(jitter))
        last = max(last, *running)
    return last


def steady_ages(jitter: random.Random, number: int) -> tuple[float, ...]:
    """Return the ages of jobs in flight on a server that has been busy for long."""
    ages: list[float] = []
    while len(ages) < number:
        seconds = draw(jitter)
        if jitter.random() < seconds / 400:  # long ones are more likely to be running
            ages.append(jitter.uniform(0, seconds))
    return tuple(ages)


LOADS: dict[str, dict[str, Any]] = {
    "rate": {"waiting": 200, "rate": 0.5, "in_flight": 20},
    "capacity": {"waiting": 200, "max_in_flight": 20, "in_flight": 20},
    "capacity with free slots": {"waiting": 30, "max_in_flight": 20, "in_flight": 0},
    "both, the rate being the closer": {"waiting": 200, "rate": 0.25, "max_in_flight": 20, "in_flight": 10},
    "both, the capacity being the closer": {"waiting": 200, "rate": 2.0, "max_in_flight": 20, "in_flight": 20},
    "the last ones": {"waiting": 0, "in_flight": 12},
    "a single one": {"waiting": 0, "in_flight": 1},
    "three waiting": {"waiting": 3, "rate": 1.0, "in_flight": 0},
}


@pytest.mark.parametrize("name", LOADS)
def test_the_forecast_agrees_with_simulations(name: str) -> None:
    """The median of 300 simulated runs is within a tenth of the forecast, or within five seconds."""
    jitter = random.Random(name)
    facts = LOADS[name]
    ages = steady_ages(jitter, facts["in_flight"])
    load = Workload(**facts, ages=ages, durations=learned(draw(jitter) for _ in range(200)), download_seconds=0.0)
    truth = median(simulate(jitter, load) for _ in range(300))
    forecast = seconds_left(load)
    assert forecast == pytest.approx(truth, rel=0.1, abs=5)


def test_running_jobs_correct_the_first_durations() -> None:
    """The first three of thirty jobs are the shortest. With the running ones, the median is right within a fifth."""
    jitter = random.Random(5)
    errors = []
    for _ in range(50):
        seconds = sorted(draw(jitter) for _ in range(30))
        now = seconds[2]
        median_of_all = learned(seconds[:3], running=[now] * 27).quantile(0.5)
        assert learned(seconds[:3]).quantile(0.5) < median_of_all
        errors.append(math.log(median_of_all / MEDIAN))
    assert abs(median(errors)) < math.log(1.2)


def test_a_sample_of_ages_represents_all() -> None:
    """For 300 jobs in flight, a tenth of the ages gives the same forecast within a tenth."""
    jitter = random.Random(2)
    ages = sorted(steady_ages(jitter, 300))
    complete, sample = (
        seconds_left(Workload(waiting=0, in_flight=300, ages=some, durations=TRUTH, download_seconds=0.0))
        for some in (ages, ages[::10])
    )
    assert sample == pytest.approx(complete, rel=0.1)


def test_slow_downloads_determine_the_time_left() -> None:
    """If downloads are slow, the time left is that of all clips in the download slots."""
    load = Workload(
        waiting=0,
        in_flight=20,
        ages=[35.0] * 20,
        downloading=20,
        durations=TRUTH,
        download_seconds=60.0,
        download_slots=4,
    )
    assert seconds_left(load) == 40 * 60 / 4


def test_a_job_accepted_days_ago_does_no_harm() -> None:
    """A job of an earlier run that was not checked yet leaves the forecast finite and plausible."""
    ages = [86_400.0 * 3, 10.0]
    forecast = seconds_left(
        Workload(waiting=0, in_flight=2, ages=ages, durations=learned([40.0] * 20), download_seconds=1.0)
    )
    assert forecast is not None
    assert 20 < forecast < 200


@pytest.mark.parametrize(
    ("facts", "seconds"),
    [
        ({"waiting": 5, "rate": 1.0}, None),
        ({"waiting": 5, "durations": TRUTH}, None),
        ({"waiting": 5, "max_in_flight": 5}, None),
        ({"waiting": 0, "in_flight": 3, "ages": (1.0,)}, None),
        ({"waiting": 0, "downloading": 2}, None),
        ({"waiting": 0, "downloading": 2, "download_seconds": 3.0}, 3.0),
        ({"waiting": 0}, 0.0),
    ],
)
def test_no_forecast_before_limits_and_durations_are_known(facts: dict[str, Any], seconds: float | None) -> None:
    """The limits and durations that matter must be known. With nothing to do, no time is left."""
    assert seconds_left(Workload(**facts)) == seconds
    assert Forecast(seconds_left=seconds).is_learning == (seconds is None)


def test_the_measured_throughput_limits_the_learned_rate() -> None:
    """A recent throughput below the learned rate counts."""
    assert Workload(waiting=1, rate=2.0, throughput_now=0.5).throughput == 0.5
    assert Workload(waiting=1, rate=0.4, throughput_now=0.5).throughput == 0.4
    low, high = GRID[110:112]
    durations = distribution(lambda seconds: min(1.0, max(0.0, (seconds - low) / (high - low))))
    mean = (low + high) / 2
    assert Workload(waiting=1, max_in_flight=10, durations=durations).throughput == pytest.approx(10 / mean)
    assert Workload(waiting=1).throughput is None
