"""When all jobs will be done, and for how much: computed from limits, durations and the work that is left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..polling.durations import DurationDistribution

_LAST = 64  # jobs: of those that are still to leave, only the last ones can be the last to end
_HALVINGS = 24  # of the interval in which the end lies
_LEAST = 1e-12  # chance
_OVERDUE = 1e-6  # share of jobs
_LONGEST = 86_400.0  # seconds after the last start, beyond which no end is looked for


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
class Workload:
    """What there is to do, and all that is known of how fast it goes. Rates are per second, times in seconds.

    `ages` are those of the jobs in flight, or of a fair sample of them. `late` is how long a job that has finished goes
    unnoticed, `fetch` how long a clip takes from its link to the disk, `places` how many are fetched at once.
    """

    waiting: int
    in_flight: int = 0
    ages: Sequence[float] = ()
    downloading: int = 0
    rate: float | None = None
    max_in_flight: int | None = None
    throughput_now: float | None = None
    durations: DurationDistribution | None = None
    detection_delay: float = 0.0
    download_seconds: float | None = None
    download_slots: int = 8

    @property
    def throughput(self) -> float | None:
        """How many jobs leave in a second, once those that find a free place have left; None where it is not known."""
        known = [self.rate, self.throughput_now]
        if self.max_in_flight is not None and self.durations is not None:
            known.append(self.max_in_flight / (self.durations.mean + self.detection_delay))
        return min((each for each in known if each), default=None)


def seconds_left(load: Workload) -> float | None:
    """Give the seconds until all are done, None while too little is known."""
    fetched = _fetched_in(load)
    if not load.waiting and not load.in_flight:
        return fetched
    if load.durations is None or (load.waiting and not load.throughput):
        return None
    return max(_ended_in(load, load.durations) + load.detection_delay + (load.download_seconds or 0.0), fetched or 0.0)


def _fetched_in(load: Workload) -> float | None:
    """Give for how long the places for transfers have work, if nothing else holds it up."""
    clips = load.waiting + load.in_flight + load.downloading
    if load.download_seconds is None:
        return None if clips else 0.0
    return load.download_seconds * max(clips / load.download_slots, 1.0 if clips else 0.0)


def _ended_in(load: Workload, law: DurationDistribution) -> float:
    """Give the seconds by which, at even odds, the last job has ended on the server."""
    starts = _last_starts(load)
    last = max(starts, default=0.0)
    unfinished = [(age, 1 - law.cdf(age)) for age in load.ages]
    unfinished = [(age, share) for age, share in unfinished if share > _OVERDUE]
    weight = load.in_flight / len(load.ages) if load.ages else 0.0

    def is_over(seconds: float) -> bool:
        chance = sum(math.log(max(_LEAST, law.cdf(seconds - start))) for start in starts)
        for age, share in unfinished:
            chance += weight * math.log(max(_LEAST, 1 - (1 - law.cdf(age + seconds)) / share))
        return chance >= math.log(0.5)

    low, high = last, last + max(1.0, law.mean)
    while not is_over(high) and high < last + _LONGEST:
        low, high = high, last + 2 * (high - last)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_over(middle) else (middle, high)
    return high


def _last_starts(load: Workload) -> list[float]:
    """Give the seconds until the last of those that wait leave."""
    throughput = load.throughput
    if not load.waiting or throughput is None:
        return []
    free = 0 if load.max_in_flight is None else min(load.waiting, max(0, load.max_in_flight - load.in_flight))
    pace = min(
        (each for each in (load.rate, load.throughput_now) if each), default=math.inf
    )  # in which free places are taken
    until = free / pace + (load.waiting - free) / throughput
    number = min(load.waiting, _LAST)
    return [until - each / (throughput if each < load.waiting - free else pace) for each in range(number)]
