"""How long jobs of one model take, learned from the jobs that ended and from those that were found still running.

The planner keeps a `DurationEstimator` for each model. A `DurationDistribution` is what one estimates: checks are
planned by it, and the forecast of the client asks it for the mean and for the end of the last job.

Theory of operation. A distribution is kept on a grid of ages that grow by a constant factor, because durations spread
by factors and not by seconds. For each point of the grid it is counted how many jobs were seen unfinished up to there,
and how many ended there; the quotient is the chance to end there (Kaplan and Meier, J. Am. Stat. Assoc. 53, 1958). A
running job is thus a censored observation: a thousand jobs that were submitted together do not count as being as quick
as the first of them to finish. Both counts are smoothed with a kernel (bandwidth by Silverman, Density Estimation,
1986, eq. 3.31), and one imagined job, the prior, is added to them. So no duration is impossible, and there is an
estimate at ages that no job has reached yet.

Figures in comments are costs per job, checks plus seconds of detection delay, from simulations like those in
tests/polling/test_planner.py: 600 jobs of 110 s (lognormal, sigma 0.35), 50 concurrently, at the default `Polling`
settings. They differ by about 2 % from run to run.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from functools import lru_cache
from itertools import accumulate, pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


# The grid begins at 0.1 s and reaches nine hours. A factor of 1.05 is finer than the narrowest kernel needs; half the
# step would double the time of a fit, which takes 0.4 ms.
_SHORTEST = 0.1
_STEP = 1.05
_POINTS = 261
_LOG_STEP = math.log(_STEP)
GRID = tuple(_SHORTEST * _STEP**point for point in range(_POINTS))  # ages in seconds

# The first check comes where 1.5 checks are due by the square-root rule. The rule assumes a hazard that hardly changes
# between two checks, but before the first check the hazard rises from zero. Against dynamic programming on the true
# distribution (benchmarks.checks), one check too early costs 3 to 8 %; with 1.5 it costs 1 to 3 %. 1.0 costs 12.0
# instead of 11.8 per job, and 3.0 costs 11.8, but 12 % more where the server's estimate is three times too long.
_CHECKS_DUE_AT_FIRST = 1.5

# A check is due at the latest when 2 % of the jobs that were unfinished at the last check are still unfinished. It only
# matters if all jobs take the same time and checks are expensive: at `check_cost=20`, jobs of 60 s are detected 7 s
# late, with 1 % 10 s, with 4 % 6 s, and without this rule 25 s late. At `check_cost=1` it makes no difference.
_REMAINING_SHARE = 0.02

# Durations that count: earlier ones fade. 75 cost 3 % more per job and 600 the same, but more would follow a change of
# the server later.
_MEMORY = 300

# The distribution is fitted again when this share of the checks is new. A fit takes 0.4 ms, so a fit per check would be
# the most expensive part of it. Half and double change the cost per job by less than the noise; with double, one seed
# of 20 with 50 jobs at once notices ends so late that it takes 1.42 times the least time, and not 1.16.
_NEW_SHARE = 0.1

# Bounds of the kernel's width, in logarithms. 3 %: durations are not known better, for the server rounds to seconds and
# the start is known to a request's latency. Where all jobs take 60 s, half costs 6.3 instead of 3.6 per job (the narrow
# peak is missed), and double costs 4.1. With only one duration known, 10 % stands for its unknown spread; half and
# double change less than the noise.
_MIN_BANDWIDTH = 0.03
_BANDWIDTH_OF_ONE = 0.1

# Spread of the prior for planning checks, in logarithms: a factor of e either way. It decides what happens before jobs
# have finished. Servers estimate badly, so it is wide: with an estimate three times too long, the first 20 jobs cost 18
# each, with half the spread 22, with double 15. Once 100 jobs have finished it makes no difference.
_PRIOR_SPREAD = 1.0

# The same for forecasts. The forecast asks when the last of many jobs ends, which with a wide prior lies in its tail:
# in the middle of 80 jobs, at 0.5 jobs a second, the time left was overestimated by 51 % with 1.0, 25 % with 0.8, 9 %
# with 0.6 and at most 3 % with 0.4, and underestimated by 4 % with 0.2 (tests/client/test_forecast_accuracy.py, several
# seeds, measured twice).
_FORECAST_PRIOR_SPREAD = 0.4

# The distribution counts as known when 8 jobs have ended. Until then checks keep the limits that the planner sets for
# the unknown. 4 cost 2 to 3 % more at the start of a run, 16 about the same.
_ENOUGH_ENDED = 8

_MAX_WEIGHT = 1e6  # of one observation, before all are scaled down: it only keeps the floats in range
_MIN_OBSERVED = 0.5  # jobs at a point of the grid; less is what the kernel smeared there, and no observation
_MAX_CDF = 1 - 1e-9  # nothing is certain: no share left would be zero, and divisions by it fail
_NEGLIGIBLE = 1e-12  # a share below which a quotient of two shares has no digits left


class DurationDistribution:
    """A distribution of durations in seconds.

    `cdf_on_grid` is its cumulative distribution function, at each of `GRID`.
    """

    def __init__(self, cdf_on_grid: Sequence[float]) -> None:
        self._cdf = cdf_on_grid
        self._quantiles: dict[float, float] = {}  # by share: few are asked for, and often
        self._cdf_integral = [0.0]
        self._checks_integral = [0.0]  # of the square root of the hazard
        for point in range(_POINTS - 1):
            width = GRID[point + 1] - GRID[point]
            left, right = 1 - cdf_on_grid[point], 1 - cdf_on_grid[point + 1]
            self._cdf_integral.append(
                self._cdf_integral[-1] + width * (cdf_on_grid[point] + cdf_on_grid[point + 1]) / 2
            )
            hazard_times_width = math.log(left / right) if right < left else 0.0
            self._checks_integral.append(self._checks_integral[-1] + math.sqrt(hazard_times_width * width))

    def cdf(self, age: float) -> float:
        """Return the share of jobs that take at most `age` seconds."""
        return _interpolate(self._cdf, min(age, GRID[-1]))

    @property
    def mean(self) -> float:
        """The mean duration in seconds: the integral of ``1 - cdf``, up to the end of the grid."""
        integral = self._cdf_integral[-1] + self._cdf[0] * GRID[0] / 2
        return GRID[-1] - integral

    def quantile(self, share: float) -> float:
        """Return the age in seconds by which this share of jobs has ended."""
        if share not in self._quantiles:
            self._quantiles[share] = min(_inverse(self._cdf, share), GRID[-1])
        return self._quantiles[share]

    def next_check(self, age: float, check_cost: float) -> float:
        """Return the age for the next check, after a check at `age` that found the job unfinished.

        `check_cost` is the delay, in seconds, that one check is worth. Checks come with a density of ``sqrt(h(t) / (2 *
        check_cost))`` for the hazard h: the square-root rule of inspection policies (Keller, Management Science 21(3),
        1974, after Barlow, Hunter and Proschan, 1963). It balances the cost of checks against the expected delay, half
        a gap. The next check is due where the integral of that density has grown by one.
        """
        step = math.sqrt(2 * check_cost)
        due = max(_interpolate(self._checks_integral, age) + step, _CHECKS_DUE_AT_FIRST * step)
        by_rule = _inverse(self._checks_integral, due)
        nearly_all_ended = _inverse(self._cdf, 1 - _REMAINING_SHARE * (1 - self.cdf(age)))
        return min(by_rule, max(nearly_all_ended, age))

    def expected_delay(self, age: float, last_check: float) -> float:
        """Return for how many seconds a job is expected to have been finished undetected.

        It is `age` seconds old, and was last found unfinished at the age `last_check`. With l for that, this is the
        integral of ``(F(t) - F(l)) / (1 - F(l))`` from l to `age`.
        """
        ended_before = self.cdf(last_check)
        integral = _interpolate(self._cdf_integral, age) - _interpolate(self._cdf_integral, last_check)
        delay = (integral - ended_before * (age - last_check)) / (1 - ended_before)
        return min(max(0.0, delay), age - last_check)  # far out in the tail the quotient has no digits left


class DurationEstimator:
    """The durations of one model's jobs: what was observed, and the distribution that follows. Ages are in seconds."""

    def __init__(self) -> None:
        self._ends = [0.0] * _POINTS
        self._unfinished = [0.0] * (_POINTS + 1)  # as differences from each point of the grid to the next
        self._weight = 1.0  # of an observation made now: it grows, so earlier ones fade
        self._weight_of_ends = self._weight_of_checks = 0.0
        self._checks = 0
        self._server_estimate: float | None = None
        self.fits: int = 0  # how often a distribution was fitted so far
        self._fits: dict[bool, tuple[DurationDistribution, int]] = {}  # with the number of checks when fitted

    def set_server_estimate(self, seconds: float) -> None:
        """Record how long the server estimates that a job takes. Zero and less mean that it does not say."""
        if seconds > 0 and seconds != self._server_estimate:
            self._server_estimate = seconds
            self._fits.clear()

    def observe_running(self, since: float, age: float) -> None:
        """Record that a job was found unfinished at `age`, after the same at the age `since`."""
        self._observe(since, _point(age))

    def observe_end(self, since: float, age: float) -> None:
        """Record that a job ended at `age`, after it was found unfinished at the age `since`."""
        point = _point(age, rounded=True)
        self._observe(since, point)
        self._ends[point] += self._weight
        self._weight_of_ends += self._weight
        self._weight *= 1 + 1 / _MEMORY
        if self._weight > _MAX_WEIGHT:
            self._scale_down()

    @property
    def ended(self) -> float:
        """The number of jobs that ended; earlier ones count less."""
        return self._weight_of_ends / self._weight

    @property
    def has_enough_data(self) -> bool:
        """Whether enough jobs have ended to rely on the distribution."""
        return self.ended >= _ENOUGH_ENDED

    def distribution(self, *, for_forecast: bool = False) -> DurationDistribution:
        """Return the distribution, as far as it is known.

        For planning checks, durations far from what is known stay likely, because a check too late costs more than a
        few too many. `for_forecast` returns the most plausible distribution instead, which ignores the server's
        estimate.
        """
        distribution, fitted_at = self._fits.get(for_forecast, (None, 0))
        if distribution is None or self._checks - fitted_at > _NEW_SHARE * self._weight_of_checks / self._weight:
            distribution = self._fit(for_forecast=for_forecast)
            self.fits += 1
            self._fits[for_forecast] = distribution, self._checks
        return distribution

    def _observe(self, since: float, last: int) -> None:
        first = _point(since) + 1 if since > 0 else 0
        self._checks += 1
        self._weight_of_checks += self._weight
        if first <= last:
            self._unfinished[first] += self._weight
            self._unfinished[last + 1] -= self._weight

    def _scale_down(self) -> None:
        self._ends = [each / self._weight for each in self._ends]
        self._unfinished = [each / self._weight for each in self._unfinished]
        self._weight_of_ends /= self._weight
        self._weight_of_checks /= self._weight
        self._weight = 1.0

    def _fit(self, *, for_forecast: bool) -> DurationDistribution:
        kernel = _kernel(self._bandwidth())
        ends = _smooth([each / self._weight for each in self._ends], kernel)
        unfinished = list(accumulate(_smooth([each / self._weight for each in self._unfinished[:-1]], kernel)))
        hazards = self._prior(ends, unfinished, for_forecast=for_forecast)
        cdf, remaining = [], 1.0
        for end, number, hazard in zip(ends, unfinished, hazards, strict=True):
            remaining *= 1 - (end + hazard) / ((number if number > end else end) + 1)
            cdf.append(1 - remaining if 1 - remaining < _MAX_CDF else _MAX_CDF)
        return DurationDistribution(cdf)

    def _prior(self, ends: list[float], unfinished: list[float], *, for_forecast: bool) -> tuple[float, ...]:
        """Return the chance of the imagined job to end at each point of the grid if it has not ended before.

        Its median is that of the observations. While less than half of the jobs have ended, it is the server's
        estimate, but for a forecast the median that fits the share that has ended.
        """
        age, ended = _observed_median(ends, unfinished)
        is_observed = ended >= 1 / 2
        if for_forecast:
            z = 0.0 if is_observed else NormalDist().inv_cdf(max(ended, 0.001))  # the bound keeps it finite
            return _prior_hazards(age * math.exp(-_FORECAST_PRIOR_SPREAD * z), _FORECAST_PRIOR_SPREAD)
        if is_observed:
            return _prior_hazards(age, _PRIOR_SPREAD)
        return _prior_hazards(max(self._server_estimate, age) if self._server_estimate else None, _PRIOR_SPREAD)

    def _bandwidth(self) -> float:
        """Return the width of the kernel, in logarithms: Silverman's rule of thumb on the observed ends."""
        number, total = self.ended, self._weight_of_ends
        if number < 2:
            return _BANDWIDTH_OF_ONE if number else _MIN_BANDWIDTH
        mean = sum(point * weight for point, weight in enumerate(self._ends)) / total
        variance = sum((point - mean) ** 2 * weight for point, weight in enumerate(self._ends)) / total
        deviation = math.sqrt(variance * number / (number - 1))
        ended = list(accumulate(self._ends))
        interquartile = (bisect_left(ended, total * 0.75) - bisect_left(ended, total * 0.25)) / 1.34
        spread = _LOG_STEP * min(deviation, interquartile or deviation)
        return max(_MIN_BANDWIDTH, 0.9 * spread / math.pow(number, 0.2))


def _observed_median(ends: list[float], unfinished: list[float]) -> tuple[float, float]:
    """Return the age by which half of the jobs have ended, or the oldest age observed; and the share ended by then."""
    remaining, oldest = 1.0, GRID[0]
    for age, end, number in zip(GRID, ends, unfinished, strict=True):
        if number > _MIN_OBSERVED:
            remaining *= 1 - min(1.0, end / number)
            oldest = age
        if remaining <= 1 / 2:
            return age, 1 - remaining
    return oldest, 1 - remaining


@lru_cache(maxsize=16)  # an observed median is a point of the grid, so most fits repeat one of a few
def _prior_hazards(median: float | None, spread: float) -> tuple[float, ...]:
    """Return the chance to end at each point of the grid, of a job that has not ended before.

    The logarithm of its duration is normally distributed. With no median, the hazard is ``h(t) = 2 / t``, that of a
    duration about which only one thing is known: it exceeds t.
    """
    if median is None:
        return (2 * _LOG_STEP,) * _POINTS
    remaining = [math.erfc(math.log(age / median) / (spread * math.sqrt(2))) / 2 for age in GRID]
    hazards = [
        1 - remaining[0],
        *(1 - after / before if before > _NEGLIGIBLE else 1.0 for before, after in pairwise(remaining)),
    ]
    return tuple(min(hazard, 1 / 2) for hazard in hazards)


def _smooth(values: list[float], kernel: list[float]) -> list[float]:
    reach = len(kernel) // 2
    smoothed = [0.0] * (_POINTS + 2 * reach)
    for point, value in enumerate(values):
        if value:
            for target, weight in enumerate(kernel, point):
                smoothed[target] += value * weight
    last = reach + _POINTS - 1  # what lies beyond an end of the grid belongs to its first or last point
    return [sum(smoothed[: reach + 1]), *smoothed[reach + 1 : last], sum(smoothed[last:])]


def _kernel(width: float) -> list[float]:
    """Return the weights of a Gaussian kernel on the grid, three widths to either side."""
    reach = max(1, math.ceil(3 * width / _LOG_STEP))
    heights = [math.exp(-((offset * _LOG_STEP / width) ** 2) / 2) for offset in range(-reach, reach + 1)]
    total = sum(heights)
    return [height / total for height in heights]


def _point(age: float, *, rounded: bool = False) -> int:
    """Return the last point of the grid up to an age; `rounded`: the nearest."""
    if age <= _SHORTEST:
        return 0
    place = math.log(age / _SHORTEST) / _LOG_STEP
    return min(round(place) if rounded else int(place), _POINTS - 1)


def _interpolate(values: Sequence[float], age: float) -> float:
    """Return the value at an age, between the points of the grid on a straight line."""
    if age <= _SHORTEST:
        return values[0] * max(0.0, age) / _SHORTEST
    point = min(int(math.log(age / _SHORTEST) / _LOG_STEP), _POINTS - 2)
    rest = (age - GRID[point]) / (GRID[point + 1] - GRID[point])
    return values[point] + rest * (values[point + 1] - values[point])


def _inverse(values: Sequence[float], wanted: float) -> float:
    """Return the age at which values that never fall reach `wanted`, one beyond the grid if they do not."""
    point = bisect_right(values, wanted) - 1
    if point >= _POINTS - 1:
        return GRID[-1] * 1.5
    if point < 0:
        return GRID[0]
    rest = (wanted - values[point]) / (values[point + 1] - values[point])
    return GRID[point] + rest * (GRID[point + 1] - GRID[point])
