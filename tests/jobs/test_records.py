"""Job records, events and statistics as values."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from omni_async.jobs.events import JobEvent
from omni_async.jobs.lifecycle import JobStatus
from omni_async.jobs.records import JobRecord
from omni_async.jobs.statistics import Statistics
from omni_async.models.request import VideoRequest

_APPLE, _PEAR = VideoRequest(prompt="an apple").to_json(), VideoRequest(prompt="a pear").to_json()


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        pytest.param({"request": _APPLE}, {"request": _APPLE}, True, id="the same request"),
        pytest.param({"request": _APPLE}, {"request": _PEAR}, False, id="another request"),
        pytest.param(
            {"request": _APPLE, "parent": "p"}, {"request": _APPLE, "parent": "p"}, True, id="the same, of one parent"
        ),
        pytest.param({"request": _APPLE, "parent": "p"}, {"request": _APPLE}, False, id="one extends, one does not"),
        pytest.param({"request": _APPLE, "parent": "p"}, {"request": _APPLE, "parent": "q"}, False, id="two parents"),
        pytest.param({"task_id": "t"}, {"task_id": "t"}, True, id="the same task, attached twice"),
        pytest.param({"task_id": "t"}, {"task_id": "u"}, False, id="two tasks submitted elsewhere"),
        pytest.param({"request": _APPLE, "task_id": "t"}, {"task_id": "t"}, True, id="our own task, attached"),
        pytest.param({"request": _APPLE, "task_id": "t"}, {"task_id": "u"}, False, id="another task under our key"),
        pytest.param({"request": _APPLE, "task_id": "t"}, {"request": _APPLE}, True, id="the same request, accepted"),
        pytest.param({"task_id": "t"}, {"request": _APPLE}, False, id="a request under an attached task's key"),
    ],
)
def test_the_same_key_is_reused_only_for_the_same_work(
    one: dict[str, Any], other: dict[str, Any], is_same: bool
) -> None:
    """The same key stands for the same job only with the same task or request."""
    first, second = JobRecord(key="k", **one), JobRecord(key="k", **other)
    assert first.is_same_work(second) is is_same
    assert second.is_same_work(first) is is_same


def test_the_outcome_of_a_job_is_not_part_of_its_work() -> None:
    """Idempotency key, times and results may differ."""
    asked = JobRecord(key="k", request=_APPLE, idempotency_key="new", created_at=9)
    known = JobRecord(
        key="k",
        request=_APPLE,
        idempotency_key="old",
        status=JobStatus.COMPLETED,
        task_id="t",
        created_at=1,
        cost=0.5,
        paths=("x.mp4",),
        submits=3,
    )
    assert asked.is_same_work(known)


def test_a_new_record_is_waiting_and_costs_nothing() -> None:
    """It has no submits."""
    record = JobRecord(key="k")
    assert (record.status, record.submits, record.ambiguous_submits, record.cost) == (JobStatus.WAITING, 0, 0, None)


@pytest.mark.parametrize(
    "thing",
    [
        pytest.param(JobRecord(key="k", paths=("a.mp4",), status=JobStatus.RUNNING), id="record"),
        pytest.param(
            JobEvent(timestamp=1.0, key="k", task_id=None, status=JobStatus.WAITING, path=Path("clips/k.mp4")),
            id="event",
        ),
        pytest.param(Statistics(waiting=3, cost=0.5), id="statistics"),
    ],
)
def test_values_are_frozen_and_can_be_pickled(thing: JobRecord | JobEvent | Statistics) -> None:
    """Another process gets an equal value."""
    assert pickle.loads(pickle.dumps(thing)) == thing
    with pytest.raises(FrozenInstanceError):
        setattr(thing, fields(thing)[0].name, "x")


@pytest.mark.parametrize(
    ("ambiguous_submits", "task_id", "expected"), [(0, "t", False), (1, None, False), (1, "t", True), (2, None, True)]
)
def test_a_double_payment_takes_two_possibly_accepted_posts(
    ambiguous_submits: int, task_id: str | None, expected: bool
) -> None:
    """One ambiguous submit is at most one bill; with an accepted or a second ambiguous one there may be two."""
    assert JobRecord(key="k", ambiguous_submits=ambiguous_submits, task_id=task_id).possibly_paid_twice is expected
