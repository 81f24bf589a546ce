"""A gate that is told nothing finds the limits of simulated accounts: nearly no time lost, nearly nothing refused."""

from __future__ import annotations

import random
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import pytest

from omni_async.ratelimit.adaptive import LearnedLimits, Learner
from omni_async.ratelimit.limiter import RateLimiter
from omni_async.settings import Retry
from tests.support.accounts import (
    ADVICE,
    Account,
    Capacity,
    FixedWindow,
    Limit,
    SlidingWindow,
    TokenBucket,
    least_makespan,
    lognormal,
)
from tests.support.load import Load, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY = Retry()
SEEDS = range(12)
HONEST = ("seconds", "date")


class Kind(NamedTuple):
    """An account, what it is asked for, and what a gate must reach on it."""

    limits: Callable[[int], list[Limit]]
    median: float  # of the tasks, in seconds
    makespan: float  # over the least possible: the median of the seeds ...
    worst: float  # ... and the worst
    refused: float  # for each accepted: the mean of the seeds


# With advice that can be trusted.
_KINDS = {
    "4/s": Kind(lambda _: [TokenBucket(4)], 8, 1.09, 1.18, 0.03),
    "4/s, 10 saved up": Kind(lambda _: [TokenBucket(4, 10)], 8, 1.05, 1.15, 0.09),
    "4/s, 60 saved up": Kind(lambda _: [TokenBucket(4, 60)], 8, 1.10, 1.15, 0.15),
    "30 in 10 s, fixed": Kind(lambda _: [FixedWindow(30, 10)], 8, 1.12, 1.25, 0.05),
    "30 in 10 s, fixed, begun anywhere": Kind(lambda seed: [FixedWindow(30, 10, seed * -0.77)], 8, 1.12, 1.45, 0.06),
    "30 in 10 s, sliding": Kind(lambda _: [SlidingWindow(30, 10)], 8, 1.19, 1.30, 0.05),
    "12 at once": Kind(lambda _: [Capacity(12)], 5, 1.06, 1.10, 0.08),
    "2/s and 10 at once": Kind(lambda _: [TokenBucket(2), Capacity(10)], 8, 1.08, 1.12, 0.15),
    "4/s and 12 at once": Kind(lambda _: [TokenBucket(4), Capacity(12)], 5, 1.08, 1.14, 0.15),
    "30 in 10 s and 12 at once": Kind(lambda _: [FixedWindow(30, 10), Capacity(12)], 5, 1.06, 1.10, 0.08),
    "5 a minute": Kind(lambda _: [TokenBucket(5 / 60)], 8, 1.07, 1.10, 0.08),
    "5 in a minute, fixed": Kind(lambda _: [FixedWindow(5, 60)], 8, 1.07, 1.10, 0.08),
    "no limit": Kind(lambda _: [], 8, 1.25, 1.40, 0.0),
}

# Without any, or with advice so wrong that it says nothing.
_UNADVISED = {
    "4/s": (1.06, 0.03),
    "4/s, 10 saved up": (1.05, 0.08),
    "4/s, 60 saved up": (1.09, 0.15),
    "30 in 10 s, fixed": (1.32, 0.11),
    "30 in 10 s, sliding": (1.38, 0.10),
    "12 at once": (1.06, 0.08),
    "2/s and 10 at once": (1.06, 0.15),
    "4/s and 12 at once": (1.06, 0.13),
    "5 a minute": (1.07, 0.16),
}


class Outcome(NamedTuple):
    """What came of one load."""

    makespan: float  # over the least possible
    refused: float  # for each accepted
    learnt: LearnedLimits


def run(
    kind: str,
    advice: str,
    seed: int,
    *,
    learner: Learner | None = None,
    capacity: int | None = None,
    pace: float | None = None,
    wire: Wire | None = None,
    jobs: int = 100,
) -> Outcome:
    """Let jobs out to one account."""
    limits, typical = _KINDS[kind][:2]
    draw = lognormal(random.Random(seed), typical)
    durations = [draw() for _ in range(jobs)]
    gate = RateLimiter(max_in_flight=capacity, max_concurrent=16, retry=RETRY, learner=learner or Learner(RETRY))
    load = Load(gate, Account(*limits(seed), advice=advice), durations, seed=seed, wire=wire, pace=pace)
    load.go(until=100_000)
    assert len(load.accepted_at) == jobs
    assert load.most_on_wire <= 16
    least = least_makespan(limits(seed), durations)
    return Outcome(load.finished_at / least, len(load.refused_at) / jobs, gate.learned())


def runs(kind: str, advice: str, **given: object) -> list[Outcome]:
    """Do so for each seed."""
    return [run(kind, advice, seed, **given) for seed in SEEDS]  # type: ignore[arg-type]


def mean(values: list[float]) -> float:
    """Give the mean."""
    return sum(values) / len(values)


# Told nothing


@pytest.mark.parametrize("advice", HONEST)
@pytest.mark.parametrize("kind", _KINDS)
def test_limits_are_found(kind: str, advice: str) -> None:
    """100 jobs get through an account of each kind in little more than the least time, with few refusals."""
    outcomes, aim = runs(kind, advice), _KINDS[kind]
    assert median(outcome.makespan for outcome in outcomes) <= aim.makespan
    assert max(outcome.makespan for outcome in outcomes) <= aim.worst
    assert mean([outcome.refused for outcome in outcomes]) <= aim.refused


@pytest.mark.parametrize("advice", ["none", "huge"])
@pytest.mark.parametrize("kind", _UNADVISED)
def test_limits_are_found_without_advice(kind: str, advice: str) -> None:
    """A server that does not say when to come back, or names next year, is found out by asking."""
    outcomes, (makespan, refused) = runs(kind, advice), _UNADVISED[kind]
    assert median(outcome.makespan for outcome in outcomes) <= makespan
    assert mean([outcome.refused for outcome in outcomes]) <= refused


@pytest.mark.parametrize("advice", ["short", "long"])
@pytest.mark.parametrize("kind", ["4/s", "4/s, 10 saved up", "4/s, 60 saved up", "12 at once", "4/s and 12 at once"])
def test_wrong_advice_does_little_harm(kind: str, advice: str) -> None:
    """A `Retry-After` of a quarter of the truth, or of three times as much, is lived with."""
    outcomes = runs(kind, advice)
    assert median(outcome.makespan for outcome in outcomes) <= 1.25
    assert mean([outcome.refused for outcome in outcomes]) <= 0.17


@pytest.mark.parametrize(
    ("kind", "found", "off"), [("4/s", 4.0, 0.1), ("4/s, 10 saved up", 4.0, 0.25), ("5 a minute", 5 / 60, 0.1)]
)
def test_the_rate_found_is_the_true_one(kind: str, found: float, off: float) -> None:
    """After 400 jobs it is known well: to a tenth where nothing is saved up."""
    for seed in SEEDS:
        learnt = run(kind, "seconds", seed, jobs=400).learnt
        assert learnt.per_second == pytest.approx(found, rel=off)


def test_the_capacity_found_is_the_true_one() -> None:
    """And no rate is taken for found where there is none that matters."""
    for seed in SEEDS:
        learnt = run("12 at once", "seconds", seed).learnt
        assert learnt.max_in_flight == 12
        assert learnt.per_second is None or learnt.per_second > 12 / 5


@pytest.mark.parametrize("latency", [0.02, 0.3])
@pytest.mark.parametrize("kind", ["4/s", "30 in 10 s, fixed", "12 at once"])
def test_the_way_may_be_short_or_long(kind: str, latency: float) -> None:
    """The limits are found from near and far."""
    outcomes = runs(kind, "seconds", wire=Wire(latency=latency, jitter=0.05))
    assert median(outcome.makespan for outcome in outcomes) <= 1.13
    assert mean([outcome.refused for outcome in outcomes]) <= 0.08


@pytest.mark.parametrize(
    ("kind", "late", "most", "worst"),
    [
        ("12 at once", 0.5, 1.2, 1.45),
        ("12 at once", 1.5, 1.38, 1.7),
        ("2/s and 10 at once", 1.5, 1.4, 2.2),
        ("4/s and 12 at once", 0.5, 1.35, 2.0),
        ("4/s and 12 at once", 1.5, 1.75, 2.7),
    ],
)
def test_ends_that_are_noticed_late_do_not_hide_a_capacity(kind: str, late: float, most: float, worst: float) -> None:
    """Noticed 1.5 s late on average, tasks of 5 s hold their places for 1.3 times as long; that bounds the second."""
    outcomes = runs(kind, "seconds", wire=Wire(notice=late))
    assert median(outcome.makespan for outcome in outcomes) <= most
    assert max(outcome.makespan for outcome in outcomes) <= worst
    assert mean([outcome.refused for outcome in outcomes]) <= 0.165


@pytest.mark.parametrize(
    ("kind", "refused"), [("4/s", 10), ("30 in 10 s, fixed", 15), ("4/s, 10 saved up", 25), ("5 a minute", 20)]
)
def test_work_that_comes_in_batches_is_hardly_refused(kind: str, refused: int) -> None:
    """20 jobs every five minutes for two hours: that few are in flight between them is no sign of a rate too low."""
    for seed in range(4):
        limits, typical = _KINDS[kind][:2]
        draw = lognormal(random.Random(seed), typical)
        gate = RateLimiter(max_in_flight=None, max_concurrent=16, retry=RETRY, learner=Learner(RETRY))
        load = Load(gate, Account(*limits(seed)), [draw() for _ in range(480)], seed=seed)
        load.waiting = 20

        def bring(load: Load = load, gate: RateLimiter = gate) -> None:
            gate.on_idle()
            load.waiting += 20

        for number in range(1, 24):
            load.at(300.0 * number, bring)
        load.go()
        assert len(load.refused_at) <= refused


@pytest.mark.parametrize(("kind", "most"), [("12 at once", 1.3), ("4/s, 10 saved up", 1.15), ("4/s", 1.36)])
def test_a_server_that_answers_late_does_not_hold_it_back(kind: str, most: float) -> None:
    """Where an answer takes a second, more is asked for all the same, though more of them are on the wire then."""
    outcomes = runs(kind, "seconds", wire=Wire(latency=1.0, jitter=0.05), jobs=400)
    assert median(outcome.makespan for outcome in outcomes) <= most
    assert mean([outcome.refused for outcome in outcomes]) <= 0.1


# Told, or known from another time


def test_a_rate_that_is_told_is_never_refused() -> None:
    """Where the pace is kept by what the user said, nothing is refused, and nothing lost."""
    for seed in SEEDS:
        learner = Learner(RETRY, configured=4.0)
        outcome = run("4/s", "seconds", seed, learner=learner, pace=4.0, wire=Wire(jitter=0.0))
        assert outcome.refused == 0
        assert outcome.makespan <= 1.01


def test_a_refusal_at_a_told_rate_is_bad_luck() -> None:
    """Where clocks and networks are uneven, a told rate may be refused now and then; it costs little more than that."""
    outcomes = runs_told("4/s", 4.0)
    assert max(outcome.refused for outcome in outcomes) > 0
    assert median(outcome.makespan for outcome in outcomes) <= 1.06


@pytest.mark.parametrize("told", [4.2, 5.0, 8.0])
def test_a_told_rate_that_is_too_high_is_soon_not_believed(told: float) -> None:
    """The true one is found then, as if nothing had been told."""
    outcomes = runs_told("4/s", told)
    assert median(outcome.makespan for outcome in outcomes) <= 1.16
    assert mean([outcome.refused for outcome in outcomes]) <= 0.06


def runs_told(kind: str, told: float) -> list[Outcome]:
    """Let jobs out that keep a pace which the user has named."""
    return [
        run(kind, "seconds", seed, learner=Learner(RETRY, configured=told), pace=told, wire=Wire(jitter=0.01))
        for seed in SEEDS
    ]


def test_a_capacity_that_is_told_is_never_refused() -> None:
    """Nor is more ever asked for."""
    outcomes = [run("12 at once", "seconds", seed, capacity=12) for seed in SEEDS]
    assert all(outcome.refused == 0 for outcome in outcomes)
    assert max(outcome.makespan for outcome in outcomes) <= 1.05


@pytest.mark.parametrize("kind", ["4/s", "4/s, 10 saved up", "30 in 10 s, sliding", "12 at once"])
def test_what_was_learnt_is_not_asked_again(kind: str) -> None:
    """Another gate that begins with it meets less than half of the refusals, and is as fast."""
    first, again = [], []
    for seed in SEEDS:
        outcome = run(kind, "seconds", seed, jobs=200)
        first.append(outcome.refused)
        learner = Learner(RETRY, learned=outcome.learnt)
        again.append(run(kind, "seconds", seed + 100, learner=learner, jobs=200).refused)
    assert mean(again) < mean(first) / 2 + 0.02


@pytest.mark.parametrize(
    ("learnt", "makespan"),
    [
        (LearnedLimits(per_second=40.0), 1.3),
        (LearnedLimits(per_second=40.0, burst=30), 2.6),
        (LearnedLimits(per_second=1.0), 1.7),
        (LearnedLimits(max_in_flight=90), 1.2),
    ],
)
def test_what_was_learnt_may_be_wrong_by_now(learnt: LearnedLimits, makespan: float) -> None:
    """A rate ten times too high or four times too low, or a capacity of old, costs some time and few refusals."""
    for seed in SEEDS:
        outcome = run("4/s", "seconds", seed, learner=Learner(RETRY, learned=learnt), jobs=300)
        assert outcome.makespan <= makespan
        assert outcome.refused <= 0.08


# Hours


class Moving(NamedTuple):
    """An account whose limit falls to a third after a third of the time, and rises again after two."""

    limit: Callable[[], Limit]
    change: Callable[[Limit, float], None]


def _set_rate(limit: Limit, share: float) -> None:
    assert isinstance(limit, TokenBucket)
    limit.per_second = share


def _set_most(limit: Limit, share: float) -> None:
    assert isinstance(limit, FixedWindow | SlidingWindow)
    limit.most = round(60 * share)


_MOVING = {
    "60 a minute": Moving(lambda: TokenBucket(1), _set_rate),
    "60 a minute, 10 saved up": Moving(lambda: TokenBucket(1, 10), _set_rate),
    "60 in a minute, fixed": Moving(lambda: FixedWindow(60, 60), _set_most),
    "60 in a minute, sliding": Moving(lambda: SlidingWindow(60, 60), _set_most),
}


@pytest.mark.parametrize("advice", ["seconds", "none"])
@pytest.mark.parametrize("kind", _MOVING)
def test_a_limit_that_moves_is_followed(kind: str, advice: str) -> None:
    """60 -> 20 -> 60 a minute over ten hours: nearly all that is possible is used, at 30 refusals an hour at most."""
    limit, change, hour = _MOVING[kind].limit(), _MOVING[kind].change, 3600.0
    draw = lognormal(random.Random(1), 8)
    gate = RateLimiter(max_in_flight=None, max_concurrent=16, retry=RETRY, learner=Learner(RETRY))
    load = Load(gate, Account(limit, advice=advice), [draw() for _ in range(40_000)], seed=1)
    load.at(10 / 3 * hour, lambda: change(limit, 1 / 3))
    load.at(20 / 3 * hour, lambda: change(limit, 1.0))
    load.go(stop=10 * hour)
    possible = (60 + 20 + 60) / 3 * 60 * 10
    assert len(load.accepted_at) / possible >= (0.95 if kind == "60 a minute" else 0.92)
    assert len(load.refused_at) / 10 <= (18 if kind == "60 a minute" else 30)


@pytest.mark.parametrize("advice", ["seconds", "none"])
def test_a_capacity_that_moves_is_followed(advice: str) -> None:
    """50 -> 20 -> 50 tasks of a minute at once over ten hours."""
    limit, hour = Capacity(50), 3600.0
    draw = lognormal(random.Random(1), 60)
    durations = [draw() for _ in range(40_000)]
    gate = RateLimiter(max_in_flight=None, max_concurrent=16, retry=RETRY, learner=Learner(RETRY))
    load = Load(gate, Account(limit, advice=advice), durations, seed=1)
    load.at(10 / 3 * hour, lambda: setattr(limit, "most", 20))
    load.at(20 / 3 * hour, lambda: setattr(limit, "most", 50))
    load.go(stop=10 * hour)
    possible = 10 * hour * 40 / mean(durations)
    assert len(load.accepted_at) / possible >= 0.95
    assert len(load.refused_at) / 10 <= 20


def test_every_kind_of_advice_is_tried() -> None:
    """The tests above leave none out."""
    assert set(ADVICE) == {*HONEST, "none", "huge", "short", "long"}
