"""Accounts with unknown limits are used nearly fully: each bound holds for every seed, not just the mean."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.accounts import Account, FixedWindow, InFlightLimit, Limit, TokenBucket, least_makespan, lognormal
from tests.support.limiters import adaptive_limiter
from tests.support.load import Load, Network
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = range(6)
MAX_CONCURRENT = 128  # as in the submitter


class Kind(NamedTuple):
    """An account and its workload, and the bounds for every seed."""

    limits: Callable[[], list[Limit]]
    jobs: int
    median: float  # duration of the tasks, in seconds
    makespan: float  # relative to the least possible
    refused: float  # per accepted job
    latency: float = 0.08  # of a POST, in seconds
    lateness: float = 0.0  # of timers, in seconds


_KINDS = {
    "200 in flight": Kind(lambda: [InFlightLimit(200)], 800, 20, 1.10, 0.06),
    "50 in flight": Kind(lambda: [InFlightLimit(50)], 200, 8, 1.20, 0.07),
    "12 in flight": Kind(lambda: [InFlightLimit(12)], 100, 8, 1.18, 0.09),
    "4/s": Kind(lambda: [TokenBucket(4)], 200, 8, 1.15, 0.04),
    "20/s, 10 saved up": Kind(lambda: [TokenBucket(20, 10)], 1000, 20, 1.15, 0.06),
    "20/s, 10 saved up, answers after .2 s": Kind(lambda: [TokenBucket(20, 10)], 1000, 8, 1.18, 0.04, 0.2),
    "20/s, 10 saved up, late timers": Kind(lambda: [TokenBucket(20, 10)], 1000, 8, 1.14, 0.03, 0.1, 0.006),
    "20/s, 10 saved up, answers after .2 s, late timers": Kind(
        lambda: [TokenBucket(20, 10)], 1000, 8, 1.18, 0.04, 0.2, 0.006
    ),
    "4/s and 30 in flight": Kind(lambda: [TokenBucket(4), InFlightLimit(30)], 400, 20, 1.13, 0.08),
    "30 in 10 s": Kind(lambda: [FixedWindow(30, 10)], 200, 8, 1.30, 0.08),
    "4/s, answers after 1 s": Kind(lambda: [TokenBucket(4)], 200, 8, 1.60, 0.17, 1.0),
    "20/s, 10 saved up, answers after 1 s": Kind(lambda: [TokenBucket(20, 10)], 1000, 8, 1.30, 0.03, 1.0),
    "200 in flight, answers after 1 s": Kind(lambda: [InFlightLimit(200)], 800, 20, 1.25, 0.18, 1.0),
}


def _load(
    limits: list[Limit],
    retry_after: str,
    durations: list[float],
    seed: int,
    *,
    latency: float = 0.08,
    lateness: float = 0.0,
) -> Load:
    network = Network(latency=latency, detection_delay=1.0, lateness=lateness)
    account = Account(*limits, retry_after=retry_after)
    return Load(adaptive_limiter(max_concurrent=MAX_CONCURRENT), account, durations, seed=seed, network=network)


@pytest.mark.parametrize("retry_after", ["seconds", "none"])
@pytest.mark.parametrize("kind", slow_after(2, _KINDS))
def test_an_unknown_limit_is_used_to_the_full(kind: str, retry_after: str) -> None:
    """The makespan is a little above the least possible, and few submits are refused, with every seed."""
    bounds = _KINDS[kind]
    for seed in SEEDS:
        draw = lognormal(random.Random(seed), bounds.median)
        durations = [draw() for _ in range(bounds.jobs)]
        network = {"latency": bounds.latency, "lateness": bounds.lateness}
        load = _load(bounds.limits(), retry_after, durations, seed, **network)
        load.run()
        assert load.finished_at <= bounds.makespan * least_makespan(bounds.limits(), durations)
        assert len(load.refused_at) <= bounds.refused * bounds.jobs


class _OneSlowAnswer(Load):
    """A load of which one answer takes half a minute."""

    trips = 0

    def _one_way_latency(self) -> float:
        self.trips += 1
        return 30.0 if self.trips == 60 else super()._one_way_latency()


@pytest.mark.parametrize("retry_after", ["seconds", "none"])
def test_one_slow_answer_does_not_hide_a_limit(retry_after: str) -> None:
    """Answers that differ in time are less exact evidence, but one of them does not make all others useless."""
    for seed in SEEDS:
        draw = lognormal(random.Random(seed), 8)
        durations = [draw() for _ in range(400)]
        account = Account(InFlightLimit(50), retry_after=retry_after)
        network = Network(latency=0.08, detection_delay=1.0)
        load = _OneSlowAnswer(
            adaptive_limiter(max_concurrent=MAX_CONCURRENT), account, durations, seed=seed, network=network
        )
        load.run()
        assert load.finished_at <= 1.2 * least_makespan([InFlightLimit(50)], durations)


@pytest.mark.parametrize("retry_after", slow_after(0, ["seconds", "none"]))
def test_a_concurrency_limit_that_falls_and_rises_is_followed(retry_after: str) -> None:
    """200, 50, then 200 tasks of 20 s in flight, ten minutes each: 85 % of what is possible is used with every seed."""
    for seed in range(3):
        limit = InFlightLimit(200)
        draw = lognormal(random.Random(seed), 20)
        durations = [draw() for _ in range(20_000)]
        load = _load([limit], retry_after, durations, seed)
        load.at(600, lambda limit=limit: setattr(limit, "max_jobs", 50))  # type: ignore[misc]
        load.at(1200, lambda limit=limit: setattr(limit, "max_jobs", 200))  # type: ignore[misc]
        load.run(stop=1800)
        possible = 600 * 450 / (sum(durations) / len(durations))
        assert len(load.accepted_at) >= 0.85 * possible


@pytest.mark.parametrize(("latency", "first", "second"), [(0.02, 3.0, 0.5), (1.0, 23.0, 14.0)])
def test_an_account_without_limits_is_filled_fast(latency: float, first: float, second: float) -> None:
    """1,000 jobs are accepted soon, however long an answer takes, and a second run is faster than the first."""
    times = []
    limiter = adaptive_limiter(max_concurrent=MAX_CONCURRENT)
    for _ in range(2):
        load = Load(limiter, Account(), [20.0] * 1000, seed=1, network=Network(latency=latency))
        load.run()
        times.append(load.accepted_at[-1])
        assert not load.refused_at
        limiter = adaptive_limiter(max_concurrent=MAX_CONCURRENT, learned=limiter.learned())
    assert times[0] <= first
    assert times[1] <= second
