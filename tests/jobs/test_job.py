"""A job can be awaited by any number of waiters, and ends with its clip or with an error; on virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from omni_async import (
    DownloadError,
    JobCancelled,
    JobStatus,
    OmniError,
)
from tests.support.fakes import FakeClient, Server, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import Job

pytestmark = pytest.mark.timeout(30)


async def test_a_job_can_be_awaited_any_number_of_times(tmp_path: Path) -> None:
    """A thousand waiters, during the job and after it, get the same path."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("p", key="mine")
        paths = await asyncio.gather(*(asyncio.ensure_future(job) for _ in range(1000)))
        paths += [await job, await job]
        assert set(paths) == {tmp_path / "mine.mp4"}
        assert job.paths == (tmp_path / "mine.mp4",)
        assert job.done()
        assert job.progress == 100
        assert job.cost == 0.5
        assert job.task is not None
        assert job.task.status == "completed"
        assert not job.cancel()


async def test_cancelling_a_waiter_does_not_affect_the_job(tmp_path: Path) -> None:
    """wait_for, a cancelled task and an anyio timeout stop waiting; the job and other waiters continue."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("p")
        patient = asyncio.ensure_future(job)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job, 1)
        with anyio.move_on_after(1):
            await job
        waiter = asyncio.create_task(job.accepted())
        other = asyncio.ensure_future(job)
        await asyncio.sleep(0)
        other.cancel()
        waiter.cancel()
        assert (await patient).is_file()
        assert not job.cancel()


@pytest.mark.parametrize(
    "style", ["gather", "as_completed", "wait_for", "TaskGroup", "anyio", "shield", "wait", "timeout"]
)
async def test_a_job_works_with_asyncio_and_anyio(tmp_path: Path, style: str) -> None:  # noqa: C901 - a table
    """A job is an awaitable like any other."""
    async with FakeClient(Server(), tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(5)]
        paths: list[Any] = []

        async def wait(job: Job) -> None:
            paths.append(await job)

        match style:
            case "gather":
                paths += await asyncio.gather(*jobs)
            case "as_completed":
                paths += [await each for each in asyncio.as_completed(jobs)]
            case "wait_for":
                paths += [await asyncio.wait_for(job, 1000) for job in jobs]
            case "shield":
                paths += [await asyncio.shield(job) for job in jobs]
            case "wait":
                done, _ = await asyncio.wait([asyncio.ensure_future(job) for job in jobs])
                paths += [each.result() for each in done]
            case "TaskGroup":
                async with asyncio.TaskGroup() as group:
                    for job in jobs:
                        group.create_task(wait(job))
            case "anyio":
                async with anyio.create_task_group() as tasks:
                    for job in jobs:
                        tasks.start_soon(wait, job)
            case "timeout":
                async with asyncio.timeout(1000):
                    for job in jobs:
                        await wait(job)
        assert {path.name for path in paths} == {f"{job.key}.mp4" for job in jobs}


async def test_every_waiter_gets_the_error(tmp_path: Path) -> None:
    """Later waiters get it too, and its traceback does not grow."""
    async with FakeClient(Server(on_submit=lambda _: refusal(400)), tmp_path) as client:
        job = client.submit("p")
        results = await asyncio.gather(*(asyncio.ensure_future(job) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(result, OmniError) for result in results)
        depths = []
        for _ in range(5):
            with pytest.raises(OmniError) as caught:
                await job
            depths.append(len(caught.traceback))
        assert depths[-1] <= depths[0]


async def test_accepted_returns_the_task_id_before_the_job_ends(tmp_path: Path) -> None:
    """It waits for the task id alone. A second call returns it immediately, also after the end."""
    server = Server(duration=500)
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        assert job.task_id is None
        both = await asyncio.gather(job.accepted(), job.accepted())
        assert set(both) == {job.task_id}
        assert job.status is JobStatus.RUNNING
        assert server.now() < 1010
        server.finish()
        await job
        assert await job.accepted() == job.task_id


async def test_accepted_raises_the_error_of_a_job_that_was_not_accepted(tmp_path: Path) -> None:
    """A job that is rejected, or cancelled before it was sent, raises from accepted() too."""
    async with FakeClient(Server(on_submit=lambda _: refusal(400)), tmp_path) as client:
        job = client.submit("p")
        with pytest.raises(OmniError, match="400"):
            await job.accepted()
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("p")
        job.cancel()
        with pytest.raises(JobCancelled):
            await job.accepted()


async def test_a_finished_task_is_checked_again_after_two_404s(tmp_path: Path) -> None:
    """If a URL is dead and two checks return 404, a third check still finds the paid clip."""
    server = Server()
    server.download_script.append(refusal(403))
    unknown = [refusal(404, "invalid_request_error", 404) for _ in range(2)]
    server.on_check = lambda _: unknown.pop() if server.downloads and unknown else None
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()
    assert not unknown


async def test_an_unusable_output_folder_stops_submits(tmp_path: Path) -> None:
    """A folder that cannot be created raises before the first POST. The error names it and says what to do."""
    (tmp_path / "taken").write_text("a file")
    async with FakeClient(server := Server(), tmp_path / "taken" / "clips") as client:
        job = client.submit("p")
        with pytest.raises(DownloadError, match=r"taken.*Nothing was sent; choose another folder"):
            await job
        assert job.status is JobStatus.WAITING
    assert server.posts == []


async def test_wait_returns_a_coroutine(tmp_path: Path) -> None:
    """`create_task`, `TaskGroup.create_task` and `asyncio.wait` accept `job.wait()`, also of a finished job."""
    async with FakeClient(Server(), tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(3)]
        async with asyncio.TaskGroup() as group:
            first = group.create_task(jobs[0].wait())
        done, pending = await asyncio.wait([asyncio.create_task(job.wait()) for job in jobs])
        assert first.result() == await jobs[0]
        assert ({task.result() for task in done}, pending) == ({await job for job in jobs}, set())


async def test_cancelling_wait_does_not_affect_the_job(tmp_path: Path) -> None:
    """An asyncio task that waits for a job can be cancelled; the job continues for everyone else."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("p")
        waiter = asyncio.create_task(job.wait())
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert (await job).is_file()


async def test_wait_raises_the_error_of_the_job(tmp_path: Path) -> None:
    """A rejected job raises its error from `wait` as from `await`."""
    async with FakeClient(Server(submit_script=deque([refusal(400)])), tmp_path) as client:
        job = client.submit("p")
        with pytest.raises(OmniError):
            await asyncio.create_task(job.wait())
