"""`judge`: whether submits are refused by chance, whatever this client does. `AdaptiveRateLimiter` uses it.

Theory of operation. A 429 need not show a limit of the account: a service that is overloaded refuses some requests of
everybody. Each limit has a meter that submits raise, and that it keeps below a threshold: the jobs in flight, or the
level of a leaky bucket. A threshold is contradicted by each submit that was refused below it, or accepted above it.
Chance has no threshold: each submit is refused with the same probability, at a low pace and at a high one. There may
be both: chance below a threshold, and none above it. The description of all outcomes that is the shortest, in nats
(units of natural logarithm), is preferred (minimum description length, Rissanen 1978):

- by a limit, each outcome that contradicts it costs `_CONTRADICTION`;
- by chance, n submits of which r are refused cost n times the entropy of r/n;
- by both, the submits below the threshold cost as much as by chance, those that were accepted above it as much as by a
  limit, and the threshold costs `_THRESHOLD`.

Refusals in a row during a pause are not compared: a limit explains them all.

What a server may do, and what happens:

- It refuses one submit in ten to one in three at random: after a few refusals no limit is learned from them any more,
  and what they had seemed to show is dropped. With a Retry-After, each is still waited for.
- It refuses more than `_MOST_REFUSED`, or one in twenty and fewer: that counts as a limit, or is found out late.
- It refuses at random and has a limit: both are found, but it takes more refusals than without chance.
- It lets others use the same limit, or frees slots late: that is a limit, and cannot be told from a lower one.
- It refuses everything for a while: see `RateEstimator`, which uses the rate again that had held before.
- It allows few POSTs at the same time: that passes for a rate, since a faster pace has more of them outstanding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# What one outcome costs that contradicts a limit, in nats: of 500 outcomes one is odd without a reason, for example
# because the end of a job was noticed late. Chosen.
_CONTRADICTION = math.log(500)

# By how much chance must be the better description before it is believed, in nats; and by how much a limit, after that.
# Chosen: the accounts of tests/ratelimit never reach the first one.
_MARGIN, _LIMIT_MARGIN = 1.0, 6.0

# The largest share of submits that chance may refuse. Who is refused more often should slow down whatever the cause is.
# Half: .2 is found later. Without it, 12 at once whose slots become free up to half a minute late is refused twice a
# clip. Probes count here.
_MOST_REFUSED = 0.4

# What a threshold beside chance costs, in nats: about ten refusals in a row above it. Half: in 1,000 submits, of which
# one in five is refused by chance, one streak is taken for a limit. Double: a true limit is refused twice as often.
_THRESHOLD = 20.0

# Refusals before chance is considered. Two of them fit too many limits, and too few.
_MIN_REFUSALS = 3

# Rates of the leaky bucket that are tried in each round, each relative to the one before, and the lowest relative to
# what was accepted per second. Each round looks around the best one, so that it is known to 1 % in the end: an error of
# 3 % hides the limit of 4/s with 10 saved up. More cost time: these take 6 ms for 150 submits.
_RATES = 9
_ROUNDS = 4
_RATIO = 1.7
_LOWEST = 1 / 4

# By how much the level of the bucket may be misread, because requests do not arrive as evenly as they leave. Chosen.
_TOLERANCE = 1.1


class Observation(NamedTuple):
    """One submit: when it left, how many other jobs it met on the server, at least and at most, and its outcome.

    One that does not count was refused during a pause, or to find out whether a known limit has risen.
    """

    sent_at: float
    least: int
    most: int
    is_refused: bool
    counts: bool = True


class Verdict(NamedTuple):
    """Whether refusals come by chance, and whether the one asked about does. Else it may show a limit."""

    is_chance: bool = False
    is_it_chance: bool = False


class _Limit(NamedTuple):
    """A limit on what a meter shows: what it costs in nats to describe all outcomes by it."""

    cost: float
    threshold: float
    accepted_above: int
    overlap: float  # of the readings accepted and refused, relative to the highest one
    meter: list[float]


def judge(observations: Sequence[Observation], index: int, *, believed: bool = False, jitter: float = 0.0) -> Verdict:
    """Return whether submits are refused by chance, and the one with this index. `believed`: they were before.

    `jitter` is by how many seconds two requests may arrive closer together than they left.
    """
    counted = [each.is_refused for each in observations if each.counts]
    if sum(counted) < _MIN_REFUSALS:
        return Verdict(believed, believed)
    if sum(each.is_refused for each in observations) > _MOST_REFUSED * len(observations):
        return Verdict()
    chance = _entropy(len(counted), sum(counted))
    margin = -_LIMIT_MARGIN if believed else _MARGIN
    in_flight = _fit(observations, [each.most if each.is_refused else each.least for each in observations])
    plain_rate = _fit(observations, _paces(observations, jitter))
    if min(in_flight.cost, plain_rate.cost) <= chance + margin - (_THRESHOLD if believed else 0):
        return Verdict()  # without the rest, which takes time
    rate = _fit_rate(observations, plain_rate, jitter)
    cost = min(in_flight.cost, rate.cost, _cost_of_two(observations, in_flight, jitter))
    both, explains_it = min(_cost_with_chance(observations, each, index) for each in (in_flight, rate))
    is_chance = cost > min(chance, both) + margin
    return Verdict(is_chance, is_chance and not (both < chance and explains_it))


def _fit_rate(observations: Sequence[Observation], plain: _Limit, jitter: float) -> _Limit:
    """Return the rate limit that describes all outcomes best."""
    seconds = observations[-1].sent_at - observations[0].sent_at
    lowest = sum(not each.is_refused for each in observations) / max(1e-3, seconds) * _LOWEST
    if not lowest:
        return plain
    rates, ratio, found = [lowest * _RATIO**step for step in range(_RATES)], _RATIO, plain
    for _ in range(_ROUNDS):
        tried = {rate: _fit(observations, _levels(observations, rate, jitter)) for rate in rates}
        best = min(tried, key=lambda rate: (tried[rate].cost, tried[rate].overlap))
        found = min(found, tried[best], key=lambda each: each.cost)
        rates = [best * ratio ** (2 * step / (_RATES - 1) - 1) for step in range(_RATES)]
        ratio **= 2 / (_RATES - 1)
    return found


def _cost_of_two(observations: Sequence[Observation], in_flight: _Limit, jitter: float) -> float:
    """Return what a concurrency limit costs together with a rate limit, which explains what the first one does not."""
    readings = zip(observations, in_flight.meter, strict=True)
    rest = [each for each, reading in readings if not (each.is_refused and reading >= in_flight.threshold)]
    return _fit_rate(rest, _fit(rest, _paces(rest, jitter)), jitter).cost + in_flight.accepted_above * _CONTRADICTION


def _paces(observations: Sequence[Observation], jitter: float) -> list[float]:
    """Return one over the time since the last accepted submit, for each submit: the meter of a rate without bursts."""
    found, before = [], -math.inf
    for each in observations:
        found.append(1 / max(each.sent_at - before - each.is_refused * jitter, 1e-9))
        before = before if each.is_refused else each.sent_at
    return found


def _levels(observations: Sequence[Observation], rate: float, jitter: float) -> list[float]:
    """Return the level of a leaky bucket at each submit. An empty one refuses nothing."""
    found, level, before = [], 0.0, -math.inf
    for sent_at, _, _, is_refused, _ in observations:
        drained = level - rate * (sent_at - before)
        level, before = max(0.0, drained), sent_at
        if is_refused:
            found.append(max(0.0, drained + rate * jitter) * _TOLERANCE or -1.0)
        else:
            found.append(level)
            level += 1
    return found


def _readings(observations: Sequence[Observation], meter: list[float]) -> list[tuple[float, bool]]:
    """Return what the meter showed at each submit that counts, and whether it was refused, in ascending order."""
    return sorted((reading, each.is_refused) for reading, each in zip(meter, observations, strict=True) if each.counts)


def _fit(observations: Sequence[Observation], meter: list[float]) -> _Limit:
    """Return the limit on a meter that the fewest outcomes contradict."""
    readings = _readings(observations, meter)
    contradicting = accepted_above = sum(not is_refused for _, is_refused in readings)
    least, threshold, above = contradicting, -math.inf, accepted_above
    for (reading, is_refused), (following, _) in zip(readings, [*readings[1:], (math.inf, False)], strict=True):
        contradicting += 1 if is_refused else -1
        accepted_above -= not is_refused
        if contradicting < least and following > reading:
            least, threshold, above = contradicting, following, accepted_above
    highest = max((reading for reading, is_refused in readings if not is_refused), default=0.0)
    lowest = min((reading for reading, is_refused in readings if is_refused), default=0.0)
    overlap = (highest - lowest) / max(highest, 1.0)
    return _Limit(least * _CONTRADICTION, threshold, above, overlap, meter)


def _cost_with_chance(observations: Sequence[Observation], limit: _Limit, index: int) -> tuple[float, bool]:
    """Return what the best limit costs beside chance, and whether it explains the refusal with this index."""
    readings = _readings(observations, limit.meter)
    below = refused = 0
    above, least, threshold = sum(not is_refused for _, is_refused in readings), math.inf, math.inf
    for (reading, is_refused), (following, _) in zip(readings, [*readings[1:], (math.inf, False)], strict=True):
        below, refused, above = below + 1, refused + is_refused, above - (not is_refused)
        cost = _entropy(below, refused) + above * _CONTRADICTION
        if cost < least and following > reading:
            least, threshold = cost, following
    return least + _THRESHOLD, limit.meter[index] >= threshold


def _entropy(number: int, refused: int) -> float:
    """Return what so many outcomes cost, of which so many are refusals by chance."""
    return -sum(each * math.log(each / number) for each in (refused, number - refused) if each)
