"""The adaptive limiter finds the limits of simulated accounts, with little time lost and few refusals."""

from __future__ import annotations

import random
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from omni_async.ratelimit.adaptive import AdaptiveRateLimiter
from omni_async.ratelimit.learned import LearnedLimits
from tests.support.accounts import (
    RETRY_AFTER_STYLES,
    Account,
    FixedWindow,
    InFlightLimit,
    Limit,
    SlidingWindow,
    TokenBucket,
    least_makespan,
    lognormal,
)
from tests.support.limiters import adaptive_limiter, send_all
from tests.support.load import Load, Network
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = range(12)
TRUE_RETRY_AFTER = ("seconds", "date")


class Kind(NamedTuple):
    """A kind of account, its workload, and the bounds for the limiter."""

    limits: Callable[[int], list[Limit]]
    median: float  # duration of the tasks, in seconds
    makespan: float  # relative to the least possible: the median of the seeds ...
    worst: float  # ... and the worst
    refused: float  # refusals per accepted job, the mean of the seeds


# With a true Retry-After.
_KINDS = {
    "4/s": Kind(lambda _: [TokenBucket(4)], 8, 1.09, 1.18, 0.03),
    "4/s, 10 saved up": Kind(lambda _: [TokenBucket(4, 10)], 8, 1.05, 1.15, 0.09),
    "4/s, 60 saved up": Kind(lambda _: [TokenBucket(4, 60)], 8, 1.10, 1.15, 0.15),
    "30 in 10 s, fixed": Kind(lambda _: [FixedWindow(30, 10)], 8, 1.12, 1.25, 0.05),
    "30 in 10 s, fixed, any start": Kind(lambda seed: [FixedWindow(30, 10, seed * -0.77)], 8, 1.12, 1.45, 0.06),
    "30 in 10 s, sliding": Kind(lambda _: [SlidingWindow(30, 10)], 8, 1.19, 1.30, 0.05),
    "12 in flight": Kind(lambda _: [InFlightLimit(12)], 5, 1.06, 1.10, 0.08),
    "2/s and 10 in flight": Kind(lambda _: [TokenBucket(2), InFlightLimit(10)], 8, 1.08, 1.12, 0.15),
    "4/s and 12 in flight": Kind(lambda _: [TokenBucket(4), InFlightLimit(12)], 5, 1.08, 1.14, 0.15),
    "30 in 10 s and 12 in flight": Kind(lambda _: [FixedWindow(30, 10), InFlightLimit(12)], 5, 1.06, 1.10, 0.08),
    "5 a minute": Kind(lambda _: [TokenBucket(5 / 60)], 8, 1.07, 1.10, 0.08),
    "5 in a minute, fixed": Kind(lambda _: [FixedWindow(5, 60)], 8, 1.07, 1.10, 0.08),
    "no limit": Kind(lambda _: [], 8, 1.25, 1.40, 0.0),
}

# Without Retry-After, or with one so long that it is ignored: makespan and refusals.
_WITHOUT_RETRY_AFTER = {
    "4/s": (1.06, 0.03),
    "4/s, 10 saved up": (1.05, 0.08),
    "4/s, 60 saved up": (1.09, 0.15),
    "30 in 10 s, fixed": (1.32, 0.11),
    "30 in 10 s, sliding": (1.38, 0.10),
    "12 in flight": (1.06, 0.08),
    "2/s and 10 in flight": (1.06, 0.15),
    "4/s and 12 in flight": (1.06, 0.13),
    "5 a minute": (1.07, 0.16),
}


class Result(NamedTuple):
    """The result of one simulation."""

    makespan: float  # relative to the least possible
    refused: float  # refusals per accepted job
    learned: LearnedLimits


def simulate(
    kind: str,
    retry_after: str,
    seed: int,
    *,
    limiter: AdaptiveRateLimiter | None = None,
    configured_rate: float | None = None,
    network: Network | None = None,
    jobs: int = 100,
) -> Result:
    """Submit jobs to one account."""
    limits, typical = _KINDS[kind][:2]
    draw = lognormal(random.Random(seed), typical)
    durations = [draw() for _ in range(jobs)]
    limiter = limiter or adaptive_limiter(configured_rate=configured_rate)
    account = Account(*limits(seed), retry_after=retry_after)
    load = Load(limiter, account, durations, seed=seed, network=network, configured_rate=configured_rate)
    load.run(until=100_000)
    assert len(load.accepted_at) == jobs
    assert load.max_outstanding <= 16
    least = least_makespan(limits(seed), durations)
    return Result(load.finished_at / least, len(load.refused_at) / jobs, limiter.learned())


def simulate_all(kind: str, retry_after: str, **options: Any) -> list[Result]:
    """Submit jobs to one account for each seed."""
    return [simulate(kind, retry_after, seed, **options) for seed in SEEDS]


def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


# Nothing configured


@pytest.mark.parametrize("retry_after", TRUE_RETRY_AFTER)
@pytest.mark.parametrize("kind", _KINDS)
def test_limits_are_learned(kind: str, retry_after: str) -> None:
    """With nothing configured, 100 jobs get through in little more than the least time, with few refusals."""
    results, bounds = simulate_all(kind, retry_after), _KINDS[kind]
    assert median(result.makespan for result in results) <= bounds.makespan
    assert max(result.makespan for result in results) <= bounds.worst
    assert mean([result.refused for result in results]) <= bounds.refused


@pytest.mark.parametrize("retry_after", ["none", "huge"])
@pytest.mark.parametrize("kind", _WITHOUT_RETRY_AFTER)
def test_limits_are_found_without_retry_after(kind: str, retry_after: str) -> None:
    """The limits are found by probing when Retry-After is missing or says one day."""
    results, (makespan, refused) = simulate_all(kind, retry_after), _WITHOUT_RETRY_AFTER[kind]
    assert median(result.makespan for result in results) <= makespan
    assert mean([result.refused for result in results]) <= refused


@pytest.mark.parametrize("retry_after", ["short", "long"])
@pytest.mark.parametrize(
    "kind", ["4/s", "4/s, 10 saved up", "4/s, 60 saved up", "12 in flight", "4/s and 12 in flight"]
)
def test_a_wrong_retry_after_costs_little(kind: str, retry_after: str) -> None:
    """A `Retry-After` of a quarter or of three times the true delay costs at most a quarter of the time."""
    results = simulate_all(kind, retry_after)
    assert median(result.makespan for result in results) <= 1.25
    assert mean([result.refused for result in results]) <= 0.17


@pytest.mark.parametrize(
    ("kind", "rate", "tolerance"), [("4/s", 4.0, 0.1), ("4/s, 10 saved up", 4.0, 0.25), ("5 a minute", 5 / 60, 0.1)]
)
def test_the_learned_rate_is_the_true_one(kind: str, rate: float, tolerance: float) -> None:
    """After 400 jobs the learned rate is within 10 % where no burst is saved up, else within 25 %."""
    for seed in SEEDS:
        learned = simulate(kind, "seconds", seed, jobs=400).learned
        assert learned.per_second == pytest.approx(rate, rel=tolerance)


def test_the_learned_concurrency_limit_is_the_true_one() -> None:
    """The limit of 12 is found, and no rate limit is learned that would matter."""
    for seed in SEEDS:
        learned = simulate("12 in flight", "seconds", seed).learned
        assert learned.max_in_flight == 12
        assert learned.per_second is None or learned.per_second > 12 / 5


@pytest.mark.parametrize("latency", [0.02, 0.3])
@pytest.mark.parametrize("kind", ["4/s", "30 in 10 s, fixed", "12 in flight"])
def test_limits_are_found_at_low_and_high_latency(kind: str, latency: float) -> None:
    """The limits are found at round trips of 20 ms and of 300 ms."""
    results = simulate_all(kind, "seconds", network=Network(latency=latency, jitter=0.05))
    assert median(result.makespan for result in results) <= 1.13
    assert mean([result.refused for result in results]) <= 0.08


@pytest.mark.parametrize(
    ("kind", "delay", "makespan", "worst"),
    [
        ("12 in flight", 0.5, 1.2, 1.45),
        ("12 in flight", 1.5, 1.38, 1.7),
        ("2/s and 10 in flight", 1.5, 1.4, 2.2),
        ("4/s and 12 in flight", 0.5, 1.35, 2.0),
        ("4/s and 12 in flight", 1.5, 1.75, 2.7),
    ],
)
def test_a_concurrency_limit_is_found_when_finished_jobs_are_noticed_late(
    kind: str, delay: float, makespan: float, worst: float
) -> None:
    """With 1.5 s of mean detection delay, tasks of 5 s occupy their slots 1.3 times as long: no bound can be below."""
    results = simulate_all(kind, "seconds", network=Network(detection_delay=delay))
    assert median(result.makespan for result in results) <= makespan
    assert max(result.makespan for result in results) <= worst
    assert mean([result.refused for result in results]) <= 0.165


@pytest.mark.parametrize(
    ("kind", "refused"), [("4/s", 10), ("30 in 10 s, fixed", 15), ("4/s, 10 saved up", 25), ("5 a minute", 20)]
)
def test_batches_with_idle_time_between_them_are_rarely_refused(kind: str, refused: int) -> None:
    """20 jobs every five minutes for two hours: an idle account is no sign that the rate is too low."""
    for seed in range(4):
        limits, typical = _KINDS[kind][:2]
        draw = lognormal(random.Random(seed), typical)
        limiter = adaptive_limiter()
        load = Load(limiter, Account(*limits(seed)), [draw() for _ in range(480)], seed=seed)
        load.waiting = 20

        def add_batch(load: Load = load, limiter: AdaptiveRateLimiter = limiter) -> None:
            limiter.on_idle()
            load.waiting += 20

        for number in range(1, 24):
            load.at(300.0 * number, add_batch)
        load.run()
        assert len(load.refused_at) <= refused


@pytest.mark.parametrize(("kind", "makespan"), [("12 in flight", 1.3), ("4/s, 10 saved up", 1.15), ("4/s", 1.36)])
def test_slow_answers_do_not_keep_the_rate_low(kind: str, makespan: float) -> None:
    """With answers that take a second, higher rates are tried all the same, with more requests outstanding."""
    results = simulate_all(kind, "seconds", network=Network(latency=1.0, jitter=0.05), jobs=400)
    assert median(result.makespan for result in results) <= makespan
    assert mean([result.refused for result in results]) <= 0.1


# Configured limits


def test_a_true_configured_rate_is_never_refused() -> None:
    """At the account's own rate nothing is refused and no time is lost."""
    for seed in SEEDS:
        result = simulate("4/s", "seconds", seed, configured_rate=4.0, network=Network(jitter=0.0))
        assert result.refused == 0
        assert result.makespan <= 1.01


def test_a_single_refusal_at_a_configured_rate_costs_little() -> None:
    """Uneven clocks and networks cause a refusal now and then. The configured rate is then used once more."""
    results = simulate_configured("4/s", 4.0)
    assert max(result.refused for result in results) > 0
    assert median(result.makespan for result in results) <= 1.06


@pytest.mark.parametrize("rate", [4.2, 5.0, 8.0])
def test_a_configured_rate_that_is_too_high_is_replaced(rate: float) -> None:
    """The true rate is found as if nothing had been configured."""
    results = simulate_configured("4/s", rate)
    assert median(result.makespan for result in results) <= 1.16
    assert mean([result.refused for result in results]) <= 0.06


def simulate_configured(kind: str, rate: float) -> list[Result]:
    """Submit jobs at a rate that the user has configured."""
    return simulate_all(kind, "seconds", configured_rate=rate, network=Network(jitter=0.01))


def test_simultaneous_sends_do_not_make_a_configured_rate_infinite() -> None:
    """The limiter has no pace of its own below a configured rate: requests without an interval show no rate."""
    limiter, now = adaptive_limiter(configured_rate=4.0), 0.0
    for _ in range(60):
        for permit in send_all(limiter, now):
            limiter.on_success(permit, now + 0.1, accepted=True)
        now += 1.0
    assert limiter.delay(now) == 0
    assert limiter.learned().per_second is None


def test_a_true_configured_concurrency_limit_is_never_refused() -> None:
    """No job beyond the ceiling is ever submitted, and little time is lost."""
    results = [simulate("12 in flight", "seconds", seed, limiter=adaptive_limiter(max_in_flight=12)) for seed in SEEDS]
    assert all(result.refused == 0 for result in results)
    assert max(result.makespan for result in results) <= 1.05


# Limits learned by an earlier run


@pytest.mark.parametrize("kind", ["4/s", "4/s, 10 saved up", "30 in 10 s, sliding", "12 in flight"])
def test_learned_limits_are_reused(kind: str) -> None:
    """A second limiter that starts with them meets less than half of the refusals."""
    first, second = [], []
    for seed in SEEDS:
        result = simulate(kind, "seconds", seed, jobs=200)
        first.append(result.refused)
        limiter = adaptive_limiter(learned=result.learned)
        second.append(simulate(kind, "seconds", seed + 100, limiter=limiter, jobs=200).refused)
    assert mean(second) < mean(first) / 2 + 0.02


@pytest.mark.parametrize(
    ("learned", "makespan"),
    [
        (LearnedLimits(per_second=40.0), 1.3),
        (LearnedLimits(per_second=40.0, burst=30), 2.6),
        (LearnedLimits(per_second=1.0), 1.7),
        (LearnedLimits(max_in_flight=90), 1.2),
    ],
)
def test_outdated_learned_limits_are_replaced(learned: LearnedLimits, makespan: float) -> None:
    """A rate ten times too high or four times too low, or an old concurrency limit, costs some time, few refusals."""
    for seed in SEEDS:
        result = simulate("4/s", "seconds", seed, limiter=adaptive_limiter(learned=learned), jobs=300)
        assert result.makespan <= makespan
        assert result.refused <= 0.08


# Limits that change


class ChangingLimit(NamedTuple):
    """A limit that falls to a third after a third of the time, and rises again after two thirds."""

    limit: Callable[[], Limit]
    change: Callable[[Limit, float], None]


def _set_rate(limit: Limit, share: float) -> None:
    assert isinstance(limit, TokenBucket)
    limit.per_second = share


def _set_max_jobs(limit: Limit, share: float) -> None:
    assert isinstance(limit, FixedWindow | SlidingWindow)
    limit.max_jobs = round(60 * share)


_CHANGING = {
    "60 a minute": ChangingLimit(lambda: TokenBucket(1), _set_rate),
    "60 a minute, 10 saved up": ChangingLimit(lambda: TokenBucket(1, 10), _set_rate),
    "60 in a minute, fixed": ChangingLimit(lambda: FixedWindow(60, 60), _set_max_jobs),
    "60 in a minute, sliding": ChangingLimit(lambda: SlidingWindow(60, 60), _set_max_jobs),
}


@pytest.mark.parametrize("retry_after", slow_after(1, ["none", "seconds"]))
@pytest.mark.parametrize("kind", slow_after(1, _CHANGING))
def test_a_changing_rate_limit_is_followed(kind: str, retry_after: str) -> None:
    """60, 20, then 60 a minute over ten hours: 92 % or more of it is used, with at most 30 refusals an hour."""
    limit, change, hour = _CHANGING[kind].limit(), _CHANGING[kind].change, 3600.0
    draw = lognormal(random.Random(1), 8)
    account = Account(limit, retry_after=retry_after)
    load = Load(adaptive_limiter(), account, [draw() for _ in range(40_000)], seed=1)
    load.at(10 / 3 * hour, lambda: change(limit, 1 / 3))
    load.at(20 / 3 * hour, lambda: change(limit, 1.0))
    load.run(stop=10 * hour)
    possible = (60 + 20 + 60) / 3 * 60 * 10
    assert len(load.accepted_at) / possible >= (0.95 if kind == "60 a minute" else 0.92)
    assert len(load.refused_at) / 10 <= (18 if kind == "60 a minute" else 30)


@pytest.mark.parametrize("retry_after", slow_after(1, ["seconds", "none"]))
def test_a_changing_concurrency_limit_is_followed(retry_after: str) -> None:
    """50, 20, then 50 tasks of a minute in flight over ten hours: 95 % of the slots are used."""
    limit, hour = InFlightLimit(50), 3600.0
    draw = lognormal(random.Random(1), 60)
    durations = [draw() for _ in range(40_000)]
    load = Load(adaptive_limiter(), Account(limit, retry_after=retry_after), durations, seed=1)
    load.at(10 / 3 * hour, lambda: setattr(limit, "max_jobs", 20))
    load.at(20 / 3 * hour, lambda: setattr(limit, "max_jobs", 50))
    load.run(stop=10 * hour)
    possible = 10 * hour * 40 / mean(durations)
    assert len(load.accepted_at) / possible >= 0.95
    assert len(load.refused_at) / 10 <= 20


def test_every_style_of_retry_after_is_tested() -> None:
    """The tests above leave none out."""
    assert set(RETRY_AFTER_STYLES) == {*TRUE_RETRY_AFTER, "none", "huge", "short", "long"}
