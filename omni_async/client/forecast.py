"""When all jobs will be done and what they will cost, computed from limits, durations and the work that is left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..polling.durations import DurationDistribution

# Of the waiting jobs, hardly any but the last ones can be the last to end. At 5 submits a second and jobs of 40 s, 64
# put the end 5 s too early, 32 10 s, and 128 2 s; at 0.5 a second none of them matters. A forecast
# takes 2 ms, and 1 ms more for every 64.
_LAST_JOBS = 64
_HALVINGS = 24  # of the interval that holds the end: from a day to 5 ms
_MIN_PROBABILITY = 1e-12  # keeps the logarithm finite
# Share of all jobs that take longer than a running one. Below it, its duration no longer says anything about its end.
_MIN_SHARE = 1e-6
_MAX_SECONDS = 86_400.0  # after the last submit: the latest end that a forecast names


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What to expect, from what was learned so far.

    `seconds_left` is None while nothing is known about limits or durations, or if jobs wait because submissions
    stopped. `per_minute` is how many jobs are submitted per minute. `cost` is what all jobs will have cost in the end,
    in USD; None before the server has reported a price.
    """

    seconds_left: float | None = None
    per_minute: float | None = None
    cost: float | None = None

    @property
    def is_learning(self) -> bool:
        """Whether nothing can be said about the time yet."""
        return self.seconds_left is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The work that is left, and what is known of its speed. Rates are per second, times in seconds.

    `ages` are those of the jobs in flight, or of an even sample of them. `detection_delay` is how long a finished job
    goes unnoticed, `download_seconds` how long a clip takes, and `download_slots` how many are transferred
    concurrently.
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
        """Submits per second once the free slots are taken; None if unknown."""
        known = [self.rate, self.throughput_now]
        if self.max_in_flight is not None and self.durations is not None:
            known.append(self.max_in_flight / (self.durations.mean + self.detection_delay))
        return min((each for each in known if each), default=None)


def seconds_left(load: Workload) -> float | None:
    """Return the seconds until all jobs are done, None while too little is known."""
    downloaded = _downloaded_in(load)
    if not load.waiting and not load.in_flight:
        return downloaded
    if load.durations is None or (load.waiting and not load.throughput):
        return None
    return max(
        _ended_in(load, load.durations) + load.detection_delay + (load.download_seconds or 0.0), downloaded or 0.0
    )


def _downloaded_in(load: Workload) -> float | None:
    """Return for how many seconds the download slots have work, if nothing else delays it."""
    clips = load.waiting + load.in_flight + load.downloading
    if load.download_seconds is None:
        return None if clips else 0.0
    return load.download_seconds * max(clips / load.download_slots, 1.0 if clips else 0.0)


def _ended_in(load: Workload, distribution: DurationDistribution) -> float:
    """Return the seconds after which the last job has ended on the server with a probability of one half."""
    starts = _last_starts(load)
    last = max(starts, default=0.0)
    unfinished = [(age, 1 - distribution.cdf(age)) for age in load.ages]
    unfinished = [(age, left) for age, left in unfinished if left > _MIN_SHARE]
    weight = load.in_flight / len(load.ages) if load.ages else 0.0

    def is_over(seconds: float) -> bool:
        log_probability = sum(math.log(max(_MIN_PROBABILITY, distribution.cdf(seconds - start))) for start in starts)
        for age, left in unfinished:
            log_probability += weight * math.log(
                max(_MIN_PROBABILITY, 1 - (1 - distribution.cdf(age + seconds)) / left)
            )
        return log_probability >= math.log(0.5)

    low, high = last, last + max(1.0, distribution.mean)
    while not is_over(high) and high < last + _MAX_SECONDS:
        low, high = high, last + 2 * (high - last)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_over(middle) else (middle, high)
    return high


def _last_starts(load: Workload) -> list[float]:
    """Return the seconds until each of the last waiting jobs is submitted."""
    throughput = load.throughput
    if not load.waiting or throughput is None:
        return []
    free = 0 if load.max_in_flight is None else min(load.waiting, max(0, load.max_in_flight - load.in_flight))
    fill_rate = min((each for each in (load.rate, load.throughput_now) if each), default=math.inf)  # of free slots
    until = free / fill_rate + (load.waiting - free) / throughput
    number = min(load.waiting, _LAST_JOBS)
    return [until - each / (throughput if each < load.waiting - free else fill_rate) for each in range(number)]
