"""Programs and servers that are odd but legal: none may lose a clip, pay twice, hang, or bring a client down."""

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
from omni_async.client.arguments import validate_base_url
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


async def test_bought_again_and_asked_for_in_one_breath_is_one_job(tmp_path: Path) -> None:
    """`again` and `submit` of the same key at once buy one clip, and both get it; another request is still refused."""
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
    """A live task that is attached once more is one job: given up by either handle, it is counted and recorded once."""
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


async def test_cancelling_what_is_done_after_leaving_is_harmless(tmp_path: Path) -> None:
    """`job.cancel()` in somebody's `finally`, after the client was left, is False and raises nothing."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("a prompt")
    assert job.cancel() is False
    assert await job


async def test_a_child_of_a_job_that_was_turned_away_is_never_sent(tmp_path: Path) -> None:
    """The key of its parent names another request: no later run may extend that one's clip in its place."""
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


async def test_a_request_copied_with_nonsense_is_refused_at_once(tmp_path: Path) -> None:
    """`model_copy(update=...)` checks nothing, so `submit` does: before anything is recorded."""
    server, base = Server(), VideoRequest(prompt="a prompt")
    async with FakeClient(server, tmp_path) as client:
        for nonsense in ({"aspect_ratio": "1:1"}, {"aspect": "16:9"}, {"image_urls": [7]}):
            with pytest.raises(ValidationError):
                client.submit(base.model_copy(update=nonsense))
        await client.submit(base.model_copy(update={"prompt": "another", "aspect_ratio": "9:16"}))
    assert [post.body["aspect_ratio"] for post in server.posts] == ["9:16"]


@pytest.mark.parametrize("status", [JobStatus.WAITING, JobStatus.SUBMITTING, JobStatus.RUNNING])
async def test_a_row_of_another_version_stops_nobody_else(tmp_path: Path, status: JobStatus) -> None:
    """A request that this version cannot send ends its own job; what is accepted already is fetched all the same."""
    server, ledger = Server(), MemoryJobStore()
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        task_id = await client.submit("a prompt", key="scene").accepted()
    row = await ledger.find("scene")
    assert row is not None
    odd = replace(row, request='{"prompt":"a prompt","shots":3}', status=status)
    await ledger.save(odd if status is JobStatus.RUNNING else replace(odd, task_id=None))
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


@pytest.mark.parametrize("way", ["await", "gather"])
async def test_what_follows_from_the_last_clip_is_waited_for_too(tmp_path: Path, way: str) -> None:
    """A task that hands in the next job as soon as it has its clip goes on while the block is left normally."""
    server, clips = Server(), []

    async def one_after_the_other(client: FakeClient) -> None:
        for prompt in ("first", "second", "third"):
            job = client.submit(prompt)
            clips.append(await job if way == "await" else (await asyncio.gather(job))[0])

    async with FakeClient(server, tmp_path) as client:
        task = asyncio.create_task(one_after_the_other(client))
        await anyio.sleep(0.1)
    await task
    assert len(clips) == 3


async def test_no_post_leaves_once_the_client_is_left(tmp_path: Path) -> None:
    """A job that is being recorded as sent when the client is left in a hurry is not sent, and waits in the ledger."""
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


def test_all_tasks_of_the_loop_cancelled(tmp_path: Path) -> None:
    """Where somebody has cancelled every asyncio task there is, the client says that it is closed; nobody hangs."""

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


async def test_a_cost_limit_does_not_wait_for_the_bill_of_a_job_nobody_follows(tmp_path: Path) -> None:
    """A rejected key, whose job has been running since an earlier run, does not make the cost limit wait forever."""
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


class SleepyClock(MemoryClock):
    """A wall clock that went on while the event loop's stood still."""

    slept = 0.0

    def wall(self) -> float:
        """Return Unix seconds."""
        return super().wall() + self.slept


async def test_a_key_that_the_server_has_forgotten_is_not_sent_again(tmp_path: Path) -> None:
    """An ambiguous job that waited for a day (a suspended laptop) is unknown: its idempotency key has expired."""
    server = Server(submit_script=script(["lost"]))
    clock, client = SleepyClock(), FakeClient(server, tmp_path)
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
    """Names a second video in its first reply about a finished task, and never again."""

    named = 0

    def view(self, task: FakeTask) -> dict[str, Any]:
        """Give a task as a check shows it."""
        seen = super().view(task)
        if task.body["prompt"] == "two" and "result" in seen:
            self.named += 1
            if self.named == 1:
                seen["result"]["videos"].append({"url": "https://cdn.test/second.mp4"})
        return seen


async def test_a_task_that_names_fewer_videos_than_before(tmp_path: Path) -> None:
    """The one that is gone cannot be delivered, and the error says so; other jobs are not touched."""
    server = ForgetfulServer(on_download=lambda url: refusal(404) if server.named == 1 and "task" in url else None)
    async with FakeClient(server, tmp_path, retry=Retry(timeout=20)) as client:
        jobs: list[Job] = [client.submit("two"), client.submit("one")]
        with pytest.raises(DownloadError):
            await jobs[0]
        assert await jobs[1]
        assert jobs[0].status is JobStatus.DOWNLOAD_FAILED


async def test_a_long_and_honest_retry_after_is_not_asked_to_death(tmp_path: Path) -> None:
    """A window of an hour, told to the second: longer than any budget, so it is tried, but ever more seldom."""
    server = Server(window=(100, 3600.0), duration=10)
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"prompt {number}") for number in range(120)))
    assert len(server.posts) <= 120 + 40


# Folders and addresses


def test_clients_that_prove_one_folder_at_once(tmp_path: Path) -> None:
    """Several clients of one process begin in the same folder at the same moment: none takes it for unusable."""
    with ThreadPoolExecutor(4) as threads:
        for proof in [threads.submit(prepare_folder, tmp_path) for _ in range(1000)]:
            proof.result()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
def test_an_address_as_programs_for_openai_have_it(tail: str) -> None:
    """With or without `/v1` it is the same address: each job would else be refused by a 404, and count as failed."""
    assert validate_base_url(f"https://api.test/prefix{tail}") == "https://api.test/prefix"


def test_two_clients_never_write_one_part_file(tmp_path: Path) -> None:
    """One key, one folder, two ledgers: the second is told; else a clip of both might pass for a whole MP4."""
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
