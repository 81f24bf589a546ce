"""The ledger against the bill as values: sums, periods, verdicts, and when an unknown job may be submitted again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from omni_async import JobRecord, JobStatus, Usage, UsageItem
from omni_async.cli.reconciliation import INCOMPLETE, SKEW, LedgerSums, ModelVerdict, compare

MODEL = "gemini-omni-flash-preview"
EXT, ALIAS = "gemini-omni-1.1-flash-ext", "Omni-Flash-Ext"
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()
DAY = "2026-11-29"
LATER = NOON + 7200


def job(key: str, status: JobStatus = JobStatus.COMPLETED, **facts: Any) -> JobRecord:
    """Return a job that was sent at noon and took 60 s."""
    was_accepted = status not in {JobStatus.UNKNOWN, JobStatus.SUBMITTING, JobStatus.WAITING}
    usual: dict[str, Any] = {"request": json.dumps({"prompt": key, "model": MODEL}), "created_at": NOON, "submits": 1}
    if status is not JobStatus.WAITING:
        usual["submitted_at"] = NOON
    if was_accepted:
        usual |= {"task_id": f"task_{key}", "accepted_at": NOON + 1}
    if status is JobStatus.COMPLETED:
        usual |= {"server_seconds": 60.0, "finished_at": NOON + 62, "cost": 0.5}
    if status is JobStatus.UNKNOWN:
        usual |= {"ambiguous_submits": 1}
    return JobRecord(key=key, status=status, **usual | facts)


def bill(tasks: int, cost: float, *, model: str = MODEL, day: str = DAY) -> Usage:
    """Return a bill of one model on one day."""
    item = UsageItem(day=day, model=model, cost=cost, credits=10 * cost, requests=tasks)
    return Usage(items=(item,), cost=cost, requests=tasks)


def judged(records: list[JobRecord], *bills: Usage, now: float = LATER) -> ModelVerdict:
    """Return the verdict for the only model of these records."""
    sums = LedgerSums(UTC)
    for record in records:
        sums.add(record)
    [verdict] = compare(sums, bills, now).verdicts
    return verdict


def test_what_agrees() -> None:
    """The same tasks at the same cost agree, under any name of the model, and whatever midnight does to single days."""
    assert judged([job("a"), job("b")], bill(2, 1.0)).agrees
    assert judged([job("a"), job("b")], bill(1, 0.5), bill(1, 0.5, day="2026-11-30")).agrees
    alias = job("a", request=json.dumps({"model": EXT}))
    assert judged([alias], bill(1, 0.5, model=ALIAS.upper())).agrees
    assert judged([job("a"), job("b", JobStatus.FAILED)], bill(1, 0.5)).agrees
    assert judged([job("a", cost=None)], bill(1, 0.7)).agrees  # only their number is known
    assert judged([job("a", cost=0.0)], Usage(items=(), cost=0, requests=0)).agrees


@pytest.mark.parametrize(
    ("billed", "more_tasks", "more_cost"),
    [
        (bill(3, 1.5), 1, 0.5),
        (bill(1, 0.5), -1, -0.5),
        (bill(2, 1.4), 0, 0.4),
        (Usage(items=(), cost=0, requests=0), -2, -1),
    ],
)
def test_what_does_not_agree(billed: Usage, more_tasks: int, more_cost: float) -> None:
    """A task too many, one too few, and another price are differences."""
    verdict = judged([job("a"), job("b")], billed)
    assert not verdict.agrees
    assert verdict.more_tasks == more_tasks
    assert verdict.more_cost == pytest.approx(more_cost)


def test_a_job_that_was_sent_again_is_named_where_too_much_was_billed() -> None:
    """The jobs that may have been paid twice are known, with how many payments they explain."""
    verdict = judged([job("a", ambiguous_submits=2), job("b")], bill(3, 1.5))
    assert (verdict.resent, verdict.possibly_billed, verdict.more_tasks) == (("a",), 2, 1)


def test_an_unknown_job_that_was_not_billed_is_safe() -> None:
    """Where the sums agree after the task must have ended, unknown jobs are safe; before that it says when to ask."""
    records = [job("a"), job("u", JobStatus.UNKNOWN)]
    settled_at = NOON + 2 * 60 + INCOMPLETE
    early, late = (judged(records, bill(1, 0.5), now=now) for now in (settled_at - 1, settled_at))
    assert (early.safe, early.undecided, early.ask_again_at) == ((), ("u",), settled_at)
    assert (late.safe, late.undecided, late.ask_again_at) == (("u",), (), None)


def test_without_a_known_duration_the_longest_possible_one_counts() -> None:
    """If no task of the ledger has ended, an unknown one may take as long as any is followed."""
    records = [job("a", server_seconds=None), job("u", JobStatus.UNKNOWN)]
    assert judged(records, bill(1, 0.5), now=NOON + 1800).ask_again_at == NOON + 1800 + INCOMPLETE
    assert judged(records, bill(1, 0.5), now=NOON + 1800 + INCOMPLETE).safe == ("u",)


def test_the_bill_of_another_key_makes_nothing_safe() -> None:
    """Where the bill has no task of the ledger, it may be that of another key, and shows nothing of unknown jobs."""
    verdict = judged([job("u", JobStatus.UNKNOWN)], Usage(items=(), cost=0, requests=0))
    assert (verdict.agrees, verdict.safe, verdict.undecided, verdict.is_key_confirmed) == (True, (), ("u",), False)


@pytest.mark.parametrize(
    ("more", "billed"),
    [
        ([], bill(2, 1.0)),  # one too many: it may be the unknown one
        ([job("r", JobStatus.RUNNING)], bill(1, 0.5)),  # may be billed in its place
        ([job("t", JobStatus.TIMED_OUT)], bill(1, 0.5)),
        ([job("c", JobStatus.CANCELLED)], bill(1, 0.5)),
        ([job("s", JobStatus.SUBMITTING)], bill(1, 0.5)),
        ([job("b")], bill(1, 0.5)),  # one of the ledger is not billed, perhaps another is in its place
        ([], bill(1, 0.7)),
    ],
)
def test_an_unknown_job_is_not_safe_by_chance(more: list[JobRecord], billed: Usage) -> None:
    """Whatever could hide that an unknown job was billed keeps it from being called safe; time does not help."""
    verdict = judged([job("a"), job("u", JobStatus.UNKNOWN), *more], billed)
    assert (verdict.safe, verdict.undecided, verdict.ask_again_at) == ((), ("u",), None)


def test_unsent_jobs_are_in_no_sum_and_no_period() -> None:
    """A job that was never sent, and a ledger of none, ask for nothing."""
    sums = LedgerSums(UTC)
    sums.add(job("w", JobStatus.WAITING))
    assert (sums.periods(LATER), compare(sums, [], LATER).verdicts) == ([], ())


def test_earlier_payments_of_a_job_count() -> None:
    """What a job cost before it was submitted again is in the sums."""
    again = job("a", previous_cost=0.5, previous_task_ids=("task_0",))
    assert judged([again], bill(2, 1.0)).agrees


def test_tasks_of_other_programs_are_taken_for_the_model_that_was_billed_more() -> None:
    """A task that was attached has no model in the ledger: it counts where the bill has one more."""
    sums = LedgerSums(UTC)
    for record in (job("a"), job("f", request="")):
        sums.add(record)
    other = bill(1, 0.5, model="another")
    assert compare(sums, [bill(1, 0.5), other], LATER).agrees
    alone = LedgerSums(UTC)
    alone.add(job("f", request=""))
    assert compare(alone, [other], LATER).agrees


def test_other_models_are_listed_apart() -> None:
    """What was billed for models that the ledger does not have is no difference, and is shown."""
    sums = LedgerSums(UTC)
    sums.add(job("a"))
    found = compare(sums, [bill(1, 0.5), bill(4, 9.0, model="another")], LATER)
    assert found.agrees
    assert {model: (each.tasks, each.cost) for model, each in found.foreign.items()} == {"another": (4, 9.0)}
    assert [row.model for row in found.rows] == [MODEL]


def test_only_the_time_with_jobs_is_asked_for() -> None:
    """Periods reach from before the first submit to when the last task must have ended, without long pauses."""
    sums = LedgerSums(UTC)
    week = 7 * 86_400.0
    moved: dict[str, Any] = {
        "created_at": NOON + week,
        "submitted_at": NOON + week,
        "accepted_at": NOON + week,
        "finished_at": NOON + week,
    }
    for record in (job("a"), job("b", created_at=NOON + 3600, submitted_at=NOON + 3600), job("c", **moved)):
        sums.add(record)
    first, second = sums.periods(NOON + 30 * 86_400)
    assert first[0] == NOON - SKEW
    assert first[1] == pytest.approx(NOON + 3600 + sums.settle() + SKEW, abs=100)
    assert second == (NOON + week - SKEW, NOON + week + sums.settle() + SKEW)
    assert sums.periods(NOON + week + 10)[-1][1] == NOON + week + 11  # not the future
