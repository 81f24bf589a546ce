"""Exponential backoff with jitter, `Retry-After`, and how long rate limits are waited out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.ratelimit.backoff import backoff, give_up_after, retry_delay
from omni_async.settings import Retry

JITTER = st.floats(min_value=0, max_value=1, exclude_max=True)

_RETRY = st.builds(
    lambda initial, factor, timeout: Retry(wait_initial=initial, wait_max=initial * factor, timeout=timeout),
    st.floats(0.001, 100),
    st.floats(1, 1000),
    st.floats(0, 100_000),
)


@given(st.integers(0, 10**6), _RETRY, JITTER)
def test_backoff_keeps_its_bounds(attempt: int, retry: Retry, jitter: float) -> None:
    """Every delay is between half the initial one and the maximum."""
    assert retry.wait_initial / 2 <= backoff(attempt, retry, jitter) <= retry.wait_max


@given(st.integers(0, 100), _RETRY)
def test_backoff_never_shrinks(attempt: int, retry: Retry) -> None:
    """With the same jitter, a later attempt never waits less."""
    assert backoff(attempt, retry, 0.5) <= backoff(attempt + 1, retry, 0.5)


@pytest.mark.parametrize(
    ("attempt", "low", "high"), [(0, 0.25, 0.5), (1, 0.5, 1), (2, 1, 2), (5, 8, 16), (6, 15, 30), (60, 15, 30)]
)
def test_backoff_doubles_with_equal_jitter(attempt: int, low: float, high: float) -> None:
    """The formula of its docstring, at both ends of the jitter."""
    assert backoff(attempt, Retry(), 0.0) == low
    assert backoff(attempt, Retry(), 1.0) == high


@given(st.floats(0.001, 300), st.integers(0, 100), JITTER)
def test_retry_after_is_never_undercut(retry_after: float, attempt: int, jitter: float) -> None:
    """Jitter on the server's own number only lengthens it, and by little while the number helps."""
    delay = retry_delay(retry_after, attempt, Retry(), jitter)
    assert delay >= retry_after
    assert attempt >= 3 or delay <= retry_after * 1.05


@given(st.none() | st.floats(allow_nan=False), st.integers(0, 10**6), _RETRY, JITTER)
def test_retry_after_is_bounded(retry_after: float | None, attempt: int, retry: Retry, jitter: float) -> None:
    """A huge or invalid value is cut to the timeout. The delay is always positive and finite."""
    delay = retry_delay(retry_after, attempt, retry, jitter)
    assert 0 < delay <= max(retry.timeout, retry.wait_max) * 1.05


@pytest.mark.parametrize("retry_after", [None, 0.0, -5.0])
def test_an_invalid_retry_after_is_ignored(retry_after: float | None) -> None:
    """A `Retry-After` of zero or less does not allow immediate retries."""
    assert retry_delay(retry_after, 4, Retry(), 0.5) == backoff(4, Retry(), 0.5)


def test_a_retry_after_that_does_not_help_is_stretched() -> None:
    """A server that says "1" again and again is asked less and less often."""
    delays = [retry_delay(0.1, attempt, Retry(), 0.0) for attempt in range(12)]
    assert delays[:3] == [0.1] * 3
    assert delays == sorted(delays)
    assert delays[-1] >= 15


def test_a_rate_limit_is_waited_out_longer() -> None:
    """A rate limit is waited out for longer than an outage."""
    assert give_up_after(Retry(timeout=10)) > 10
