"""The best schedules of checks for a known distribution of durations: of a fixed interval, and of any times at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_POINTS = 900


@dataclass(frozen=True)
class Schedule:
    """What a schedule costs: checks for each job, and seconds from its end until it is known."""

    name: str
    checks: float
    late: float

    @property
    def product(self) -> float:
        """The two in one figure: of a fixed interval, it is nearly the same for every interval."""
        return self.checks * self.late


def at_intervals(durations: Sequence[float], interval: float) -> Schedule:
    """Check every so many seconds."""
    seen = np.asarray(durations)
    checks = np.ceil(seen / interval)
    return Schedule(f"every {interval:g} s", float(checks.mean()), float((checks * interval - seen).mean()))


def best_interval(durations: Sequence[float]) -> Schedule:
    """Give the fixed interval of the least product."""
    longest = max(durations)
    return min((at_intervals(durations, each) for each in np.geomspace(1, longest, 200)), key=lambda each: each.product)


def interval_of(durations: Sequence[float], checks: float) -> Schedule:
    """Give the fixed interval that takes so many checks."""
    low, high = 0.01, max(durations)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_intervals(durations, middle).checks > checks else (low, middle)
    return at_intervals(durations, high)


def optimal(durations: Sequence[float], check_cost: float) -> Schedule:
    """Give the schedule of least `check_cost` x checks + seconds late, by dynamic programming on a grid.

    ``V(i) = min over j > i of check_cost (1 - F(t_i)) + integral over (t_i, t_j] of (t_j - s) dF(s) + V(j)``
    """
    seen = np.sort(np.asarray(durations))
    grid = np.concatenate([[0.0], np.linspace(seen[0] * 0.5, seen[-1], _POINTS)])
    share = np.searchsorted(seen, grid, side="right") / len(seen)
    moment = np.concatenate([[0.0], np.cumsum(seen)])[np.searchsorted(seen, grid, side="right")] / len(seen)
    value, following = _solved(grid, share, moment, check_cost)
    times, point = [], 0
    while point < len(grid) - 1:
        point = int(following[point])
        times.append(grid[point])
    which = np.searchsorted(np.asarray(times), seen, side="left")
    late = float((np.asarray(times)[which] - seen).mean())
    assert abs(check_cost * float((which + 1).mean()) + late - value[0]) < 1e-6 * max(1.0, value[0])
    return Schedule(f"optimal, check_cost {check_cost:g}", float((which + 1).mean()), late)


def optimal_of(durations: Sequence[float], checks: float) -> Schedule:
    """Give the optimal schedule that takes at most so many checks."""
    low, high = 1e-3, 1e4
    for _ in range(25):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if optimal(durations, middle).checks > checks else (low, middle)
    return optimal(durations, high)


def _solved(
    grid: NDArray[np.float64], share: NDArray[np.float64], moment: NDArray[np.float64], check_cost: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    last = len(grid) - 1
    value, following = np.zeros(last + 1), np.zeros(last + 1, dtype=np.int64)
    for here in range(last - 1, -1, -1):
        ahead = slice(here + 1, last + 1)
        late = grid[ahead] * (share[ahead] - share[here]) - (moment[ahead] - moment[here])
        costs = check_cost * (1 - share[here]) + late + value[ahead]
        best = int(np.argmin(costs))
        value[here], following[here] = costs[best], here + 1 + best
    return value, following
