"""The forecast against simulated truth, and what it says where nothing is known."""

from __future__ import annotations

import heapq
import math
import random
from statistics import NormalDist, median
from typing import TYPE_CHECKING, Any

import pytest

from omni_async.client.forecast import Forecast, Workload, seconds_left
from omni_async.polling.durations import GRID, DurationDistribution, DurationEstimator
from omni_async.ratelimit.throughput import Throughput

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
    """Draw a duration that is longer than an age."""
    while (seconds := jitter.lognormvariate(math.log(MEDIAN), SIGMA)) <= age:
        pass
    return seconds


def ends(jitter: random.Random, load: Workload) -> float:
    """Let the jobs of a load run on a server with these limits, and give when the last one ends."""
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
    """Give the ages of jobs in flight on a server that has been at work for long."""
    ages: list[float] = []
    while len(ages) < number:
        seconds = draw(jitter)
        if jitter.random() < seconds / 400:  # longer ones are met more often
            ages.append(jitter.uniform(0, seconds))
    return tuple(ages)


LOADS: dict[str, dict[str, Any]] = {
    "rate": {"waiting": 200, "rate": 0.5, "in_flight": 20},
    "capacity": {"waiting": 200, "max_in_flight": 20, "in_flight": 20},
    "capacity with free places": {"waiting": 30, "max_in_flight": 20, "in_flight": 0},
    "both, the rate being the closer": {"waiting": 200, "rate": 0.25, "max_in_flight": 20, "in_flight": 10},
    "both, the capacity being the closer": {"waiting": 200, "rate": 2.0, "max_in_flight": 20, "in_flight": 20},
    "the last ones": {"waiting": 0, "in_flight": 12},
    "a single one": {"waiting": 0, "in_flight": 1},
    "three that wait": {"waiting": 3, "rate": 1.0, "in_flight": 0},
}


@pytest.mark.parametrize("name", LOADS)
def test_the_forecast_is_near_the_truth(name: str) -> None:
    """Of 300 courses that a load may take, the median is within a tenth of the forecast, or a few seconds of it."""
    jitter = random.Random(name)
    facts = LOADS[name]
    ages = steady_ages(jitter, facts["in_flight"])
    load = Workload(**facts, ages=ages, durations=learned(draw(jitter) for _ in range(200)), download_seconds=0.0)
    truth = median(ends(jitter, load) for _ in range(300))
    told = seconds_left(load)
    assert told == pytest.approx(truth, rel=0.1, abs=5)


def test_the_first_to_end_do_not_mislead() -> None:
    """The first three of thirty jobs are the shortest; with those that go on, the middle comes out within a fifth."""
    jitter = random.Random(5)
    errors = []
    for _ in range(50):
        seconds = sorted(draw(jitter) for _ in range(30))
        now = seconds[2]
        median_of_all = learned(seconds[:3], running=[now] * 27).quantile(0.5)
        assert learned(seconds[:3]).quantile(0.5) < median_of_all
        errors.append(math.log(median_of_all / MEDIAN))
    assert abs(median(errors)) < math.log(1.2)


def test_a_sample_stands_for_all() -> None:
    """A tenth of the ages tells the same of three hundred jobs in flight as all of them, within a tenth."""
    jitter = random.Random(2)
    ages = sorted(steady_ages(jitter, 300))
    whole, sample = (
        seconds_left(Workload(waiting=0, in_flight=300, ages=some, durations=TRUTH, download_seconds=0.0))
        for some in (ages, ages[::10])
    )
    assert sample == pytest.approx(whole, rel=0.1)


def test_downloads_may_be_what_takes_longest() -> None:
    """With slow transfers the time left is what all clips take in the places there are."""
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


def test_one_that_was_accepted_days_ago_harms_nothing() -> None:
    """A job from an earlier run, at which nobody has looked yet, leaves the forecast finite and sensible."""
    ages = [86_400.0 * 3, 10.0]
    told = seconds_left(
        Workload(waiting=0, in_flight=2, ages=ages, durations=learned([40.0] * 20), download_seconds=1.0)
    )
    assert told is not None
    assert 20 < told < 200


@pytest.mark.parametrize(
    ("facts", "told"),
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
def test_nothing_is_told_before_it_is_known(facts: dict[str, Any], told: float | None) -> None:
    """It learns until limits and durations are known, as far as they matter; with nothing to do nothing is left."""
    assert seconds_left(Workload(**facts)) == told
    assert Forecast(seconds_left=told).is_learning == (told is None)


def test_what_was_seen_bounds_what_the_limits_promise() -> None:
    """A throughput seen lately that is below the rate found is what counts."""
    assert Workload(waiting=1, rate=2.0, throughput_now=0.5).throughput == 0.5
    assert Workload(waiting=1, rate=0.4, throughput_now=0.5).throughput == 0.4
    low, high = GRID[110:112]
    durations = distribution(lambda seconds: min(1.0, max(0.0, (seconds - low) / (high - low))))
    mean = (low + high) / 2
    assert Workload(waiting=1, max_in_flight=10, durations=durations).throughput == pytest.approx(10 / mean)
    assert Workload(waiting=1).throughput is None


def test_the_flow_is_that_of_late() -> None:
    """It says nothing at first, then the rate; a change shows within a run as long as the one before; rest wipes it."""
    flow = Throughput()
    for number in range(4):
        flow.on_accepted(float(number))
    assert flow.per_second(3.0) is None
    for number in range(4, 600):
        flow.on_accepted(float(number))
    assert flow.per_second(599.0) == pytest.approx(1.0, rel=0.02)
    for number in range(600):
        flow.on_accepted(600 + 4.0 * number)
    assert flow.per_second(3000.0) == pytest.approx(0.25, rel=0.1)
    flow.on_idle()
    assert flow.per_second(3000.0) is None
