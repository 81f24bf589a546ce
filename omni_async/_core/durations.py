"""How long jobs of one kind take, learnt from those that were seen to finish.

A `Law` is a distribution of durations on a grid of times that grow by a constant factor, because durations spread by
factors and not by seconds. It is fitted to the latest durations by a kernel density estimate of their logarithms
(Rosenblatt 1956; bandwidth by Silverman, Density Estimation, 1986, eq. 3.31), together with one imagined observation
spread widely around their middle: so nothing is thought impossible, and the law has a tail.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORTEST = 0.1  # seconds: where the grid begins
_STEP = 1.05  # the grid's factor
_POINTS = 261  # ... and its length: up to nine hours
_LOG_STEP = math.log(_STEP)
_LOG_SHORTEST = math.log(_SHORTEST)
_GRID = tuple(_SHORTEST * _STEP**point for point in range(_POINTS))

# The rule is for a hazard that hardly changes from one look to the next; before the first look it rises from nothing.
# Against dynamic programming on the true law, one look too early costs 3 to 8 %, and this leaves 1 to 3 %.
_FIRST = 1.5

_REMEMBERED = 300  # durations: more make the law hardly better, and would let it follow a change late
_FRESH = 0.1  # of the durations being new, the law is fitted anew
_NARROWEST = 0.03  # of the kernel, in logarithms: durations are not known better than that
_PRIOR_SPREAD = 1.0  # of the imagined observation, in logarithms: a factor of e either way


class Law:
    """A distribution of durations: `share(t)` is how much of them is over by t, in seconds."""

    def __init__(self, share: Sequence[float]) -> None:
        self._share = share
        self._area = [0.0]  # the integral of share
        self._looks = [0.0]  # the integral of the square root of the hazard
        for point in range(_POINTS - 1):
            width = _GRID[point + 1] - _GRID[point]
            left, right = 1 - share[point], 1 - share[point + 1]
            self._area.append(self._area[-1] + width * (share[point] + share[point + 1]) / 2)
            self._looks.append(self._looks[-1] + math.sqrt(max(0.0, math.log(left / right)) * width))

    def share(self, age: float) -> float:
        """Give the share of durations up to `age`."""
        return _at(self._share, age)

    def quantile(self, share: float) -> float:
        """Give the age by which this share of durations is over."""
        return _GRID[min(bisect_right(self._share, share), _POINTS - 1)]

    def next_look(self, age: float, check_cost: float) -> float:
        """Give the age at which to look next, after a look at `age` that found the job unfinished.

        Looks come with a density of ``sqrt(h(t) / (2 * check_cost))`` for the hazard h: the square-root rule of
        inspection policies (Keller, Management Science 21(3), 1974, after Barlow, Hunter and Proschan, 1963). The next
        one is due where the integral of that has grown by one, the first one where it is `_FIRST`.
        """
        step = math.sqrt(2 * check_cost)
        wanted = max(_at(self._looks, age) + step, _FIRST * step)
        point = bisect_right(self._looks, wanted) - 1
        if point >= _POINTS - 1:
            return max(age, _GRID[-1]) * 1.5
        rest = (wanted - self._looks[point]) / (self._looks[point + 1] - self._looks[point])
        return _GRID[point] + rest * (_GRID[point + 1] - _GRID[point])

    def wasted(self, age: float, looked_at: float) -> float:
        """Give how many seconds a job is expected to have been finished unnoticed, last seen unfinished at `looked_at`.

        It is the integral of ``(F(t) - F(l)) / (1 - F(l))`` from l = `looked_at` to `age`.
        """
        before = self.share(looked_at)
        gone = _at(self._area, age) - _at(self._area, looked_at) - before * (age - looked_at)
        return min(
            max(0.0, gone / (1 - before)), age - looked_at
        )  # far out in the tail the numbers have no digits left


class Durations:
    """The latest durations of one kind of job, and the law that they follow."""

    def __init__(self) -> None:
        self._logs: deque[float] = deque(maxlen=_REMEMBERED)
        self._fresh = 0
        self._law: Law | None = None

    def logs(self) -> Sequence[float]:
        """Give their natural logarithms, oldest first."""
        return self._logs

    def add(self, seconds: float) -> None:
        """Take in how long a job has taken."""
        self._logs.append(math.log(max(seconds, _SHORTEST)))
        self._fresh += 1

    def law(self) -> Law | None:
        """Give the law as far as it is known; None before the first duration."""
        if self._fresh and (self._law is None or self._fresh >= _FRESH * len(self._logs)):
            self._law = _fitted(list(self._logs))
            self._fresh = 0
        return self._law


def _fitted(logs: list[float]) -> Law:
    logs.sort()
    middle = logs[len(logs) // 2]
    density = _bell(middle, _PRIOR_SPREAD)
    kernel = _kernel(_bandwidth(logs))
    reach = len(kernel) // 2
    # Many durations share a point of the grid: each point is spread once, with the weight of all of them.
    for point, number in Counter(round((each - _LOG_SHORTEST) / _LOG_STEP) for each in logs).items():
        for offset, weight in enumerate(kernel, point - reach):
            density[min(max(offset, 0), _POINTS - 1)] += number * weight
    return Law(_cumulated(density, len(logs) + 1))


def _bandwidth(logs: list[float]) -> float:
    number = len(logs)
    if number == 1:
        return _PRIOR_SPREAD / 2
    mean = sum(logs) / number
    deviation = math.sqrt(sum((each - mean) ** 2 for each in logs) / (number - 1))
    quartiles = (logs[(3 * number) // 4] - logs[number // 4]) / 1.34
    return max(_NARROWEST, 0.9 * min(deviation, quartiles or deviation) / math.pow(number, 0.2))


def _bell(middle: float, spread: float) -> list[float]:
    """Give a normal density of logarithms on the grid, its sum being one."""
    heights = [math.exp(-(((math.log(time) - middle) / spread) ** 2) / 2) for time in _GRID]
    total = sum(heights)
    return [height / total for height in heights]


def _kernel(width: float) -> list[float]:
    reach = max(1, math.ceil(3 * width / _LOG_STEP))
    heights = [math.exp(-((offset * _LOG_STEP / width) ** 2) / 2) for offset in range(-reach, reach + 1)]
    total = sum(heights)
    return [height / total for height in heights]


def _cumulated(density: list[float], total: float) -> list[float]:
    share, gone = [], 0.0
    for weight in density:
        gone += weight
        share.append(min(gone / total, 1 - 1e-9))
    return share


def _at(values: Sequence[float], age: float) -> float:
    """Give what lies between the points of the grid on a straight line."""
    if age <= _SHORTEST:
        return values[0] * max(0.0, age) / _SHORTEST
    point = min(int(math.log(age / _SHORTEST) / _LOG_STEP), _POINTS - 2)
    rest = (age - _GRID[point]) / (_GRID[point + 1] - _GRID[point])
    return values[point] + rest * (values[point + 1] - values[point])
