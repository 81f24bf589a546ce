"""How long jobs of one kind take, learnt from those that were seen to finish and from those that were seen not to.

A `Law` is a distribution of durations on a grid of times that grow by a constant factor, because durations spread by
factors and not by seconds. For each point of the grid it is counted how many jobs were seen unfinished up to there, and
how many ended there; the quotient is the chance to end there (Kaplan and Meier, J. Am. Stat. Assoc. 53, 1958). So a
thousand jobs that began together are not thought to be as quick as the first of them that is done. Both counts are
spread by a kernel (bandwidth by Silverman, Density Estimation, 1986, eq. 3.31), and one imagined job is added to them:
so nothing is thought impossible, and there is something to go by where nobody has been yet.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


_SHORTEST = 0.1  # seconds: where the grid begins
_STEP = 1.05  # the grid's factor
_POINTS = 261  # ... and its length: up to nine hours
_LOG_STEP = math.log(_STEP)
GRID = tuple(_SHORTEST * _STEP**point for point in range(_POINTS))

# The rule is for a hazard that hardly changes from one look to the next; before the first look it rises from nothing.
# Against dynamic programming on the true law, one look too early costs 3 to 8 %, and this leaves 1 to 3 %.
_FIRST = 1.5

_LEFT = 0.02  # of the jobs that were unfinished at the last look: that is hardly any

_REMEMBERED = 300  # durations: more make the law hardly better, and would let it follow a change late
_FRESH = 0.1  # of the looks being new, the law is fitted anew
_NARROWEST = 0.03  # of the kernel, in logarithms: durations are not known better than that
_OF_ONE = 0.1  # ... where there is but one
_PRIOR_SPREAD = 1.0  # of the imagined job, in logarithms: a factor of e either way
FORECAST_PRIOR_SPREAD = 0.4
_MOST_WEIGHT = 1e6  # of what is new beside what is old, before all is scaled down
_ENOUGH = 8  # have ended: from there on their law is trusted
_FEW = 0.5  # unfinished at a point: fewer, spread there by the kernel, tell nothing
_LEAST = 1e-12  # share that is left: below that the quotient has no digits


class DurationDistribution:
    """A distribution of durations: `share(t)` is how much of them is over by t, in seconds."""

    def __init__(self, share: Sequence[float]) -> None:
        self._share = share
        self._area = [0.0]  # the integral of share
        self._looks = [0.0]  # the integral of the square root of the hazard
        for point in range(_POINTS - 1):
            width = GRID[point + 1] - GRID[point]
            left, right = 1 - share[point], 1 - share[point + 1]
            self._area.append(self._area[-1] + width * (share[point] + share[point + 1]) / 2)
            self._looks.append(self._looks[-1] + math.sqrt(max(0.0, math.log(left / right)) * width))

    def cdf(self, age: float) -> float:
        """Give the share of durations up to `age`."""
        return _interpolate(self._share, min(age, GRID[-1]))

    @property
    def mean(self) -> float:
        """The mean duration in seconds: the integral of ``1 - cdf``, as far as the grid goes."""
        below = GRID[0] * self._share[0] / 2
        return GRID[-1] - self._area[-1] - below

    def quantile(self, share: float) -> float:
        """Give the age by which this share of durations is over."""
        return min(_inverse(self._share, share), GRID[-1])

    def next_check(self, age: float, check_cost: float) -> float:
        """Give the age at which to look next, after a look at `age` that found the job unfinished.

        Looks come with a density of ``sqrt(h(t) / (2 * check_cost))`` for the hazard h: the square-root rule of
        inspection policies (Keller, Management Science 21(3), 1974, after Barlow, Hunter and Proschan, 1963). The next
        one is due where the integral of that has grown by one, the first one where it is `_FIRST`; at the latest where
        hardly any job is left, which comes first where all take the same time.
        """
        step = math.sqrt(2 * check_cost)
        by_rule = _inverse(self._looks, max(_interpolate(self._looks, age) + step, _FIRST * step))
        nearly_all = _inverse(self._share, 1 - _LEFT * (1 - self.cdf(age)))
        return min(by_rule, max(nearly_all, age))

    def expected_delay(self, age: float, looked_at: float) -> float:
        """Give how many seconds a job is expected to have been finished unnoticed, last seen unfinished at `looked_at`.

        It is the integral of ``(F(t) - F(l)) / (1 - F(l))`` from l = `looked_at` to `age`.
        """
        before = self.cdf(looked_at)
        gone = _interpolate(self._area, age) - _interpolate(self._area, looked_at) - before * (age - looked_at)
        return min(
            max(0.0, gone / (1 - before)), age - looked_at
        )  # far out in the tail the numbers have no digits left


class DurationEstimator:
    """What has been seen of one kind of job, and the law that it follows. Ages are in seconds."""

    def __init__(self) -> None:
        self._ends = [0.0] * _POINTS
        self._unfinished = [0.0] * (_POINTS + 1)  # how many were seen so, as differences from each point to the next
        self._weight = 1.0  # of what is seen now; it grows, and so what is old fades
        self._ended = self._looks = 0.0  # how many there were, each with the weight of its time
        self._checks = 0
        self._estimate: float | None = None
        self._fits: dict[bool, tuple[DurationDistribution, int]] = {}

    def set_server_estimate(self, seconds: float) -> None:
        """Take in how long the server thinks that a job takes."""
        if seconds > 0 and seconds != self._estimate:
            self._estimate = seconds
            self._fits.clear()

    def observe_running(self, since: float, age: float) -> None:
        """Take in that a job, seen unfinished up to the age `since`, was seen so again at `age`."""
        self._observe_check(since, _point(age))

    def observe_end(self, since: float, age: float) -> None:
        """Take in that a job, seen unfinished up to the age `since`, has ended at `age`."""
        point = _point(age, rounded=True)
        self._observe_check(since, point)
        self._ends[point] += self._weight
        self._ended += self._weight
        self._weight *= 1 + 1 / _REMEMBERED
        if self._weight > _MOST_WEIGHT:
            self._scale_down()

    @property
    def ended(self) -> float:
        """How many jobs were seen to end, early ones counting less."""
        return self._ended / self._weight

    @property
    def has_enough_data(self) -> bool:
        """True once enough have ended to go by."""
        return self._ended >= _ENOUGH * self._weight

    def distribution(self, *, for_forecast: bool = False) -> DurationDistribution:
        """Return the distribution."""
        distribution, fitted_at = self._fits.get(for_forecast, (None, 0))
        if distribution is None or self._checks - fitted_at > _FRESH * self._looks / self._weight:
            distribution = self._fitted(for_forecast=for_forecast)
            self._fits[for_forecast] = distribution, self._checks
        return distribution

    def _observe_check(self, since: float, last: int) -> None:
        first = _point(since) + 1 if since > 0 else 0
        self._checks += 1
        self._looks += self._weight
        if first <= last:
            self._unfinished[first] += self._weight
            self._unfinished[last + 1] -= self._weight

    def _scale_down(self) -> None:
        self._ends = [each / self._weight for each in self._ends]
        self._unfinished = [each / self._weight for each in self._unfinished]
        self._ended, self._looks = self._ended / self._weight, self._looks / self._weight
        self._weight = 1.0

    def _fitted(self, *, for_forecast: bool) -> DurationDistribution:
        kernel = _kernel(self._bandwidth())
        ends = _spread([each / self._weight for each in self._ends], kernel)
        unfinished = list(accumulate(_spread([each / self._weight for each in self._unfinished[:-1]], kernel)))
        share, left = [], 1.0
        median = self._forecast_median(ends, unfinished) if for_forecast else self._middle(ends, unfinished)
        chances = _prior_hazards(median, FORECAST_PRIOR_SPREAD if for_forecast else _PRIOR_SPREAD)
        for end, number, chance in zip(ends, unfinished, chances, strict=True):
            left *= 1 - (end + chance) / (max(number, end) + 1)
            share.append(min(1 - left, 1 - 1e-9))
        return DurationDistribution(share)

    def _middle(self, ends: list[float], unfinished: list[float]) -> float | None:
        """Give the age at which half have ended; until that is seen, what the server thinks, or None."""
        left, furthest = 1.0, 0.0
        for time, end, number in zip(GRID, ends, unfinished, strict=True):
            if number > _FEW:
                left *= 1 - min(1.0, end / number)
                furthest = time
            if left <= 1 / 2:
                return time
        return max(self._estimate, furthest) if self._estimate else None

    def _forecast_median(self, ends: list[float], unfinished: list[float]) -> float:
        left, furthest = 1.0, GRID[0]
        for time, end, number in zip(GRID, ends, unfinished, strict=True):
            if number > _FEW:
                left *= 1 - min(1.0, end / number)
                furthest = time
            if left <= 1 / 2:
                return time
        z = NormalDist().inv_cdf(max(1 - left, 0.001))
        return furthest * math.exp(-FORECAST_PRIOR_SPREAD * z)

    def _bandwidth(self) -> float:
        """Give the width of the kernel, in logarithms."""
        number, total = self._ended / self._weight, self._ended
        if number < 2:
            return _OF_ONE if number else _NARROWEST
        mean = sum(point * weight for point, weight in enumerate(self._ends)) / total
        variance = sum((point - mean) ** 2 * weight for point, weight in enumerate(self._ends)) / total
        deviation = math.sqrt(variance * number / (number - 1))
        gone = list(accumulate(self._ends))
        quartiles = (bisect_left(gone, total * 0.75) - bisect_left(gone, total * 0.25)) / 1.34
        return max(_NARROWEST, 0.9 * _LOG_STEP * min(deviation, quartiles or deviation) / math.pow(number, 0.2))


def _prior_hazards(middle: float | None, spread: float) -> list[float]:
    """Give the chance of the imagined job to end at each point, given that it has come so far.

    Its law is a normal one of the logarithm. Where not even its middle is known: of a duration that exceeds t, and no
    more is known of it, the hazard is ``h(t) = 2 / t``.
    """
    if middle is None:
        return [2 * _LOG_STEP] * _POINTS
    left = [math.erfc(math.log(time / middle) / (spread * math.sqrt(2))) / 2 for time in GRID]
    chances = [1 - left[0], *(1 - after / before if before > _LEAST else 1.0 for before, after in pairwise(left))]
    return [min(chance, 1 / 2) for chance in chances]


def _spread(values: list[float], kernel: list[float]) -> list[float]:
    reach = len(kernel) // 2
    spread = [0.0] * _POINTS
    for point, value in enumerate(values):
        if value:
            for at, weight in enumerate(kernel, point - reach):
                spread[min(max(at, 0), _POINTS - 1)] += value * weight
    return spread


def _kernel(width: float) -> list[float]:
    reach = max(1, math.ceil(3 * width / _LOG_STEP))
    heights = [math.exp(-((offset * _LOG_STEP / width) ** 2) / 2) for offset in range(-reach, reach + 1)]
    total = sum(heights)
    return [height / total for height in heights]


def _point(age: float, *, rounded: bool = False) -> int:
    if age <= _SHORTEST:
        return 0
    place = math.log(age / _SHORTEST) / _LOG_STEP
    return min(round(place) if rounded else int(place), _POINTS - 1)


def _interpolate(values: Sequence[float], age: float) -> float:
    """Give what lies between the points of the grid on a straight line."""
    if age <= _SHORTEST:
        return values[0] * max(0.0, age) / _SHORTEST
    point = min(int(math.log(age / _SHORTEST) / _LOG_STEP), _POINTS - 2)
    rest = (age - GRID[point]) / (GRID[point + 1] - GRID[point])
    return values[point] + rest * (values[point + 1] - values[point])


def _inverse(values: Sequence[float], wanted: float) -> float:
    """Give the age at which values that never fall reach `wanted`; one beyond the grid where they do not."""
    point = bisect_right(values, wanted) - 1
    if point >= _POINTS - 1:
        return GRID[-1] * 1.5
    if point < 0:
        return GRID[0]
    rest = (wanted - values[point]) / (values[point + 1] - values[point])
    return GRID[point] + rest * (GRID[point + 1] - GRID[point])
