"""Exponential backoff with jitter, and how `Retry-After` is honoured."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..settings import Retry

_PATIENCE = 12  # budgets: how long a gate that hears nothing but 429 keeps asking


def give_up_after(retry: Retry) -> float:
    """Give for how many seconds a gate that hears nothing but 429, with nothing in flight, keeps asking."""
    return _PATIENCE * retry.timeout


def backoff(attempt: int, retry: Retry, jitter: float) -> float:
    """Give the delay before attempt number `attempt` + 2, in seconds.

    ``min(maximum, initial * 2**attempt) * (1 + jitter) / 2`` with jitter from [0, 1): "equal jitter" of M. Brooker,
    Exponential Backoff and Jitter (AWS Architecture Blog, 2015), so that a crowd does not come back as one.
    """
    return min(retry.wait_max, retry.wait_initial * 2.0 ** min(attempt, 60)) * (1 + jitter) / 2


def retry_delay(retry_after: float | None, attempt: int, retry: Retry, jitter: float) -> float:
    """Give the delay where the server may have named one: its own if it makes sense, never less, at most the budget.

    Advice that does not help (refused again and again after it) is stretched like a backoff.
    """
    own = backoff(attempt, retry, jitter)
    if retry_after is None or retry_after <= 0:
        return own
    stretched = max(retry_after, backoff(attempt - 3, retry, jitter)) if attempt >= 3 else retry_after
    return min(stretched, max(retry.timeout, retry.wait_max)) * (1 + jitter / 20)  # jitter only upward
