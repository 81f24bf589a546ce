"""A job can be cancelled at any moment, on virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    JobCancelled,
    JobStatus,
    Limits,
    OmniError,
    Retry,
    TransportError,
)
from tests.support.fakes import HTML, FakeClient, Fault, Server, not_sent, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import Job

pytestmark = pytest.mark.timeout(30)


async def wait_for_status(job: Job, status: JobStatus) -> None:
    """Wait until a job has this status."""
    async with asyncio.timeout(5000):
        while job.status is not status:
            await asyncio.sleep(0.001)


async def test_a_waiting_job_that_is_cancelled_is_never_sent(tmp_path: Path) -> None:
    """It has no task, and the other jobs continue."""
    server = Server(duration=100)
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=1)) as client:
        first, second, third = (client.submit(f"p{number}") for number in range(3))
        await first.accepted()
        assert second.cancel()
        assert not second.cancel()
        with pytest.raises(JobCancelled) as caught:
            await second
        assert caught.value.key == second.key
        assert caught.value.task_id is None
        assert second.status is JobStatus.CANCELLED
        await asyncio.gather(first, third)
    assert len(server.posts) == 2


async def test_cancelling_during_a_post_keeps_the_task_id(tmp_path: Path) -> None:
    """The job ends when the response is recorded, and its error names the task that is billed."""
    server = Server(latency=5, duration=100)
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        await asyncio.sleep(1)
        assert job.cancel()
        with pytest.raises(JobCancelled) as caught:
            await job
        assert caught.value.task_id == next(iter(server.tasks))
        assert client.memory._records[job.key].task_id == caught.value.task_id
    assert not server.downloads


async def test_cancelling_an_ambiguous_job_prevents_the_resend(tmp_path: Path) -> None:
    """The job is not sent again, and the error does not claim that it costs nothing."""
    server = Server(on_submit=lambda _: HTML)
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        await asyncio.sleep(0.2)
        job.cancel()
        with pytest.raises(JobCancelled, match="unknown whether the server accepted it before: if so, it is billed"):
            await job
        sent = len(server.posts)
        server.on_submit = None
        await client.submit("q")
    assert len(server.posts) == sent + 1


@pytest.mark.parametrize("answer", ["refused", "lost", "not sent", "never", "stop"])
async def test_cancelling_during_a_post_with_any_response(tmp_path: Path, answer: str) -> None:
    """The job ends as cancelled, or as the response says, and other jobs continue."""
    faults: dict[str, Fault] = {"refused": refusal(429), "lost": "lost", "not sent": not_sent(), "never": refusal(400)}
    server = Server(latency=5)
    server.on_submit = lambda post: faults.get(answer, refusal(402)) if post.number == 1 else None
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        await asyncio.sleep(1)
        job.cancel()
        with pytest.raises(OmniError):
            await asyncio.wait_for(job, 20)
        client.resume()
        assert (await client.submit("q")).is_file()
    assert sum(post.body["prompt"] == "p" for post in server.posts) == 1


async def test_attach_continues_a_job_cancelled_while_running(tmp_path: Path) -> None:
    """The error says that the job is billed. Attaching its task downloads the clip without a POST."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        task_id = await job.accepted()
        assert job.cancel()
        with pytest.raises(JobCancelled, match="bill"):
            await job
        await asyncio.sleep(100)
        again = client.attach(task_id, key="k")
        assert await again == tmp_path / "k.mp4"
    assert len(server.posts) == 1


async def test_cancelling_a_download_does_not_affect_other_jobs(tmp_path: Path) -> None:
    """A job cancelled at any moment of its download ends as cancelled; other jobs continue."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        for moment in range(40):
            job = client.submit("p", key=f"k{moment}")
            await job.accepted()
            server.finish()
            await wait_for_status(job, JobStatus.DOWNLOADING)
            await asyncio.sleep(moment * 0.005)
            if job.cancel():
                with pytest.raises(JobCancelled):
                    await job
            other = client.submit("q")
            await other.accepted()
            server.finish()
            assert (await other).is_file()
        assert client.statistics().downloading == 0
    for record in client.memory._records.values():
        is_there = (tmp_path / f"{record.key}.mp4").exists()
        assert is_there or record.status is JobStatus.CANCELLED


async def test_cancelling_between_download_attempts_frees_the_slot(tmp_path: Path) -> None:
    """The job ends as cancelled, and the next download starts soon."""
    server = Server()
    server.on_download = lambda url: TransportError("reset") if "01.mp4" in url else None
    async with FakeClient(server, tmp_path, limits=Limits(max_downloads=1), retry=Retry(timeout=200)) as client:
        job = client.submit("p")
        await wait_for_status(job, JobStatus.DOWNLOADING)
        await asyncio.sleep(3)
        job.cancel()
        began = server.now()
        other = client.submit("q")
        assert (await other).is_file()
        assert server.now() - began < 20 + 60, "the cancelled job held the only slot"
        await asyncio.sleep(1000)
        assert (await client.submit("r")).is_file()


async def test_cancelling_a_stalled_download_frees_the_slot(tmp_path: Path) -> None:
    """The next download starts soon, and no part file remains."""
    server = Server()
    server.on_download = lambda url: "stall" if "01.mp4" in url else None
    async with FakeClient(server, tmp_path, limits=Limits(max_downloads=1)) as client:
        job = client.submit("p")
        await wait_for_status(job, JobStatus.DOWNLOADING)
        await asyncio.sleep(1)
        job.cancel()
        began = server.now()
        assert (await client.submit("q")).is_file()
        assert server.now() - began < 90
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


async def test_a_finished_job_cannot_be_cancelled(tmp_path: Path) -> None:
    """cancel() returns False, and the job keeps its path."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("p")
        path = await job
        assert not job.cancel()
        assert await job == path
        assert job.status is JobStatus.COMPLETED


async def test_a_hundred_jobs_cancelled_at_different_moments_all_end(tmp_path: Path) -> None:
    """The client can be left normally, and the counts are right."""
    server = Server(latency=0.3, duration=15)
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(100)]

        async def cancel(job: Job, after: float) -> None:
            await asyncio.sleep(after)
            job.cancel()

        async with asyncio.TaskGroup() as group:
            for number, job in enumerate(jobs):
                group.create_task(cancel(job, number * 0.31))
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert all(isinstance(result, JobCancelled) or not isinstance(result, BaseException) for result in results)
        stats = client.statistics()
        assert stats.waiting == stats.in_flight == stats.downloading == 0
        assert stats.completed + stats.unresolved == 100
