"""When all will be done, and what it will have cost: told from limits, the law of durations, and who is where.

Theory of operation. Jobs that wait leave at a throughput: what the limits allow (the rate; the capacity over the mean
duration, which is Little's law), but never more than has been seen lately, since that holds all that goes wrong. Each
job then lasts as the law of durations says, those in flight given that they have lasted so long already. All are done
when the last is: the forecast is the time by which the chance of that, the product over all jobs, is one half.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_REMEMBERED = 300  # durations of each model
_SHORTEST = 0.1  # seconds
_LAST = 64  # jobs: of those that are still to leave, only the last ones can be the last to end
_SAMPLES = 60  # of the flow, spaced so that they cover about the last two thirds of the time
_SPACING = 0.5  # seconds between two of them at least
_ENOUGH = 4  # jobs accepted within the samples before they say anything
_HALVINGS = 24  # of the interval in which the end lies
_LEAST = 1e-12  # chance
_LONGEST = 86_400.0  # seconds after the last start, beyond which no end is looked for
_USUAL = 0.4  # spread of the logarithms of durations that is expected ...
_WEIGHT = 3  # ... as if so many durations had shown it
_ROUNDS = 6  # of the fit: each takes those in flight for what the one before made of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is to be expected, from what has been found out so far.

    `seconds_left` is None as long as nothing is known about limits or durations (or about the jobs that wait because
    the line has stopped), `per_minute` is at how many jobs a minute the line moves, `cost` what all jobs will have cost
    in the end, in USD, None before the first bill.
    """

    seconds_left: float | None = None
    per_minute: float | None = None
    cost: float | None = None

    @property
    def is_learning(self) -> bool:
        """True while no time can be told yet."""
        return self.seconds_left is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What there is to do, and all that is known of how fast it goes. Rates are per second, times in seconds.

    `ages` are those of the jobs in flight, or of a fair sample of them. `late` is how long a job that has finished goes
    unnoticed, `fetch` how long a clip takes from its link to the disk, `places` how many are fetched at once.
    """

    waiting: int
    in_flight: int = 0
    ages: Sequence[float] = ()
    downloading: int = 0
    rate: float | None = None
    at_once: int | None = None
    flow: float | None = None
    spread: Spread | None = None
    late: float = 0.0
    fetch: float | None = None
    places: int = 8

    @property
    def throughput(self) -> float | None:
        """How many jobs leave in a second, once those that find a free place have left; None where it is not known."""
        known = [self.rate, self.flow]
        if self.at_once is not None and self.spread is not None:
            known.append(self.at_once / (self.spread.mean + self.late))
        return min((each for each in known if each), default=None)


@dataclass(frozen=True, slots=True)
class Spread:
    """How long jobs take, as a lognormal law: `middle` and `width` are of the natural logarithm."""

    middle: float
    width: float

    @property
    def mean(self) -> float:
        """The mean duration."""
        return math.exp(self.middle + self.width**2 / 2)

    def share(self, seconds: float) -> float:
        """Give the share of jobs that have ended by then."""
        return _below((math.log(seconds) - self.middle) / self.width) if seconds > 0 else 0.0


def fitted(logs: Sequence[float], ages: Sequence[float], in_flight: int) -> Spread | None:
    """Give the law that fits durations, and jobs in flight that have lasted so long and go on; None without durations.

    The first to end are the shortest: without those in flight (right-censored observations, taken in by expectation and
    maximization: Dempster, Laird and Rubin 1977) everything would seem to end soon.
    """
    if not logs:
        return None
    number, total, squares = len(logs), sum(logs), sum(each * each for each in logs)
    weight = in_flight / len(ages) if ages else 0.0
    middle, width = total / number, _USUAL
    longest = max(logs) + 1  # of one that was accepted days ago, nobody may have looked yet whether it has ended
    bounds = [min(math.log(age), longest) for age in ages if age > 0]
    for _ in range(_ROUNDS):
        means = [_beyond(bound, middle, width) for bound in bounds]
        first = total + weight * sum(mean for mean, _ in means)
        second = squares + weight * sum(square for _, square in means)
        count = number + weight * len(means)
        middle = first / count
        width = math.sqrt((max(0.0, second - count * middle**2) + _WEIGHT * _USUAL**2) / (count + _WEIGHT - 1))
    return Spread(middle, width)


def _below(z: float) -> float:
    """Give the share of a standard normal variable up to z."""
    return (1 + math.erf(z / math.sqrt(2))) / 2


def _beyond(bound: float, middle: float, width: float) -> tuple[float, float]:
    """Give the mean of a normal variable, and of its square, given that it exceeds a bound."""
    z = (bound - middle) / width
    rest = 1 - _below(z)
    density = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    hazard = density / rest if rest > _LEAST else z + 1 / z  # far out, the quotient has no digits left
    mean = middle + width * hazard
    return mean, middle**2 + width**2 + width * (bound + middle) * hazard


class Experience:
    """How long jobs have taken lately, by model, and how late that was noticed."""

    def __init__(self) -> None:
        self._logs: dict[str, deque[float]] = {}
        self._noticed = 0
        self._late = 0.0

    def add(self, model: str, seconds: float, *, late: float | None = None) -> None:
        """Take in how long a job has taken, and, if it was followed here, how late that was noticed."""
        self._logs.setdefault(model, deque(maxlen=_REMEMBERED)).append(math.log(max(seconds, _SHORTEST)))
        if late is not None:
            self._noticed += 1
            self._late += max(0.0, late)

    @property
    def late(self) -> float:
        """How long a job that has finished has gone unnoticed, in the mean."""
        return self._late / self._noticed if self._noticed else 0.0

    def logs(self) -> Sequence[float]:
        """Give the natural logarithms of the durations of the model of which most is known."""
        return max(self._logs.values(), key=len, default=())


class Flow:
    """How fast jobs were accepted lately, as long as some were waiting for it."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._since = 0.0
        self._count = 0

    def accepted(self, now: float) -> None:
        """Take note that one was accepted."""
        self._count += 1
        if not self._samples:
            self._since = now
        if not self._samples or now - self._samples[-1][0] >= max(_SPACING, (now - self._since) / _SAMPLES):
            self._samples.append((now, self._count))

    def rested(self) -> None:
        """Take note that nobody waits: the time from here on tells nothing."""
        self._samples.clear()

    def per_second(self, now: float) -> float | None:
        """Give the rate, once enough were accepted to tell one."""
        if not self._samples:
            return None
        since, before = self._samples[0]
        number, seconds = self._count - before, now - since
        return number / seconds if number >= _ENOUGH and seconds >= _SPACING else None


def seconds_left(load: Load) -> float | None:
    """Give the seconds until all are done, None while too little is known."""
    fetched = _fetched_in(load)
    if not load.waiting and not load.in_flight:
        return fetched
    if load.spread is None or (load.waiting and not load.throughput):
        return None
    return max(_ended_in(load, load.spread) + load.late + (load.fetch or 0.0), fetched or 0.0)


def _fetched_in(load: Load) -> float | None:
    """Give for how long the places for transfers have work, if nothing else holds it up."""
    clips = load.waiting + load.in_flight + load.downloading
    if load.fetch is None:
        return None if clips else 0.0
    return load.fetch * max(clips / load.places, 1.0 if clips else 0.0)


def _ended_in(load: Load, law: Spread) -> float:
    """Give the seconds by which, at even odds, the last job has ended on the server."""
    starts = _last_starts(load)
    last = max(starts, default=0.0)
    gone = [law.share(age) for age in load.ages]
    weight = load.in_flight / len(load.ages) if load.ages else 0.0

    def is_over(seconds: float) -> bool:
        chance = sum(math.log(max(_LEAST, law.share(seconds - start))) for start in starts)
        for age, share in zip(load.ages, gone, strict=True):
            going = max(_LEAST, 1 - share)
            chance += weight * math.log(max(_LEAST, 1 - (1 - law.share(age + seconds)) / going))
        return chance >= math.log(0.5)

    low, high = last, last + max(1.0, law.mean)
    while not is_over(high) and high < last + _LONGEST:
        low, high = high, last + 2 * (high - last)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_over(middle) else (middle, high)
    return high


def _last_starts(load: Load) -> list[float]:
    """Give the seconds until the last of those that wait leave."""
    throughput = load.throughput
    if not load.waiting or throughput is None:
        return []
    free = 0 if load.at_once is None else min(load.waiting, max(0, load.at_once - load.in_flight))
    pace = min((each for each in (load.rate, load.flow) if each), default=math.inf)  # in which free places are taken
    until = free / pace + (load.waiting - free) / throughput
    number = min(load.waiting, _LAST)
    return [until - each / (throughput if each < load.waiting - free else pace) for each in range(number)]
