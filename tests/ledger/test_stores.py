"""What every `JobStore` does alike: the ledger in memory, the one in a file, and the one of a fleet in Postgres."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from omni_async import JobRecord, JobStatus
from omni_async.jobs.records import PartialDownload
from omni_async.jobs.spending import Spending
from omni_async.jobs.store import JobStore, merge_accepted
from omni_async.ledger import MemoryJobStore
from omni_async.models.responses import Video
from tests.support.fleets import opened_fleet
from tests.support.ledgers import opened, record_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Opener: TypeAlias = Callable[[], AbstractAsyncContextManager[JobStore]]


@pytest.fixture(params=["memory", "file", "postgres"])
def open_store(request: pytest.FixtureRequest, path: Path) -> Opener:
    """Return a function that opens the same store as often as it is called."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("fleet_url")
        return lambda: opened_fleet(url)
    memory = MemoryJobStore()

    @asynccontextmanager
    async def open_memory() -> AsyncIterator[JobStore]:
        yield memory

    return open_memory if request.param == "memory" else lambda: opened(path)


# Pages of unfinished jobs


async def _pages(store: JobStore, limit: int) -> list[list[str]]:
    pages: list[list[str]] = []
    after: int | None = 0
    while after is not None:
        page = await store.unfinished(after, limit)
        pages.append([record.key for record in page.records])
        after = page.after
    return pages


@pytest.mark.parametrize("limit", [1, 3, 4, 7, 8, 100])
async def test_unfinished_jobs_are_read_page_by_page(open_store: Opener, limit: int) -> None:
    """Every page but the last is full, the order is that of the jobs, and finished ones in between are left out."""
    statuses = [JobStatus.WAITING, JobStatus.COMPLETED, JobStatus.RUNNING]
    async with open_store() as store:
        for number in range(11):
            await store.insert(record_of(f"k{number:02}", status=statuses[number % 3]))
        pages = await _pages(store, limit)
    keys = [key for page in pages for key in page]
    assert keys == [f"k{number:02}" for number in range(11) if number % 3 != 1]
    assert all(len(page) == limit for page in pages[:-1])


async def test_without_unfinished_jobs_there_is_one_empty_page(open_store: Opener) -> None:
    """An empty store, and one whose jobs are all done, end at the first page."""
    async with open_store() as store:
        assert await _pages(store, 2) == [[]]
        await store.insert(record_of("k", status=JobStatus.COMPLETED))
        assert await _pages(store, 2) == [[]]


async def test_jobs_that_finish_between_two_pages_lose_no_other(open_store: Opener) -> None:
    """The next page continues after the last job of the one before, whatever has become of that."""
    async with open_store() as store:
        for number in range(6):
            await store.insert(record_of(f"k{number}"))
        first = await store.unfinished(0, 2)
        assert first.after is not None
        for key in ("k0", "k1", "k3"):
            await store.save(record_of(key, status=JobStatus.COMPLETED))
        second = await store.unfinished(first.after, 2)
        assert [record.key for record in second.records] == ["k2", "k4"]


# Acceptance: a fact, whatever the row says by now

ACCEPTED = record_of(
    "k", status=JobStatus.RUNNING, task_id="task_1", accepted_at=7.0, submitted_at=6.0, submits=1, idempotency_key="i1"
)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param({"status": JobStatus.SUBMITTING}, {}, id="as expected"),
        pytest.param({"status": JobStatus.WAITING}, {}, id="taken back to waiting"),
        pytest.param({"status": JobStatus.UNKNOWN, "error": "no reply"}, {}, id="left unknown"),
        pytest.param({"status": JobStatus.UNKNOWN, "idempotency_key": ""}, {}, id="left unknown, its key spent"),
        pytest.param(
            {"status": JobStatus.CANCELLED, "error": "cancelled", "finished_at": 6.5},
            {"status": JobStatus.CANCELLED, "error": "cancelled", "finished_at": 6.5},
            id="cancelled meanwhile",
        ),
        pytest.param(
            {"status": JobStatus.FAILED, "error": "parent", "submits": 3},
            {"status": JobStatus.FAILED, "error": "parent", "submits": 3},
            id="failed meanwhile",
        ),
        pytest.param(
            {"status": JobStatus.COMPLETED, "task_id": "task_1", "accepted_at": 6.8, "cost": 0.4},
            {"status": JobStatus.COMPLETED, "accepted_at": 6.8, "cost": 0.4},
            id="known and completed already",
        ),
        pytest.param(
            {"status": JobStatus.RUNNING, "task_id": "task_0", "accepted_at": 6.8, "previous_task_ids": ("task_a",)},
            {"task_id": "task_0", "accepted_at": 6.8, "previous_task_ids": ("task_a", "task_1")},
            id="running as another task",
        ),
        pytest.param(
            {"status": JobStatus.SUBMITTING, "idempotency_key": "i2", "submitted_at": 9.0},
            {
                "status": JobStatus.SUBMITTING,
                "idempotency_key": "i2",
                "submitted_at": 9.0,
                "task_id": None,
                "accepted_at": None,
                "previous_task_ids": ("task_1",),
            },
            id="being resubmitted under another key",
        ),
    ],
)
async def test_an_acceptance_is_recorded_whatever_the_row_says(
    open_store: Opener, stored: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The task id is never lost: it is the job's, or one of its previous ones. A status that has moved on stays."""
    before = replace(ACCEPTED, **{"status": JobStatus.SUBMITTING, "task_id": None, "accepted_at": None} | stored)
    async with open_store() as store:
        await store.insert(before)
        await store.record_accepted(ACCEPTED)
        await store.record_accepted(ACCEPTED)  # a second time it changes nothing
        found = await store.find("k")
    assert found == replace(ACCEPTED, **expected)


async def test_an_acceptance_of_a_job_without_a_row_makes_one(open_store: Opener) -> None:
    """Even if the row is gone, the task is recorded."""
    async with open_store() as store:
        await store.record_accepted(ACCEPTED)
    async with open_store() as store:
        assert await store.find("k") == ACCEPTED


FULL = JobRecord(
    key="full",
    idempotency_key="i",
    request='{"prompt": "p"}',
    parent="p",
    parent_task_id="task_p",
    status=JobStatus.DOWNLOADING,
    task_id="task_f",
    created_at=1.5,
    submitted_at=2.5,
    accepted_at=3.5,
    finished_at=4.5,
    server_seconds=5.5,
    submits=2,
    ambiguous_submits=1,
    cost=0.25,
    credits=2.5,
    paths=("full.mp4", "full-2.mp4"),
    error="e",
    previous_task_ids=("task_a", "task_b"),
    previous_cost=0.75,
    partial_download=PartialDownload(index=1, offset=5, total=9, validator="v", etag="t"),
    sent_references=("https://u.test/1",),
    webhook="https://w.test/1",
    videos=(Video("https://v.test/1", 9.5), Video("https://v.test/2")),
    name="my clip",
)


@pytest.mark.parametrize("way", ["insert", "save", "record_accepted", "save without a row"])
async def test_every_field_is_kept(open_store: Opener, way: str) -> None:
    """What is recorded is found again, whichever call has recorded it."""
    for each in fields(JobRecord):
        assert getattr(FULL, each.name) != each.default, "a field that is added must be tried"
    before = replace(record_of("full"), idempotency_key="i", request=FULL.request, status=JobStatus.SUBMITTING)
    async with open_store() as store:
        if way != "save without a row":
            await store.insert(FULL if way == "insert" else before)
        if way.startswith("save"):
            await store.save(FULL)
        if way == "record_accepted":
            await store.record_accepted(replace(FULL, status=JobStatus.RUNNING))
        found = await store.find("full")
    assert found == (replace(FULL, status=JobStatus.RUNNING) if way == "record_accepted" else FULL)


def test_merging_an_acceptance_twice_changes_nothing() -> None:
    """A store may repeat it after a failure."""
    other = replace(ACCEPTED, task_id="task_0")
    once = merge_accepted(other, ACCEPTED)
    assert once.previous_task_ids == ("task_1",)
    assert merge_accepted(once, ACCEPTED) == once


async def test_spending_counts_every_change_before_the_call(open_store: Opener) -> None:
    """Nothing needs to be awaited in between: the sum is that of the queued changes."""
    async with open_store() as store:
        store.insert(record_of("a", status=JobStatus.COMPLETED, cost=0.4))
        store.save(record_of("b", status=JobStatus.SUBMITTING))
        store.save(JobRecord(key="b", status=JobStatus.RUNNING, task_id="t"))
        asked = store.spending()
        store.save(record_of("c", status=JobStatus.RUNNING, task_id="u"))
        spending = await asked
    assert spending == Spending(paid=0.4, priced_jobs=1, unpriced_jobs=1)
