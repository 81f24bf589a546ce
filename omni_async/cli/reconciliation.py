"""The ledger against the bill: what agrees, what was billed and is not in the ledger, and what may be submitted again.

Pure: decisions over records and the server's answer. The bill has sums for each model and day and no task ids. It shows
how many tasks were billed too many, and whether any was, but not which ones.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

from omni_async import DEFAULT_MODEL, MODELS, JobStatus, Polling

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from omni_async import JobRecord, Usage

# Seconds by which the clocks of this machine and of the server may differ. Half would miss machines whose clock is not
# set, double would include more of what other programs do before and after a run.
SKEW = 300.0

# Seconds after which a task that has ended is certainly in the bill: the service says that the last minute may be
# incomplete, and that an answer may be a minute old.
INCOMPLETE = 120.0

# How much longer than the longest known task an unclear one may take before it counts as ended: it is billed when it
# ends. At one, the next task that takes a little longer would be called not billed; at four, the answer comes late.
_DURATION_FACTOR = 2.0

# Seconds without any job after which the period asked for is split: what other programs did meanwhile is left out.
_GAP = 86_400.0

# USD by which two sums may differ and still agree: the server rounds each item to six decimals.
_ROUNDING = 0.005

_BILLED = {JobStatus.COMPLETED, JobStatus.DOWNLOADING, JobStatus.DOWNLOAD_FAILED}
_OPEN = {JobStatus.RUNNING, JobStatus.TIMED_OUT, JobStatus.SUBMITTING}

_NAMES = {name.lower(): rules.id for rules in MODELS.values() for name in rules.names}


def main_name(model: str) -> str:
    """Return the main id of a model for any of its names; another model's name as it is."""
    return _NAMES.get(model.lower(), model)


@dataclass(slots=True)
class Sums:
    """Tasks and what they cost, in USD."""

    tasks: int = 0
    cost: float = 0.0

    def add(self, tasks: int, cost: float) -> None:
        """Add tasks and their cost."""
        self.tasks += tasks
        self.cost += cost


@dataclass(slots=True)
class ModelLedger:
    """What the ledgers record of one model.

    `unpriced` are billed tasks whose cost the server has not reported; `open` jobs are sent, and may be billed or not
    yet. `resent` are the keys of jobs that may have been paid twice, `unknown` those whose submit may have been
    accepted; both with how many tasks beyond those in `days` that could be. `settled_at` is when the last of the
    unknown ones is billed, if the server ever accepted it.
    """

    days: defaultdict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))
    unpriced: int = 0
    open: int = 0
    resent: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    settled_at: float = 0.0


@dataclass(slots=True)
class LedgerSums:
    """What the ledgers record, for each model, and the periods in which their tasks may have been billed."""

    zone: tzinfo
    models: defaultdict[str, ModelLedger] = field(default_factory=lambda: defaultdict(ModelLedger))
    _spans: list[tuple[float, float]] = field(default_factory=list)
    _longest: float = 0.0

    def add(self, record: JobRecord) -> None:
        """Add one job."""
        self._longest = max(self._longest, record.server_seconds or 0.0)
        sent_at = record.submitted_at or record.accepted_at
        if sent_at is None and not record.previous_task_ids and not record.ambiguous_submits:
            return
        model = self.models[main_name(record.model)]
        began = min(time for time in (record.submitted_at, record.accepted_at, record.created_at) if time)
        ended = max(time or 0.0 for time in (sent_at, record.accepted_at, record.finished_at, record.created_at))
        self._spans.append((began, ended))
        if record.previous_cost:
            model.days[self._day(record.created_at)].add(max(1, len(record.previous_task_ids)), record.previous_cost)
        if record.status in _BILLED and record.cost != 0:
            model.days[self._day(_billed_at(record) or ended)].add(1, record.cost or 0.0)
            model.unpriced += record.cost is None
        elif record.status in _OPEN or (record.status is JobStatus.CANCELLED and record.task_id is not None):
            model.open += 1
        if not record.ambiguous_submits:
            return
        if record.status is JobStatus.UNKNOWN:
            model.unknown[record.key] = record.ambiguous_submits
            model.settled_at = max(model.settled_at, ended)
        else:
            model.resent[record.key] = record.ambiguous_submits

    def settle(self) -> float:
        """Return how many seconds after its last submit a task has certainly ended and been billed."""
        return _DURATION_FACTOR * (self._longest or Polling().timeout / _DURATION_FACTOR) + INCOMPLETE

    def periods(self, now: float) -> list[tuple[float, float]]:
        """Return from when to when tasks of the ledgers may have been billed, in Unix seconds, in order."""
        joined: list[tuple[float, float]] = []
        for began, ended in sorted(self._spans):
            first, last = began - SKEW, min(ended + self.settle() + SKEW, now + 1)
            if joined and first <= joined[-1][1] + _GAP:
                joined[-1] = joined[-1][0], max(joined[-1][1], last)
            else:
                joined.append((first, max(last, first + 1)))
        return joined

    def _day(self, time: float) -> str:
        return datetime.fromtimestamp(time, self.zone).date().isoformat()


def _billed_at(record: JobRecord) -> float | None:
    """Return when the server billed a job: at the end of its task."""
    if record.accepted_at is not None and record.server_seconds is not None:
        return record.accepted_at + record.server_seconds
    return record.finished_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model on one day: what the ledger has, and what was billed."""

    day: str
    model: str
    ledger: Sums
    billed: Sums


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVerdict:
    """What the bill says about one model in the whole period.

    `more_tasks` and `more_cost` are what was billed beyond the ledger; below zero, what the ledger has and the bill has
    not. `safe` are the unknown jobs that were not billed, `undecided` those for which that is not known, and
    `ask_again_at` (Unix seconds) is when it can be, if only time is missing. `is_key_confirmed` is whether the bill has
    tasks of the ledgers: the bill of another key would show nothing, too.
    """

    model: str
    more_tasks: int
    more_cost: float
    is_cost_known: bool
    open: int
    resent: tuple[str, ...]
    possibly_billed: int
    safe: tuple[str, ...]
    undecided: tuple[str, ...]
    ask_again_at: float | None
    is_key_confirmed: bool

    @property
    def agrees(self) -> bool:
        """Whether the ledger and the bill have the same tasks at the same cost."""
        return not self.more_tasks and (not self.is_cost_known or abs(self.more_cost) <= _ROUNDING)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The ledgers against the bill: each day of each model, and a verdict for each model of the ledgers."""

    rows: tuple[Row, ...]
    verdicts: tuple[ModelVerdict, ...]
    foreign: dict[str, Sums]  # billed for models that the ledgers do not have

    @property
    def agrees(self) -> bool:
        """Whether everything agrees, for the models of the ledgers."""
        return all(verdict.agrees for verdict in self.verdicts)


def compare(ledger: LedgerSums, usage: Iterable[Usage], now: float) -> Reconciliation:
    """Compare what ledgers record with the bill of their periods, as it was at `now` (Unix seconds)."""
    billed: defaultdict[tuple[str, str], Sums] = defaultdict(Sums)
    for item in (item for part in usage for item in part.items):
        billed[main_name(item.model), item.day].add(item.requests, item.cost)
    _assign_foreign_tasks(ledger, billed)
    names = {model for model, sums in ledger.models.items() if model}
    recorded = {(model, day): sums for model in names for day, sums in ledger.models[model].days.items()}
    places = sorted(recorded.keys() | {place for place in billed if place[0] in names}, key=lambda place: place[::-1])
    rows = tuple(
        Row(day=day, model=model, ledger=recorded.get((model, day), Sums()), billed=billed.get((model, day), Sums()))
        for model, day in places
    )
    verdicts = tuple(_judge(model, ledger, rows, now) for model in sorted(names))
    foreign: dict[str, Sums] = {}
    for (model, _), sums in sorted(billed.items()):
        if model not in names and sums.tasks:
            foreign.setdefault(model, Sums()).add(sums.tasks, sums.cost)
    return Reconciliation(rows, verdicts, foreign)


def _judge(model: str, ledger: LedgerSums, rows: Sequence[Row], now: float) -> ModelVerdict:
    known = ledger.models[model]
    own = [row for row in rows if row.model == model]
    more_tasks = sum(row.billed.tasks - row.ledger.tasks for row in own)
    more_cost = round(sum(row.billed.cost - row.ledger.cost for row in own), 6)
    is_same = not more_tasks and (bool(known.unpriced) or abs(more_cost) <= _ROUNDING)
    settled_at = known.settled_at + ledger.settle()
    # A job that is still running may be billed in place of an unknown one, so that the sums agree by chance.
    is_confirmed = any(row.ledger.tasks and row.billed.tasks for row in rows)
    is_safe = is_same and is_confirmed and not known.open and now >= settled_at
    return ModelVerdict(
        model=model,
        more_tasks=more_tasks,
        more_cost=more_cost,
        is_cost_known=not known.unpriced,
        open=known.open,
        resent=tuple(known.resent),
        possibly_billed=sum(known.resent.values()) + sum(known.unknown.values()),
        safe=tuple(known.unknown) if is_safe else (),
        undecided=() if is_safe else tuple(known.unknown),
        ask_again_at=settled_at if known.unknown and is_same and not known.open and now < settled_at else None,
        is_key_confirmed=is_confirmed,
    )


def _assign_foreign_tasks(ledger: LedgerSums, billed: dict[tuple[str, str], Sums]) -> None:
    """Give the tasks that were submitted elsewhere, whose model is not recorded, to the model that was billed more."""
    unnamed = ledger.models.pop("", None)
    if unnamed is None:
        return
    target = next(iter(sorted(ledger.models)), DEFAULT_MODEL)
    for day, sums in sorted(unnamed.days.items()):
        surplus = {
            model: found.tasks - (ledger.models[model].days[day].tasks if model in ledger.models else 0)
            for (model, billed_day), found in billed.items()
            if billed_day == day
        }
        target = max(surplus, key=surplus.__getitem__, default=target)
        ledger.models[target].days[day].add(sums.tasks, sums.cost)
    ledger.models[target].unpriced += unnamed.unpriced
    ledger.models[target].open += unnamed.open
