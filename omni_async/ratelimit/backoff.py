"""Exponential backoff with jitter, and how `Retry-After` is honoured. Every stage that retries uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..settings import Retry

# Retry timeouts until a limiter that meets nothing but failures gives up: one hour by default. A 429 costs nothing, and
# a window limit may refuse everything for up to an hour. Chosen, not measured. Half: a run ends although the next
# window would have let it continue. Double: the user is told after two hours without a job.
_GIVE_UP_TIMEOUTS = 12

# Attempts for which a Retry-After is followed as it is. After them the backoff may exceed it, because following it did
# not help. Chosen, not measured. Half: a few unlucky attempts lengthen the delay. Double (6): three more attempts in
# vain before it grows.
_TRUSTED_ATTEMPTS = 3

# A Retry-After is lengthened by up to 1/20 of itself and never shortened, so that clients which were refused together
# do not return together. On the simulated accounts of tests/ratelimit/test_adaptive.py, half and double change the
# median makespan by less than 5 %, except after a wrong learned rate (1.90 -> 1.60 and 2.29): by chance.
RETRY_AFTER_JITTER = 20

# Doubling more often than this would overflow a float; every ceiling is reached long before.
_MAX_DOUBLINGS = 60


def give_up_after(retry: Retry) -> float:
    """Return the seconds after which to give up on a server that only refuses, with nothing in flight."""
    return _GIVE_UP_TIMEOUTS * retry.timeout


def doubled(first: float, attempt: int) -> float:
    """Return `first` doubled `attempt` times, without overflow."""
    return first * 2.0 ** min(attempt, _MAX_DOUBLINGS)


def backoff(attempt: int, retry: Retry, jitter: float) -> float:
    """Return the delay in seconds after a failed attempt, the first one being attempt 0.

    The formula is ``min(wait_max, wait_initial * 2**attempt) * (1 + jitter) / 2`` with `jitter` in [0, 1). This is the
    "equal jitter" of M. Brooker, Exponential Backoff and Jitter (AWS Architecture Blog, 2015): clients that failed
    together do not retry together.
    """
    return min(retry.wait_max, doubled(retry.wait_initial, attempt)) * (1 + jitter) / 2


def retry_delay(retry_after: float | None, attempt: int, retry: Retry, jitter: float) -> float:
    """Return the delay in seconds after a failed attempt, which may have named a `Retry-After` (seconds, or None).

    A positive `Retry-After` is never shortened, except to the retry timeout. If it did not help several times in a
    row, it is stretched like a backoff. Without one this is `backoff`.
    """
    own = backoff(attempt, retry, jitter)
    if retry_after is None or retry_after <= 0:
        return own
    is_trusted = attempt < _TRUSTED_ATTEMPTS
    stretched = retry_after if is_trusted else max(retry_after, backoff(attempt - _TRUSTED_ATTEMPTS, retry, jitter))
    return min(stretched, max(retry.timeout, retry.wait_max)) * (1 + jitter / RETRY_AFTER_JITTER)
