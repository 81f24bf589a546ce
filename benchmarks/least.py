"""The least possible makespan: of a schedule that knows every limit and duration, and loses no time."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def at_rate(durations: Sequence[float], per_second: float) -> float:
    """Jobs are accepted one by one, evenly."""
    return max(number / per_second + each for number, each in enumerate(durations))


def in_windows(durations: Sequence[float], count: int, seconds: float) -> float:
    """So many jobs are accepted at once in each window; the first begins with the first job."""
    return max(number // count * seconds + each for number, each in enumerate(durations))


def at_once(durations: Sequence[float], capacity: int) -> float:
    """So many jobs run at once, and the next begins when one ends. The server draws durations in the order of jobs."""
    ends: list[float] = []
    for each in durations:
        start = heapq.heappop(ends) if len(ends) >= capacity else 0.0
        heapq.heappush(ends, start + each)
    return max(ends)


LEAST: dict[str, Callable[[Sequence[float]], float]] = {
    "4 a second": lambda durations: at_rate(durations, 4.0),
    "30 in 10 s": lambda durations: in_windows(durations, 30, 10.0),
    "12 at once": lambda durations: at_once(durations, 12),
}
