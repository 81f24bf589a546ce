"""A later run resumes unfinished jobs and chains, against the sandbox."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import (
    DownloadError,
    JobFailed,
    JobStatus,
    JobTimedOut,
    ParentFailed,
    Polling,
    Retry,
    SubmitOutcomeUnknown,
)
from omni_async.downloads import partfile
from omni_async.files import publish
from omni_async.submission import submitter as _submitter
from tests.support.markers import slow_after
from tests.support.restarts import DAY, set_duration, wait_for_status
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.restarts import Service

pytest.importorskip("av", reason="the sandbox renders with the extra `media`")


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.mark.slow
async def test_resume_continues_every_unfinished_job(service: Service) -> None:
    """Running, waiting and timed-out jobs of an interrupted run are completed by a later run."""
    set_duration(service, 1.5)
    async with service.interrupted(polling=Polling(min_interval=0.05, max_interval=0.1, timeout=0.3)) as client:
        late = client.submit("a snail", key="late")
        with pytest.raises(JobTimedOut):
            await late
        running = client.submit("a fox", key="running")
        await running.accepted()
        service.sandbox.script("submit", ["http_429"] * 50)
        client.submit("a hen", key="waiting")
        await asyncio.sleep(0.2)
    service.sandbox._fault_injector._scripts["submit"].clear()
    assert [service.row(key).status for key in ("late", "running", "waiting")] == ["timed_out", "running", "waiting"]
    async with service.client() as client:
        jobs = await resumed(client)
        assert [job.key for job in jobs] == ["late", "running", "waiting"]
        assert await resumed(client) == jobs
        await asyncio.gather(*jobs)
        assert await resumed(client) == []
    assert service.sandbox.record.accepted == 3
    async with service.client() as client:
        assert await resumed(client) == []


@pytest.mark.parametrize("faults", [["http_502_check", "garbage_check", "drop_check"], ["no_link", "no_link"]])
async def test_an_old_job_is_checked_until_a_check_is_conclusive(service: Service, faults: list[str]) -> None:
    """The job is older than any timeout, but an inconclusive check does not make it timed_out."""
    async with service.interrupted() as client:
        await client.submit("a fox", key="fox").accepted()
    service.set_row("fox", accepted_at=1.0)
    while not all(task.status == "completed" for task in service.sandbox.record.tasks.values()):
        await asyncio.sleep(0.01)
    service.sandbox.script("check", faults)
    async with service.client() as client:
        (job,) = await resumed(client)
        assert (await job).is_file()
    assert sum(service.sandbox.record.faults[name] for name in set(faults)) == len(faults)
    assert service.submits == 1


@pytest.mark.parametrize("age", [*slow_after(1, [DAY - 60, 0.0]), DAY + 60])
@pytest.mark.parametrize("ambiguous", slow_after(1, ["retry", "hold"]))
async def test_a_submitting_row_is_resent_within_a_day_only(
    service: Service, age: float, ambiguous: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is resent under its old key within 24 hours. Later, or with `hold`, it is unknown and not sent."""
    monkeypatch.setattr(_submitter, "GRACE", 0.1)
    service.sandbox.script("submit", ["hang_submit"])
    async with service.interrupted() as client:
        job = client.submit("a fox", key="fox")
        await wait_for_status(job, JobStatus.SUBMITTING)
        await asyncio.sleep(0.1)
    before = service.row("fox")
    assert (before.status, before.submits, before.task_id) == (JobStatus.SUBMITTING, 1, None)
    assert before.submitted_at is not None
    service.set_row("fox", submitted_at=before.submitted_at - age)
    async with service.client(retry=Retry(wait_initial=0.02, ambiguous=ambiguous)) as client:
        (job,) = await resumed(client)
        if ambiguous == "retry" and age < DAY:
            await job
            assert (service.submits, service.sandbox.record.replayed) == (2, 1)
            assert service.row("fox").ambiguous_submits == 0
        else:
            with pytest.raises(SubmitOutcomeUnknown, match=r"'fox'.*it is unknown whether"):
                await job
            assert service.submits == 1
            assert service.row("fox").status is JobStatus.UNKNOWN
    assert service.sandbox.record.accepted == 1
    async with service.client() as client:
        assert await resumed(client) == []


@pytest.mark.slow
async def test_a_chain_continues_after_a_restart(service: Service) -> None:
    """Each run continues a chain of waiting, running or completed jobs, and each job is paid for once."""
    set_duration(service, 0.5)
    async with service.interrupted() as client:
        first = client.submit("a fox", key="one")
        first.extend("snow", key="two").extend("rain", key="three")
        await first.accepted()
    async with service.interrupted() as client:
        jobs = await resumed(client)
        assert [job.key for job in jobs] == ["one", "two", "three"]
        await jobs[0]
        await jobs[1].accepted()
    async with service.client() as client:
        jobs = await resumed(client)
        assert [job.key for job in jobs] == ["two", "three"]
        await asyncio.gather(*jobs)
    tasks = [task.body for task in service.sandbox.record.tasks.values()]
    rows = [service.row(key) for key in ("one", "two", "three")]
    assert [task.get("extend_from_task_id") for task in tasks] == [None, rows[0].task_id, rows[1].task_id]
    assert service.sandbox.record.accepted == 3


async def test_a_second_run_finds_its_chain_completed(service: Service) -> None:
    """`submit` and `extend` with the same keys return the clips without a request."""
    for _ in range(2):
        async with service.client() as client:
            one = client.submit("a fox", key="one")
            two = one.extend("snow", key="two")
            await asyncio.gather(one, two)
    assert service.submits == 2


async def test_a_child_of_a_failed_parent_is_not_sent(service: Service) -> None:
    """The child raises the reason, in the run in which the parent failed and in a later one."""
    object.__setattr__(service.sandbox.settings, "fail_rate", 1.0)
    async with service.client() as client:
        one = client.submit("a fox", key="one")
        two = one.extend("snow", key="two")
        with pytest.raises(ParentFailed, match=r"'two'.*'one'.*failed on the server"):
            await two
    async with service.client() as client:
        one = client.submit("a fox", key="one")
        two, new = one.extend("snow", key="two"), one.extend("rain", key="new")
        for job in (two, new):
            with pytest.raises(ParentFailed, match="'one' that it extends has no result"):
                await job
        assert await resumed(client) == []
    assert service.submits == 1
    assert service.row("two").status is service.row("new").status is JobStatus.FAILED


async def test_a_child_whose_parent_failed_between_two_runs_is_not_sent(service: Service) -> None:
    """The next run finds the parent failed on the server; parent and child both raise."""
    set_duration(service, 0.6)
    object.__setattr__(service.sandbox.settings, "fail_rate", 1.0)
    async with service.interrupted() as client:
        one = client.submit("a fox", key="one")
        one.extend("snow", key="two")
        await one.accepted()
    async with service.client() as client:
        one, two = await resumed(client)
        outcomes = await asyncio.gather(one, two, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [JobFailed, ParentFailed]
    assert service.submits == 1


@pytest.mark.slow
async def test_resume_continues_a_child_and_its_timed_out_parent(service: Service) -> None:
    """The child is sent once its parent is followed again."""
    set_duration(service, 0.5)
    async with service.interrupted() as client:
        one = client.submit("a fox", key="one")
        one.extend("snow", key="two")
        await one.accepted()
    service.set_row("one", status="timed_out")
    async with service.client() as client:
        await asyncio.gather(*await resumed(client))
    assert service.row("two").parent_task_id == service.row("one").task_id


async def test_a_child_continues_although_the_clip_of_its_parent_was_not_stored(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent is finished on the server, so a later run can extend it."""

    def publish_others(source: Path, path: Path) -> None:
        if path.name == "one.mp4":
            raise OSError(errno.ENOSPC, "No space left on device")
        publish(source, path)

    monkeypatch.setattr(partfile, "publish", publish_others)
    async with service.interrupted() as client:
        one = client.submit("a fox", key="one")
        with pytest.raises(DownloadError):
            await one
    async with service.client() as client:
        one = client.submit("a fox", key="one")
        two = one.extend("snow", key="two")
        outcomes = await asyncio.gather(one, two, return_exceptions=True)
    assert isinstance(outcomes[0], DownloadError)
    assert outcomes[1] == service.folder / "two.mp4"
