"""A limiter continues from the snapshot of another one: limits, pace and pause survive a change of process."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from omni_async.ratelimit.adaptive import AdaptiveRateLimiter
from omni_async.ratelimit.learned import LearnedLimits
from tests.support.accounts import Account, FixedWindow, InFlightLimit, Limit, TokenBucket, lognormal
from tests.support.limiters import adaptive_limiter, send
from tests.support.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = range(8)


def handed_over(
    limiter: AdaptiveRateLimiter, now: float, *, other_now: float = 0.0, rate: float | None = None
) -> AdaptiveRateLimiter:
    """Return another limiter that continues from a snapshot, on a clock that shows `other_now` instead of `now`."""
    snapshot = json.loads(json.dumps(limiter.snapshot(now), allow_nan=False))
    other = adaptive_limiter(configured_rate=rate)
    other.restore(snapshot, other_now)
    return other


def test_the_format_of_version_3_is_fixed() -> None:
    """A change of the keys needs a new version number."""
    limiter = adaptive_limiter()
    limiter.on_rate_limited(send(limiter, 0), 0, retry_after=10.0, jitter=0)
    snapshot = limiter.snapshot(0)
    assert snapshot["version"] == 3
    assert {key: set(value) for key, value in snapshot.items() if isinstance(value, dict)} == {
        "rate": {
            *("lower", "upper", "burst", "is_ramping", "pace", "held", "saved_up"),
            *("is_growing", "growth", "growth_wait", "refused_pace"),
            *("sent_at", "accepted_at", "steady_since"),
        },
        "concurrency": {"limit", "growth_wait"},
        "pause": {"cause", "seconds", "in_a_row"},
    }


@pytest.mark.parametrize("snapshot", [{}, {"version": 4, "rate": 5}, {"version": "1"}])
def test_an_unknown_version_is_ignored(snapshot: dict[str, object]) -> None:
    """The limits are then learned anew."""
    limiter, fresh = adaptive_limiter(), adaptive_limiter()
    limiter.restore(snapshot, 0)
    assert limiter.learned() == LearnedLimits()
    assert limiter.snapshot(0) == fresh.snapshot(0)


def test_a_new_limiter_can_be_restored() -> None:
    """The snapshot of a limiter that has sent nothing changes nothing."""
    fresh = adaptive_limiter()
    assert handed_over(fresh, 5).snapshot(0) == fresh.snapshot(5)


def test_learned_limits_are_handed_over() -> None:
    """Rate, burst and concurrency limit are known in the other process."""
    learned = LearnedLimits(per_second=2.5, max_in_flight=12, burst=30)
    assert handed_over(adaptive_limiter(learned=learned), 0).learned() == learned


def test_a_pause_is_handed_over() -> None:
    """The other limiter resumes at the same moment, by its own clock, with one probe."""
    limiter = adaptive_limiter()
    limiter.on_rate_limited(send(limiter, 1000), 1000, retry_after=30.0, jitter=0)
    other = handed_over(limiter, 1010, other_now=77)
    assert other.delay(77) == pytest.approx(20)
    assert send(other, 97).is_probe


def test_the_backoff_is_handed_over() -> None:
    """The next refusal in a row doubles the pause in the other process as it would have in this one."""
    limiter, now = adaptive_limiter(), 0.0
    for _ in range(4):
        limiter.on_unreachable(send(limiter, now), now, jitter=0)
        now += limiter.delay(now) or 0
    other = handed_over(limiter, now, other_now=now)
    for each in (limiter, other):
        each.on_unreachable(send(each, now), now, jitter=0)
    assert other.delay(now) == limiter.delay(now)


def test_a_lost_probe_is_sent_again() -> None:
    """If the first process ends while its probe is outstanding, the other one probes immediately."""
    limiter = adaptive_limiter()
    limiter.on_rate_limited(send(limiter, 0), 0, retry_after=10.0, jitter=0)
    send(limiter, 10.0 + 1)
    other = handed_over(limiter, 11.5)
    assert send(other, 0).is_probe


def test_the_pace_is_kept_across_the_handover() -> None:
    """The first request of the other process keeps its distance from the last one of this process."""
    limiter = adaptive_limiter(learned=LearnedLimits(per_second=0.1))
    limiter.on_success(send(limiter, 100), 100.2, accepted=True)
    assert handed_over(limiter, 103, other_now=0).delay(0) == pytest.approx(limiter.delay(103) or 0)


def test_a_configured_rate_wins_over_a_snapshot() -> None:
    """A limiter with a configured rate takes over the concurrency limit only."""
    limiter = adaptive_limiter(learned=LearnedLimits(per_second=2.5, max_in_flight=12))
    assert handed_over(limiter, 0, rate=4.0).learned() == LearnedLimits(max_in_flight=12)


_KINDS: dict[str, Callable[[], list[Limit]]] = {
    "4/s": lambda: [TokenBucket(4)],
    "4/s, 10 saved up": lambda: [TokenBucket(4, 10)],
    "30 in 10 s, fixed": lambda: [FixedWindow(30, 10)],
    "12 in flight": lambda: [InFlightLimit(12)],
    "no limit": list[Limit],
}


def _simulate(kind: str, seed: int, *, handovers: bool) -> Load:
    """Submit 300 jobs; with `handovers`, move to another limiter every 20 s."""
    draw = lognormal(random.Random(seed), 5)
    load = Load(adaptive_limiter(), Account(*_KINDS[kind]()), [draw() for _ in range(300)], seed=seed)

    def hand_over() -> None:
        if load.outstanding:  # its permit belongs to the present limiter
            load.at(load.now + 0.01, hand_over)
            return
        old, load.limiter = load.limiter, handed_over(load.limiter, load.now, other_now=load.now)
        for _ in range(old.in_flight):
            load.limiter.job_started()

    if handovers:
        for number in range(1, 20):
            load.at(20.0 * number, hand_over)
    load.run()
    return load


@pytest.mark.parametrize("kind", _KINDS)
def test_handovers_cost_little(kind: str) -> None:
    """With a handover every 20 s, 300 jobs take at most 8 % longer and meet at most four more refusals."""
    for seed in SEEDS:
        steady, moved = _simulate(kind, seed, handovers=False), _simulate(kind, seed, handovers=True)
        assert moved.finished_at <= 1.08 * steady.finished_at
        assert len(moved.refused_at) <= len(steady.refused_at) + 4
