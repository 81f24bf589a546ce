"""The best schedules of checks for a known distribution of durations: with a fixed interval, and without restriction.

Used by `checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Points of the time grid of the dynamic program. Its time grows with the square: half is four times as fast and places
# each check up to twice as far from its best time. Chosen, not measured.
_POINTS = 900


@dataclass(frozen=True)
class Schedule:
    """The cost of a schedule: mean checks per job, and mean seconds from the end of a job until a check finds it."""

    name: str
    checks: float
    delay: float

    @property
    def product(self) -> float:
        """Both in one figure. For fixed intervals it is nearly the same whatever the interval."""
        return self.checks * self.delay


def fixed_interval(durations: Sequence[float], interval: float) -> Schedule:
    """Return the cost of checking every `interval` seconds."""
    ends = np.asarray(durations)
    checks = np.ceil(ends / interval)
    return Schedule(f"every {interval:g} s", float(checks.mean()), float((checks * interval - ends).mean()))


def best_interval(durations: Sequence[float]) -> Schedule:
    """Return the schedule with a fixed interval that has the smallest product."""
    longest = max(durations)
    return min(
        (fixed_interval(durations, each) for each in np.geomspace(1, longest, 200)), key=lambda each: each.product
    )


def interval_with_checks(durations: Sequence[float], checks: float) -> Schedule:
    """Return the schedule with a fixed interval that needs this number of checks."""
    low, high = 0.01, max(durations)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fixed_interval(durations, middle).checks > checks else (low, middle)
    return fixed_interval(durations, high)


def optimal(durations: Sequence[float], check_cost: float) -> Schedule:
    """Return the schedule that minimizes `check_cost` x checks + delay, by dynamic programming on a grid.

    ``V(i) = min over j > i of check_cost (1 - F(t_i)) + integral over (t_i, t_j] of (t_j - s) dF(s) + V(j)``
    """
    ends = np.sort(np.asarray(durations))
    grid = np.concatenate([[0.0], np.linspace(ends[0] * 0.5, ends[-1], _POINTS)])
    share = np.searchsorted(ends, grid, side="right") / len(ends)
    moment = np.concatenate([[0.0], np.cumsum(ends)])[np.searchsorted(ends, grid, side="right")] / len(ends)
    value, following = _solve(grid, share, moment, check_cost)
    times, point = [], 0
    while point < len(grid) - 1:
        point = int(following[point])
        times.append(grid[point])
    check_index = np.searchsorted(np.asarray(times), ends, side="left")
    delay = float((np.asarray(times)[check_index] - ends).mean())
    assert abs(check_cost * float((check_index + 1).mean()) + delay - value[0]) < 1e-6 * max(1.0, value[0])
    return Schedule(f"optimal, check_cost {check_cost:g}", float((check_index + 1).mean()), delay)


def optimal_with_checks(durations: Sequence[float], checks: float) -> Schedule:
    """Return the optimal schedule that needs at most this number of checks."""
    low, high = 1e-3, 1e4
    for _ in range(25):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if optimal(durations, middle).checks > checks else (low, middle)
    return optimal(durations, high)


def _solve(
    grid: NDArray[np.float64], share: NDArray[np.float64], moment: NDArray[np.float64], check_cost: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    last = len(grid) - 1
    value, following = np.zeros(last + 1), np.zeros(last + 1, dtype=np.int64)
    for here in range(last - 1, -1, -1):
        later = slice(here + 1, last + 1)
        delay = grid[later] * (share[later] - share[here]) - (moment[later] - moment[here])
        costs = check_cost * (1 - share[here]) + delay + value[later]
        best = int(np.argmin(costs))
        value[here], following[here] = costs[best], here + 1 + best
    return value, following
