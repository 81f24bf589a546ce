"""Lower bounds of the makespan: the time of a schedule that knows every limit and duration and loses no time.

The functions take the durations of the tasks in seconds, in order of acceptance, and return seconds. Used by
`makespan`.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def rate_limited(durations: Sequence[float], per_second: float, burst: int = 1) -> float:
    """Return the makespan where `burst` jobs are accepted at once and then one every ``1 / per_second`` seconds."""
    return max(max(0, number - burst + 1) / per_second + each for number, each in enumerate(durations))


def rate_and_concurrency_limited(durations: Sequence[float], per_second: float, capacity: int) -> float:
    """Return the makespan where both limits hold."""
    ends: list[float] = []
    last, at = 0.0, 0.0
    for each in durations:
        if len(ends) >= capacity:
            at = max(at, heapq.heappop(ends))
        heapq.heappush(ends, at + each)
        last, at = max(last, at + each), at + 1 / per_second
    return last


def windowed(durations: Sequence[float], count: int, seconds: float) -> float:
    """Return the makespan where `count` jobs are accepted at the start of each window. The first one starts at 0."""
    return max(number // count * seconds + each for number, each in enumerate(durations))


def concurrency_limited(durations: Sequence[float], capacity: int) -> float:
    """Return the makespan where `capacity` jobs run concurrently and the next one starts when one ends."""
    ends: list[float] = []
    for each in durations:
        start = heapq.heappop(ends) if len(ends) >= capacity else 0.0
        heapq.heappush(ends, start + each)
    return max(ends)


LOWER_BOUNDS: dict[str, Callable[[Sequence[float]], float]] = {
    "4 per second": lambda durations: rate_limited(durations, 4.0),
    "30 per 10 s": lambda durations: windowed(durations, 30, 10.0),
    "12 concurrent": lambda durations: concurrency_limited(durations, 12),
}
