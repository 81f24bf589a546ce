"""The rate and the burst of a token bucket are found from two refusals, and no bucket where there is none."""

from __future__ import annotations

import pytest

from omni_async.ratelimit.burst import fit_bucket
from tests.support.accounts import FixedWindow, Limit, TokenBucket


def _history(limit: Limit, stretches: list[tuple[float, float]], pause: float) -> list[tuple[float, bool]]:
    """Return what an account answers to requests at these paces, each for so many seconds or until it refuses one.

    A pause follows each refusal.
    """
    history, now = [], 0.0
    for pace, seconds in stretches:
        until, is_accepted = now + seconds, True
        while now < until and is_accepted:
            is_accepted = not limit.delay(now)
            if is_accepted:
                limit.job_accepted(now)
            history.append((now, is_accepted))
            now += 1 / pace if is_accepted else pause
    return history


def _accepted_per_second(history: list[tuple[float, bool]]) -> float:
    """Return the rate of one cycle: from the end of the first pause to that of the second one."""
    first, last = (at for at, is_accepted in history if not is_accepted)
    return sum(first < at < last for at, _ in history) / (last - first)


@pytest.mark.parametrize(("per_second", "burst"), [(20.0, 10), (4.0, 10), (4.0, 60), (0.5, 5)])
def test_rate_and_burst_are_found_from_two_refusals(per_second: float, burst: int) -> None:
    """The first refusal comes at four times the rate, the second one after a while at 1.2 times the rate.

    The pause is so long that much of what the account would have accepted in it is lost.
    """
    stretches = [(4 * per_second, 1e6), (1.2 * per_second, 1e6)]
    pause = 1.5 * burst / per_second
    history = _history(TokenBucket(per_second, burst), stretches, pause)
    accepted = _accepted_per_second(history)
    bucket = fit_bucket(history, accepted)
    assert bucket is not None
    assert accepted < 0.95 * per_second
    assert bucket.lowest <= per_second <= bucket.highest * 1.02
    assert bucket.highest <= 1.1 * bucket.lowest
    assert bucket.burst == pytest.approx(burst, abs=1.5)
    assert 0.93 * per_second <= bucket.bracket(1.1)[0] <= per_second


def test_the_range_is_wide_where_two_refusals_are_alike() -> None:
    """Both came soon after the bucket had been full: a faster account with a smaller burst would refuse the same."""
    history = _history(TokenBucket(20.0, 10), [(40.0, 1e6), (45.0, 1e6)], 1.5)
    bucket = fit_bucket(history, _accepted_per_second(history))
    assert bucket is not None
    assert bucket.lowest <= 20.0 <= bucket.highest
    assert bucket.highest > 1.1 * bucket.lowest
    assert bucket.bracket(1.1)[1] == bucket.highest


def test_a_known_burst_replaces_the_requests_before_the_first_refusal() -> None:
    """The same rate is found from what followed the first refusal alone."""
    history = _history(TokenBucket(20.0, 10), [(80.0, 1e6), (24.0, 1e6)], 1.0)
    accepted = _accepted_per_second(history)
    later = history[next(number for number, event in enumerate(history) if not event[1]) :]
    assert fit_bucket(later, accepted) is None
    bucket = fit_bucket(later, accepted, 10.0)
    assert bucket is not None
    assert bucket.bracket(1.1)[0] == pytest.approx(20.0, rel=0.05)


def test_nothing_is_found_from_one_refusal() -> None:
    """A single refusal fits any rate."""
    assert fit_bucket(_history(TokenBucket(20.0, 10), [(80.0, 1e6)], 1.0), 10.0) is None


@pytest.mark.parametrize("limit", [TokenBucket(20.0), FixedWindow(30, 10.0)])
def test_other_limits_are_no_buckets(limit: Limit) -> None:
    """A rate without a burst, and a window of which the first ones are used up at different paces."""
    history = _history(limit, [(2.0, 8.0), (40.0, 1e6), (22.0, 1e6)], 8.0)
    assert fit_bucket(history, 0.8 * 20.0 if isinstance(limit, TokenBucket) else 3.0) is None
