"""`fit_bucket`: the rate and the burst of a token bucket, from what it accepted and refused. `RateEstimator` uses it.

Theory of operation. A token bucket can be seen as a meter: each accepted request raises it by one, and it falls at the
rate limit, to no less than zero. A request is refused when the meter stands at the burst. With too low a rate, the
meter stands higher at each refusal than at the one before; with too high a rate, lower. So the rates that are possible
are those at which it stands equally high at all refusals. Where each refusal came equally long after the bucket had
been full, many are possible; a few more requests at another pace then tell which one it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    History: TypeAlias = Sequence[tuple[float, bool]]

# Two readings of the meter count as equal if they differ by at most so many requests, since tokens are whole. Chosen.
_TOLERANCE = 1.0

# Lower readings fit any high rate, at which the meter falls to zero between any two requests.
_LEAST_BURST = 2.0

# The highest rate that is tried relative to the lowest. Chosen: during a ramp, half of the rate was used, or less.
_RANGE = 4.0

# Rates that are tried between the least and the highest one, and again around the best of these: they are then known to
# a third of a percent. More cost time: these take 4 ms after 400 requests. Chosen.
_STEPS = 30

# The part of a fitted rate that is used, because clocks and networks are uneven. 0.97: 1.5 % of the rate unused.
_MARGIN = 0.985


class Bucket(NamedTuple):
    """Token buckets that explain all refusals: the range of their rates per second, and the burst of a middle one."""

    lowest: float
    highest: float
    burst: float

    def bracket(self, narrow: float) -> tuple[float, float]:
        """Return the rate that is safe and the one to search up to; infinity if their ratio is less than `narrow`."""
        if self.highest <= narrow * self.lowest:
            return math.sqrt(self.lowest * self.highest) * _MARGIN, math.inf
        return self.lowest * _MARGIN, self.highest


def fit_bucket(history: History, accepted_per_second: float, burst: float = 0.0) -> Bucket | None:
    """Return the token buckets that explain all refusals, if these are two or more; None if none does.

    `history` holds the sending time of each accepted request in order, and of the first refused one of each pause, and
    whether it was accepted. It begins when the bucket was full, or with a refusal if the `burst` is known already. What
    was accepted per second since a pause, the pause included, is the lowest rate possible.
    """
    if sum(not is_accepted for _, is_accepted in history) < 2 or not (history[0][1] or burst):
        return None
    ratio = _RANGE ** (1 / _STEPS)
    tried = _spreads(history, burst, (accepted_per_second * ratio**step for step in range(_STEPS + 1)))
    best = min(tried, key=lambda rate: tried[rate])
    tried |= _spreads(history, burst, (best * ratio ** (2 * step / _STEPS - 1) for step in range(_STEPS + 1)))
    if not (fitting := sorted(rate for rate, spread in tried.items() if spread <= _TOLERANCE)):
        return None
    levels = _levels(history, burst, math.sqrt(fitting[0] * fitting[-1]))
    return Bucket(fitting[0], fitting[-1], sum(levels) / len(levels))


def saved_up(history: History, rate: float) -> float:
    """Return how much a bucket with this rate must save up at least to explain all refusals."""
    return max(_levels(history, 0.0, rate), default=0.0)


def _spreads(history: History, burst: float, rates: Iterable[float]) -> dict[float, float]:
    """Return by how much the readings of the meter at the refusals differ, for each rate."""
    readings = {rate: _levels(history, burst, rate) for rate in rates}
    return {rate: max(each) - min(each) if min(each) >= _LEAST_BURST else math.inf for rate, each in readings.items()}


def _levels(history: History, burst: float, rate: float) -> list[float]:
    """Return how high the meter stands at each refusal."""
    levels: list[float] = []
    level, before = (burst, history[0][0]) if history and not history[0][1] else (0.0, -math.inf)
    for sent_at, is_accepted in history:
        level = max(0.0, level - rate * (sent_at - before)) + is_accepted
        before = sent_at
        if not is_accepted:
            levels.append(level)
    return levels
