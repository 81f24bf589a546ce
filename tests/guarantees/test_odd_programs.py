"""Unusual but valid programs and servers do not lose a clip, pay twice, hang, or stop a client."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pydantic import ValidationError

from omni_async import (
    ClientClosed,
    CostLimitReached,
    DownloadError,
    JobCancelled,
    JobError,
    JobStatus,
    KeyReused,
    Limits,
    ParentFailed,
    Retry,
    SubmitOutcomeUnknown,
    VideoRequest,
)
from omni_async.client.credentials import validate_base_url
from omni_async.downloads.partfile import PartFile, prepare_folder
from omni_async.ledger import MemoryJobStore
from omni_async.testing.memory_client import MemoryClock
from tests.support.fakes import FakeClient, FakeTask, Server, SlowLedger, left_by_error, mp4, refusal, script
from tests.support.ledgers import unfinished
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import Job


# Keys and handles


async def test_concurrent_resubmit_and_submit_are_one_job(tmp_path: Path) -> None:
    """Both return the same clip, which is paid for once. Another request is still refused."""
    server, ledger = Server(), MemoryJobStore()
    server.submit_script = script([refusal(400, "invalid_request_error")])
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        with pytest.raises(Exception, match="400"):
            await client.submit("a prompt", key="scene")
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        first, second = client.resubmit("scene"), client.submit("a prompt", key="scene")
        other = client.submit("another prompt", key="scene")
        assert await first == await second
        assert (second.status, second.task_id) == (JobStatus.COMPLETED, first.task_id)
        with pytest.raises(KeyReused):
            await other
    assert len(server.tasks) == 1


async def test_cancelling_a_second_handle_cancels_the_job(tmp_path: Path) -> None:
    """A running task that is attached again is one job, counted and recorded once."""
    server, ledger = Server(), MemoryJobStore()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        job = client.submit("a prompt", key="scene")
        second = client.attach(await job.accepted())
        await anyio.sleep(1)
        assert second.cancel()
        for handle in (job, second):
            with pytest.raises(JobCancelled):
                await handle
        assert (client.statistics().in_flight, client.statistics().unresolved) == (0, 1)
    row = await ledger.find("scene")
    assert row is not None
    assert row.status is JobStatus.CANCELLED
    assert await ledger.find(server.posts[0].task_id or "") is None


async def test_cancelling_a_finished_job_after_leaving_returns_false(tmp_path: Path) -> None:
    """`job.cancel()` in a `finally` block raises nothing."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("a prompt")
    assert job.cancel() is False
    assert await job


async def test_a_child_of_a_refused_key_is_never_sent(tmp_path: Path) -> None:
    """Its parent's key names another request, whose clip must not be extended instead."""
    server, ledger = Server(), MemoryJobStore()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await client.submit("the old prompt", key="scene")
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        edited = client.submit("the new prompt", key="scene")
        child = edited.extend("now snow", key="snow")
        with pytest.raises(KeyReused):
            await edited
        with pytest.raises(ParentFailed):
            await child
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        assert await resumed(client) == []
    assert len(server.posts) == 1


# Requests


async def test_an_invalid_copy_of_a_request_is_rejected(tmp_path: Path) -> None:
    """`model_copy(update=...)` does not validate, so `submit` does, before anything is recorded."""
    server, base = Server(), VideoRequest(prompt="a prompt")
    async with FakeClient(server, tmp_path) as client:
        for update in ({"aspect_ratio": "1:1"}, {"aspect": "16:9"}, {"image_urls": [7]}):
            with pytest.raises(ValidationError):
                client.submit(base.model_copy(update=update))
        await client.submit(base.model_copy(update={"prompt": "another", "aspect_ratio": "9:16"}))
    assert [post.body["aspect_ratio"] for post in server.posts] == ["9:16"]


@pytest.mark.parametrize("status", [JobStatus.WAITING, JobStatus.SUBMITTING, JobStatus.RUNNING])
async def test_an_unreadable_row_fails_only_its_job(tmp_path: Path, status: JobStatus) -> None:
    """A request of another version cannot be sent, but a task already accepted is downloaded."""
    server, ledger = Server(), MemoryJobStore()
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        task_id = await client.submit("a prompt", key="scene").accepted()
    row = await ledger.find("scene")
    assert row is not None
    changed = replace(row, request='{"prompt":"a prompt","shots":3}', status=status)
    await ledger.save(changed if status is JobStatus.RUNNING else replace(changed, task_id=None))
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        (job,) = await resumed(client)
        assert await client.submit("good")
        if status is JobStatus.RUNNING:
            assert await job
            assert job.task_id == task_id
        else:
            with pytest.raises(JobError, match="cannot be sent"):
                await job
    assert len(server.posts) == 2


# Entering and leaving


@pytest.mark.parametrize("style", ["await", "gather"])
async def test_leaving_waits_for_jobs_submitted_meanwhile(tmp_path: Path, style: str) -> None:
    """A task that submits its next job after each clip continues while the block is left normally."""
    server, clips = Server(), []

    async def submit_in_turn(client: FakeClient) -> None:
        for prompt in ("first", "second", "third"):
            job = client.submit(prompt)
            clips.append(await job if style == "await" else (await asyncio.gather(job))[0])

    async with FakeClient(server, tmp_path) as client:
        task = asyncio.create_task(submit_in_turn(client))
        await anyio.sleep(0.1)
    await task
    assert len(clips) == 3


async def test_no_submit_is_sent_after_leaving(tmp_path: Path) -> None:
    """A job that is recorded as submitting when the client is left by an error waits in the ledger."""
    server, ledger = Server(), SlowLedger(0.5)
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        jobs = [client.submit(f"prompt {number}") for number in range(20)]
        while len(server.posts) < 5 or all(job.status is not JobStatus.SUBMITTING for job in jobs):
            await anyio.sleep(0.01)
        await anyio.sleep(0.1)
        posts = len(server.posts)
    assert len(server.posts) == posts
    rows = await unfinished(ledger)
    assert {row.status for row in rows} == {JobStatus.WAITING, JobStatus.RUNNING}
    assert sum(row.submits for row in rows) == posts


def test_cancelling_every_asyncio_task_closes_the_client(tmp_path: Path) -> None:
    """Waiters get `ClientClosed`, and nothing hangs."""

    async def program() -> None:
        client = FakeClient(Server(), tmp_path)
        await client.__aenter__()
        job = client.submit("a prompt")
        await asyncio.sleep(0.05)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.05)
        async with asyncio.timeout(30):
            with pytest.raises(ClientClosed):
                await job
            with pytest.raises(ClientClosed):
                client.submit("another")
            await client.__aexit__(None, None, None)

    asyncio.run(program())


# Money


async def test_the_cost_limit_does_not_wait_for_a_job_that_is_not_followed(tmp_path: Path) -> None:
    """The price of such a job, here of an earlier run, is never received."""
    server, ledger = Server(), MemoryJobStore()
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        await client.submit("a prompt", key="scene").accepted()
    async with FakeClient(server, tmp_path, ledger=ledger, limits=Limits(max_cost=1.5)) as client:
        with pytest.raises(KeyReused):
            await client.submit("another prompt", key="scene")
        with pytest.raises(CostLimitReached):
            async with asyncio.timeout(3600):
                await client.submit("one more")
        assert client.statistics().in_flight == 0


class SuspendedClock(MemoryClock):
    """A wall clock that advances while that of the event loop does not, as in a suspended computer."""

    slept = 0.0

    def wall(self) -> float:
        """Return Unix seconds."""
        return super().wall() + self.slept


async def test_an_expired_idempotency_key_is_not_resent(tmp_path: Path) -> None:
    """An ambiguous job that was suspended for a day is unknown, because its key protects it no longer."""
    server = Server(submit_script=script(["lost"]))
    clock, client = SuspendedClock(), FakeClient(server, tmp_path)
    client._clock = clock
    async with client:
        job = client.submit("a prompt")
        while not server.posts:
            await anyio.sleep(0.01)
        clock.slept = 90_000
        with pytest.raises(SubmitOutcomeUnknown, match="no longer remembers"):
            await job
        assert await client.submit("another")
    assert len(server.posts) == 2


# Replies


class ForgetfulServer(Server):
    """Names a second video in its first response about a finished task only."""

    named = 0

    def view(self, task: FakeTask) -> dict[str, Any]:
        """Return a task as a check shows it."""
        seen = super().view(task)
        if task.body["prompt"] == "two" and "result" in seen:
            self.named += 1
            if self.named == 1:
                seen["result"]["videos"].append({"url": "https://cdn.test/second.mp4"})
        return seen


async def test_a_video_that_a_task_no_longer_names_fails_its_download(tmp_path: Path) -> None:
    """Its job raises a DownloadError; other jobs are not affected."""
    server = ForgetfulServer(on_download=lambda url: refusal(404) if server.named == 1 and "task" in url else None)
    async with FakeClient(server, tmp_path, retry=Retry(timeout=20)) as client:
        jobs: list[Job] = [client.submit("two"), client.submit("one")]
        with pytest.raises(DownloadError):
            await jobs[0]
        assert await jobs[1]
        assert jobs[0].status is JobStatus.DOWNLOAD_FAILED


async def test_a_window_of_an_hour_is_probed_rarely(tmp_path: Path) -> None:
    """Retry-After exceeds the retry timeout, so the server is probed, at growing intervals."""
    server = Server(window=(100, 3600.0), duration=10)
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"prompt {number}") for number in range(120)))
    assert len(server.posts) <= 120 + 40


# Folders and addresses


def test_concurrent_checks_of_a_folder_succeed(tmp_path: Path) -> None:
    """Several clients of one process can start in the same folder at the same moment."""
    with ThreadPoolExecutor(4) as threads:
        for check in [threads.submit(prepare_folder, tmp_path) for _ in range(1000)]:
            check.result()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
def test_a_base_url_may_end_in_v1(tail: str) -> None:
    """The suffix that OpenAI clients use is removed; it would make every request a 404."""
    assert validate_base_url(f"https://api.test/prefix{tail}") == "https://api.test/prefix"


def test_two_clients_never_write_the_same_part_file(tmp_path: Path) -> None:
    """The second writer gets an error, since mixed bytes could pass for a complete MP4."""
    content = mp4("a clip")
    first, second = PartFile(tmp_path / "scene.mp4"), PartFile(tmp_path / "scene.mp4")
    first.append(content[:1000])
    for write in (lambda: second.append(content), lambda: second.open(500)):
        with pytest.raises(BlockingIOError, match="another client is writing it"):
            write()
    second.discard()
    first.append(content[1000:])
    assert first.commit() is None
    assert second.open(3000) == 0
    second.append(content[:5000])
    second.close()
    assert first.open(3000) == 3000
    first.discard()
    assert (tmp_path / "scene.mp4").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["scene.mp4"]
