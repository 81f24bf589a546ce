"""When a job is checked next: a gap that grows with the job's age, and no look before anything can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import Polling

_GROWTH = 1 / 6  # the gap as a share of the age: a job is noticed at most about a sixth of its duration late
_EARLIEST = 1 / 2  # of the estimated time: before that, hardly any job is done


def next_gap(age: float, estimated_time: float | None, polling: Polling) -> float:
    """Give the seconds until the next check of a job that was accepted `age` seconds ago.

    `estimated_time` is the server's own estimate in seconds, if it gave one.
    """
    gap = max(polling.minimum, age * _GROWTH)
    if estimated_time is not None and estimated_time > 0:
        gap = max(gap, estimated_time * _EARLIEST - age)
    return min(gap, polling.maximum)
