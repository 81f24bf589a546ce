"""A key stands for one job, and a task can be attached, on virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    JobFailed,
    JobStatus,
    KeyReused,
    NotFound,
    SubmitOutcomeUnknown,
)
from tests.support.fakes import FakeClient, Server, refusal

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(30)


async def test_the_same_key_with_the_same_request_is_the_same_job(tmp_path: Path) -> None:
    """While it runs it is the same object. Later it resolves immediately to its file. It is paid for once."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        assert client.submit("p", key="k") is job
        path = await job
        began = server.now()
        again = client.submit("p", key="k")
        assert await again == path
        assert server.now() - began < 1
        assert again.status is JobStatus.COMPLETED
        assert again.task_id == job.task_id
    assert len(server.posts) == 1
    assert len(server.downloads) == 1


async def test_a_missing_or_incomplete_file_is_downloaded_again(tmp_path: Path) -> None:
    """A completed job whose file is missing or incomplete is downloaded again without a POST."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        path = await client.submit("p", key="k")
        content = path.read_bytes()
        path.unlink()
        assert (await client.submit("p", key="k")).read_bytes() == content
        path.write_bytes(content[:-5])
        assert (await client.submit("p", key="k")).read_bytes() == content
    assert len(server.posts) == 1
    assert len(server.downloads) == 3


@pytest.mark.parametrize("when", ["running", "completed"])
async def test_a_key_with_another_request_is_refused(tmp_path: Path, when: str) -> None:
    """The second job raises `KeyReused` when awaited. Nothing is sent, and the first job is not affected."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        await (job.accepted() if when == "running" else job)
        other = client.submit("q", key="k")
        with pytest.raises(KeyReused):
            await other
        with pytest.raises(KeyReused):
            await other.accepted()
        assert not other.cancel()
        assert (await job).is_file()
        assert client.submit("p", key="k").key == "k"
    assert len(server.posts) == 1
    assert client.memory._records["k"].status is JobStatus.COMPLETED


async def test_cancelling_a_new_handle_immediately_keeps_the_row(tmp_path: Path) -> None:
    """A second handle of a completed key, cancelled immediately, leaves the record unchanged."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        path = await job
        client.submit("p", key="k").cancel()
        await asyncio.sleep(1)
        assert client.memory._records["k"].task_id == job.task_id
        assert await client.submit("p", key="k") == path
    assert len(server.posts) == 1


async def test_the_key_of_a_failed_job_raises_the_same_error(tmp_path: Path) -> None:
    """Submitting the same key again sends nothing."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        server.tasks[await job.accepted()].fails = True
        with pytest.raises(JobFailed, match="moderated"):
            await job
        with pytest.raises(JobFailed, match="moderated"):
            await client.submit("p", key="k")
        server.on_submit = lambda _: refusal(409, code="idempotency_result_indeterminate")
        for _ in range(2):
            with pytest.raises(SubmitOutcomeUnknown):
                await client.submit("p", key="u")
    assert len(server.posts) == 2


async def test_accepted_of_a_resumed_job_does_not_wait_for_its_end(tmp_path: Path) -> None:
    """A handle of an accepted row returns the task id as soon as the row is read."""
    server = Server(duration=500)
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        task_id = await job.accepted()
        job.cancel()
        again = client.submit("p", key="k")
        async with asyncio.timeout(5):  # unlike `wait_for` in Python 3.11, this waits before the row is read
            assert await again.accepted() == task_id
        server.finish()
        assert (await again).is_file()
    assert len(server.posts) == 1


async def test_attach_follows_a_task_submitted_elsewhere(tmp_path: Path) -> None:
    """Its clip is named by the key or by the task id."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        ids = [await client.submit(f"p{number}").accepted() for number in range(2)]
    async with FakeClient(server, tmp_path / "b") as client:
        one, two = client.attach(ids[0]), client.attach(ids[1], key="mine")
        assert client.attach(ids[0]) is one
        assert await one.accepted() == ids[0]
        assert await one == tmp_path / "b" / f"{ids[0]}.mp4"
        assert await two == tmp_path / "b" / "mine.mp4"
        assert one.request is None
    assert len(server.posts) == 2


async def test_attach_of_an_unknown_task_raises_not_found(tmp_path: Path) -> None:
    """A task id that the server does not know raises `NotFound` soon."""
    async with FakeClient(Server(), tmp_path) as client:
        with pytest.raises(NotFound):
            await asyncio.wait_for(client.attach("task_nonsense"), 30)


@pytest.mark.parametrize("task_id", ["", "a\nb", "\0"])
async def test_attach_rejects_an_invalid_task_id(tmp_path: Path, task_id: str) -> None:
    """An empty or unprintable id raises immediately."""
    async with FakeClient(Server(), tmp_path) as client:
        with pytest.raises(ValueError, match="task_id"):
            client.attach(task_id)


async def test_statistics_count_each_job_once(tmp_path: Path) -> None:
    """A job that is submitted again under its key counts once, and so does its cost."""
    async with FakeClient(Server(), tmp_path) as client:
        for _ in range(3):
            await client.submit("p", key="k")
        job = client.submit("q", key="c")
        await job.accepted()
        job.cancel()
        with pytest.raises(KeyReused):
            await client.submit("other", key="k")
        await client.submit("q", key="c")
        stats = client.statistics()
    assert stats.completed == 2
    assert stats.unresolved == 0
    assert stats.cost == pytest.approx(1.0)
    assert stats.submits == 2
    assert stats.bytes_downloaded > 0
