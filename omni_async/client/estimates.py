"""`estimate`: what requests will cost and how long they will take, before anything is sent.

Costs come from what the server has charged in the same folder, and from the price table where nothing is known there.
The time comes from the limits and the durations that the ledger has recorded.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..jobs.lifecycle import JobStatus
from ..models.prices import EstimateRange, PriceClass
from ..models.request import VideoRequest
from ..polling.durations import DurationEstimator
from .forecast import Workload, seconds_left

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..jobs.records import JobRecord
    from ..ledger import LedgerReader
    from ..polling.durations import DurationDistribution
    from ..settings import Limits

# How many clips the price table counts for, beside those that were paid for. A clip may be 3 or 10 s long, so the price
# of a single one says little about the next hundred. With twice as many, the estimate after ten clips is still drawn to
# the middle of the table; with none, one short clip would predict half the cost.
_TABLE_WEIGHT = 2
# Half the width of a range, in standard deviations: 19 of 20 totals are within two. With few clips the deviation itself
# is uncertain: the quotient adds what the t distribution does (1.96 * (1 + 1.6 / 5) is its 2.57 for five).
_DEVIATIONS = 2.0
_UNCERTAINTY = 1.6
# Relative difference between what was charged and the table that still counts as the same price: rounding.
_ROUNDING = 0.01
# Submits per second, or jobs in flight, that a limit can be: one an hour, and far more than anyone has.
_LOWEST_LIMIT, _HIGHEST_LIMIT = 1 / 3600, 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What requests will cost, and how long they will take. Money is in USD, times are in seconds.

    - ``jobs``: how many requests there are, and ``by_model`` of each model.
    - ``cost``: of the requests whose price is known; None if no price is known. ``unpriced`` is the number of the
      others: their cost is unknown, not zero. It is assumed that every job succeeds; failed ones are not charged.
    - ``priced_by_ledger``: how many of the prices come from what the server charged in this folder.
    - ``video_seconds``: the total length of all clips; None if no length is known.
    - ``seconds_left``: until everything is done; None as long as no limit and no duration has been recorded.
    """

    jobs: int = 0
    by_model: Mapping[str, int] = field(default_factory=dict)
    cost: EstimateRange | None = None
    unpriced: int = 0
    priced_by_ledger: int = 0
    video_seconds: EstimateRange | None = None
    seconds_left: float | None = None


def estimate(
    requests: Iterable[VideoRequest | str],
    ledger: LedgerReader | None = None,
    *,
    limits: Limits | None = None,
    server: str | None = None,
    in_flight: int = 0,
) -> Estimate:
    """Return what requests will cost and how long they will take. A string is a prompt. Nothing is sent.

    `ledger` is the ledger of the folder, if it has one. `limits` are the ceilings that the client will get, and
    `in_flight` is how many jobs are running already. `server` is the address of the API: limits learned from another
    server are ignored. By default all are used. The call blocks while it reads the ledger. Raise `LedgerError` if the
    ledger cannot be read, `TypeError` for a single prompt, and `ValueError` for a prompt that cannot be used.
    """
    if isinstance(requests, (str, VideoRequest)):
        raise TypeError(f"estimate takes an iterable of prompts and VideoRequests, not one {type(requests).__name__}")
    classes, by_model = Counter[PriceClass](), Counter[str]()
    for item in requests:
        request = VideoRequest(prompt=item) if isinstance(item, str) else item
        classes[PriceClass.of(request)] += 1
        by_model[request.model] += 1
    history = _History.read(ledger) if ledger is not None else _History()
    cost, seconds, unpriced, priced_by_ledger = None, None, 0, 0
    for price_class, jobs in classes.items():
        length = price_class.seconds()
        if length is not None:
            seconds = length * jobs if seconds is None else seconds + length * jobs
        paid = history.costs.get(price_class, PaidCosts())
        priced = estimate_cost(jobs, paid, price_class.cost())
        if priced is None:
            unpriced += jobs
            continue
        cost = priced if cost is None else cost + priced
        priced_by_ledger += jobs if paid.number else 0
    return Estimate(
        jobs=classes.total(),
        by_model=dict(by_model),
        cost=cost,
        unpriced=unpriced,
        priced_by_ledger=priced_by_ledger,
        video_seconds=seconds,
        seconds_left=_time(classes.total(), in_flight, history, limits, server),
    )


@dataclass(slots=True)
class PaidCosts:
    """What clips of one class have cost: their number, and the sums of the costs and of their squares."""

    number: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, cost: float) -> None:
        """Count a clip."""
        self.number += 1
        self.total += cost
        self.squares += cost * cost


def estimate_cost(jobs: int, paid: PaidCosts, table: EstimateRange | None) -> EstimateRange | None:
    """Return what jobs of one class will cost together; None if nothing is known.

    `paid` is what such jobs have cost so far, `table` what one costs by the price table. What was paid contradicts the
    table if its mean is not within the range; then only what was paid counts. Else the table is a prior: that of a
    uniform distribution over its range, which counts for as many clips as `_TABLE_WEIGHT` says.
    """
    mean = paid.total / paid.number if paid.number else 0.0
    if table is None or (paid.number and not table.low * (1 - _ROUNDING) <= mean <= table.high * (1 + _ROUNDING)):
        return _from_paid(jobs, paid) if paid.number else None
    if not paid.number:
        return table * jobs
    weight = _TABLE_WEIGHT + paid.number
    expected = (_TABLE_WEIGHT * table.expected + paid.total) / weight
    spread = (table.high - table.low) ** 2 / 12
    variance = (_TABLE_WEIGHT * spread + max(0.0, paid.squares - paid.number * mean**2)) / (weight - 1)
    margin = _DEVIATIONS * (1 + _UNCERTAINTY / weight) * math.sqrt(variance * (jobs + jobs**2 / weight))
    total = jobs * expected
    return EstimateRange(max(jobs * table.low, total - margin), total, min(jobs * table.high, total + margin))


def _from_paid(jobs: int, paid: PaidCosts) -> EstimateRange:
    mean = paid.total / paid.number
    variance = max(0.0, paid.squares / paid.number - mean**2)
    margin = _DEVIATIONS * math.sqrt(variance * (jobs + jobs**2 / paid.number))
    return EstimateRange(max(0.0, jobs * mean - margin), jobs * mean, jobs * mean + margin)


@dataclass(slots=True)
class _History:
    """What a ledger has recorded: costs by price class, durations by model, and the learned limits."""

    costs: defaultdict[PriceClass, PaidCosts] = field(default_factory=lambda: defaultdict(PaidCosts))
    durations: defaultdict[str, DurationEstimator] = field(default_factory=lambda: defaultdict(DurationEstimator))
    limits: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def read(cls, reader: LedgerReader) -> _History:
        """Read a whole ledger."""
        history = cls(limits=reader.learned_limits())
        for record in reader.jobs(JobStatus.COMPLETED):
            history._add(record)
        return history

    def _add(self, record: JobRecord) -> None:
        if record.server_seconds is not None:
            self.durations[record.model].observe_end(0.0, record.server_seconds)
        if record.cost is not None and record.request:
            self.costs[PriceClass.of(VideoRequest.from_json(record.request))].add(record.cost)

    def distribution(self) -> DurationDistribution | None:
        """Return the durations of the model with the most finished jobs; None if there are none."""
        best = max(self.durations.values(), key=lambda each: each.ended, default=None)
        return best.distribution(for_forecast=True) if best is not None and best.ended else None


def _time(waiting: int, in_flight: int, history: _History, limits: Limits | None, server: str | None) -> float | None:
    learned = history.limits if server is None or history.limits.get("server") == server else {}
    rates = [
        limits.submits_per_minute / 60 if limits and limits.submits_per_minute else None,
        learned.get("per_second"),
    ]
    most = [limits.max_in_flight if limits else None, learned.get("max_in_flight")]
    return seconds_left(
        Workload(
            waiting=waiting,
            in_flight=in_flight,
            ages=[0.0] * min(in_flight, 1),
            rate=_lowest(rates),
            max_in_flight=None if (lowest := _lowest(most)) is None else int(lowest),
            durations=history.distribution(),
            download_seconds=None if waiting or in_flight else 0.0,
        )
    )


def _lowest(values: list[object]) -> float | None:
    """Return the lowest limit, None if there is none. A ledger of somebody else may hold any value."""
    numbers = [
        value for value in values if isinstance(value, (int, float)) and _LOWEST_LIMIT <= value <= _HIGHEST_LIMIT
    ]
    return min(map(float, numbers), default=None)
