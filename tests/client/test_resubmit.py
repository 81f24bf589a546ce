"""`resubmit` submits a job again at the request of the user, against the sandbox."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    JobCancelled,
    JobError,
    JobFailed,
    JobStatus,
    KeyReused,
    Retry,
    SubmitOutcomeUnknown,
)
from tests.support.restarts import DAY
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from tests.support.restarts import Service

pytest.importorskip("av", reason="the sandbox renders with the extra `media`")


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


async def test_resubmit_sends_a_failed_job_as_a_new_task(service: Service) -> None:
    """The idempotency key and the task are new, the file name is the same, and the first task is kept."""
    object.__setattr__(service.sandbox.settings, "fail_rate", 1.0)
    async with service.client() as client:
        with pytest.raises(JobFailed):
            await client.submit("a fox", key="fox")
    before = service.row("fox")
    object.__setattr__(service.sandbox.settings, "fail_rate", 0.0)
    async with service.client() as client:
        job = client.resubmit("fox")
        assert client.resubmit("fox") is job
        assert await job == service.folder / "fox.mp4"
    after = service.row("fox")
    assert after.previous_task_ids == (before.task_id,)
    assert after.idempotency_key != before.idempotency_key
    assert (after.submits, after.error, service.submits) == (2, "", 2)


async def test_resubmit_sends_an_unknown_job_under_its_old_key_for_a_day(service: Service) -> None:
    """Within 24 hours the server replays the task. After that it is paid for again."""
    for key, age, paid in (("young", 0.0, 1), ("old", DAY + 60, 2)):
        service.sandbox.script("submit", ["drop_after"])
        async with service.client(retry=Retry(wait_initial=0.02, ambiguous="hold")) as client:
            with pytest.raises(SubmitOutcomeUnknown):
                await client.submit(f"a {key} fox", key=key)
        before = service.row(key)
        assert (before.status, before.ambiguous_submits) == (JobStatus.UNKNOWN, 1)
        assert before.submitted_at is not None
        service.set_row(key, submitted_at=before.submitted_at - age)
        async with service.client() as client:
            await client.resubmit(key)
        prompts = [task.prompt for task in service.sandbox.record.tasks.values()]
        assert prompts.count(f"a {key} fox") == paid
        assert (service.row(key).idempotency_key == before.idempotency_key) is (paid == 1)


async def test_resubmit_sends_a_job_cancelled_while_ambiguous_under_its_old_key(service: Service) -> None:
    """The server had accepted it, and the reply was lost: it gives the same task again."""
    service.sandbox.script("submit", ["drop_after"])
    async with service.client(retry=Retry(wait_initial=30.0, ambiguous="retry")) as client:
        job = client.submit("a fox", key="fox")
        async with asyncio.timeout(10):
            while not service.sandbox.record.tasks or service.row("fox").ambiguous_submits == 0:
                await asyncio.sleep(0.02)
        assert job.cancel()
        with pytest.raises(JobCancelled, match="unknown whether the server accepted it"):
            await job
    assert service.row("fox").status is JobStatus.CANCELLED
    async with service.client() as client:
        assert await client.resubmit("fox") == service.folder / "fox.mp4"
    assert len(service.sandbox.record.tasks) == 1


async def test_resubmit_sends_a_cancelled_job(service: Service) -> None:
    """A job cancelled before it was sent stays cancelled until it is resubmitted."""
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        job.cancel()
        with pytest.raises(JobCancelled):
            await job
    async with service.client() as client:
        with pytest.raises(JobCancelled):
            await client.submit("a fox", key="fox")
    assert service.submits == 0
    async with service.client() as client:
        assert (await client.resubmit("fox")).is_file()
    assert service.submits == 1


async def test_a_job_cancelled_before_its_row_is_read_stays_cancelled(service: Service) -> None:
    """A waiting job of an earlier run, cancelled immediately, is not sent by the next run."""
    service.sandbox.script("submit", ["http_429"] * 50)
    async with service.interrupted() as client:
        client.submit("a fox", key="fox")
        await asyncio.sleep(0.1)
    service.sandbox._fault_injector._scripts["submit"].clear()
    assert service.row("fox").status is JobStatus.WAITING
    async with service.client() as client:
        for request, key in (("a fox", "fox"), ("another fox", "fox")):
            job = client.submit(request, key=key)
            job.cancel()
            with pytest.raises((JobCancelled, KeyReused)):
                await job
        stats = client.statistics()
    assert (stats.waiting, stats.unresolved) == (0, 1)
    async with service.client() as client:
        assert await resumed(client) == []
    assert service.sandbox.record.accepted == 0


async def test_resubmit_of_a_completed_job_returns_its_clip(service: Service) -> None:
    """It costs nothing. An unknown key raises an error that says so."""
    async with service.client() as client:
        path = await client.submit("a fox", key="fox")
    async with service.client() as client:
        assert await client.resubmit("fox") == path
        with pytest.raises(JobError, match="has no such key"):
            await client.resubmit("unknown")
    assert service.submits == 1


async def test_resubmit_of_an_attached_task_raises(service: Service) -> None:
    """The request of a task submitted elsewhere is not known. Other jobs are not affected."""
    object.__setattr__(service.sandbox.settings, "fail_rate", 1.0)
    async with service.client(output_dir=service.folder.with_name("other")) as client:
        with pytest.raises(JobFailed):
            await (job := client.submit("a fox"))
    assert job.task_id is not None
    async with service.client() as client:
        with pytest.raises(JobFailed):
            await client.attach(job.task_id, key="mine")
    object.__setattr__(service.sandbox.settings, "fail_rate", 0.0)
    async with service.client() as client:
        fine = client.submit("a hen", key="hen")
        with pytest.raises(JobError, match=r"'mine'.*elsewhere"):
            await client.resubmit("mine")
        assert (await fine).is_file()
    assert service.row("mine").status is JobStatus.FAILED
