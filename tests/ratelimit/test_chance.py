"""Refusals that come by chance teach no limit, and refusals by a limit do not pass for chance."""

from __future__ import annotations

import random

import pytest

from omni_async.ratelimit.chance import Observation, judge
from tests.support.accounts import Account, FixedWindow, InFlightLimit, Limit, TokenBucket, lognormal
from tests.support.limiters import adaptive_limiter
from tests.support.load import Load, Network

SEEDS = range(10)


def _submits(number: int, refused: set[int], *, gap: float = 0.1) -> list[Observation]:
    """Return submits that left at an even pace and met one job more each, those of these numbers refused."""
    return [Observation(each * gap, each, each, each in refused) for each in range(number)]


# The decision


def test_two_refusals_are_too_few() -> None:
    """Nothing is concluded from them, and what was believed before stays."""
    observations = _submits(20, {7, 13})
    assert not judge(observations, 13).is_chance
    assert judge(observations, 13, believed=True).is_chance


@pytest.mark.parametrize("probability", [0.1, 0.2, 0.3])
def test_refusals_that_nothing_explains_come_by_chance(probability: float) -> None:
    """The pace is the same throughout, and later submits meet more jobs and are accepted."""
    for seed in SEEDS:
        rng = random.Random(seed)
        refused = {each for each in range(100) if rng.random() < probability} | {10, 11, 50}
        assert judge(_submits(100, refused), 50).is_it_chance


def test_a_concurrency_limit_is_no_chance() -> None:
    """Each refused submit met as many jobs, and none of the others did."""
    in_flight = [min(each, 12) - (each % 7 == 3) for each in range(60)]
    observations = [Observation(at * 0.3, met, met, met >= 12) for at, met in enumerate(in_flight)]
    assert sum(each.is_refused for each in observations) > 10
    assert not judge(
        [each._replace(counts=not each.is_refused or at % 5 == 0) for at, each in enumerate(observations)], 59
    ).is_chance


def test_a_client_that_is_mostly_refused_slows_down() -> None:
    """Chance is no reason to go on where most submits are refused."""
    assert not judge(_submits(60, {each for each in range(60) if each % 2}), 59, believed=True).is_chance


# The limiter, with the account on virtual time


class _Overloaded(Account):
    """An account whose service refuses submits at random, without a Retry-After."""

    def __init__(self, probability: float, seed: int, *limits: Limit) -> None:
        super().__init__(*limits, retry_after="none")
        self._probability = probability
        self._random = random.Random(seed)

    def submit(self, now: float) -> float:
        """Refuse by chance, else as the limits say."""
        return 1.0 if self._random.random() < self._probability else super().submit(now)


class _Failing(Account):
    """An account that refuses its nth submit with a Retry-After of 30 s, and everything between two times."""

    def __init__(self, *limits: Limit, nth: int = 0, outage: tuple[float, float] = (0.0, 0.0)) -> None:
        super().__init__(*limits, retry_after="seconds" if nth else "none")
        self._nth = nth
        self._outage = outage
        self._number = 0

    def submit(self, now: float) -> float:
        """Refuse what is to be refused, else as the limits say."""
        self._number += 1
        begin, end = self._outage
        if self._number == self._nth or begin <= now < end:
            return 30.0
        return super().submit(now)


def _run(account: Account, jobs: int, seed: int, median: float = 60.0, *, latency: float = 0.05) -> Load:
    draw = lognormal(random.Random(seed), median)
    load = Load(
        adaptive_limiter(max_concurrent=128),
        account,
        [draw() for _ in range(jobs)],
        seed=seed,
        network=Network(latency=latency, detection_delay=1.0),
    )
    load.run()
    return load


@pytest.mark.parametrize(("probability", "seconds"), [(0.1, 140.0), (0.2, 60.0), (0.3, 380.0)])
def test_random_refusals_are_not_taken_for_limits(probability: float, seconds: float) -> None:
    """150 jobs are accepted within minutes: before, .2 took up to 5,900 s and .3 up to 16,000 s."""
    for seed in SEEDS:
        load = _run(_Overloaded(probability, seed), 150, seed)
        assert load.accepted_at[-1] <= seconds, seed


@pytest.mark.parametrize("limits", [[TokenBucket(4)], [InFlightLimit(12)], [FixedWindow(30, 10)]])
def test_a_limit_is_not_taken_for_chance(limits: list[Limit]) -> None:
    """No more than one submit in ten is refused while the limit is being found and kept."""
    load = _run(Account(*limits, retry_after="none"), 200, 1, 8.0)
    assert len(load.refused_at) <= 20


@pytest.mark.parametrize(("per_second", "burst", "jobs", "refusals"), [(4, 1, 200, 24), (20, 10, 1000, 30)])
def test_a_rate_whose_requests_arrive_unevenly_is_not_taken_for_chance(
    per_second: float, burst: float, jobs: int, refusals: int
) -> None:
    """Answers take 1 s, more or less by a tenth: before that counted, one seed had 50 refusals."""
    for seed in SEEDS:
        account = Account(TokenBucket(per_second, burst), retry_after="none")
        load = _run(account, jobs, seed, 8.0, latency=1.0)
        assert len(load.refused_at) <= refusals, seed


def test_one_early_retry_after_does_not_slow_a_run_down() -> None:
    """It is kept, and then an account without limits is filled at once: before, it took 915 s."""
    for seed in SEEDS:
        load = _run(_Failing(nth=2), 300, seed)
        assert load.accepted_at[1] >= 30.0
        assert load.accepted_at[-1] <= 40.0


def test_a_known_rate_is_used_again_after_an_outage() -> None:
    """4/s refuses everything for a minute, and 600 jobs need 210 s: before, 1,700 s and more."""
    for seed in SEEDS:
        load = _run(_Failing(TokenBucket(4), outage=(60.0, 120.0)), 600, seed, 8.0)
        assert load.accepted_at[-1] <= 270.0, seed
