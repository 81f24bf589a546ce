"""A job that extends another one is sent after its parent, on virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    DownloadError,
    JobCancelled,
    JobStatus,
    OmniError,
    ParentFailed,
    Retry,
    TransportError,
)
from tests.support.fakes import FakeClient, Server, refusal
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(30)


async def test_a_child_is_sent_after_its_parent_has_finished(tmp_path: Path) -> None:
    """It names the task of its parent, and inherits the model and the aspect ratio."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        first = client.submit("a", aspect_ratio="9:16", model="gemini-omni-1.1-flash")
        chain = [first, first.extend("b"), first.extend("b2")]
        chain += [chain[1].extend("c"), chain[1].extend("d", aspect_ratio="16:9")]
        await asyncio.gather(*chain)
    bodies = {post.body["prompt"]: post.body for post in server.posts}
    assert "extend_from_task_id" not in bodies["a"]
    assert bodies["b"]["extend_from_task_id"] == bodies["b2"]["extend_from_task_id"] == chain[0].task_id
    assert bodies["c"]["extend_from_task_id"] == chain[1].task_id
    assert bodies["c"]["aspect_ratio"] == "9:16"
    assert bodies["c"]["model"] == "gemini-omni-1.1-flash"
    assert bodies["d"]["aspect_ratio"] == "16:9"
    for parent, child in ((0, 1), (0, 2), (1, 3), (1, 4)):
        before, after = server.tasks[chain[parent].task_id or ""], server.tasks[chain[child].task_id or ""]
        assert after.accepted_at >= before.ready_at


async def test_a_finished_job_can_be_extended(tmp_path: Path) -> None:
    """The child of a completed job is sent immediately."""
    async with FakeClient(Server(), tmp_path) as client:
        first = client.submit("a")
        await first
        assert (await first.extend("b")).is_file()


@pytest.mark.parametrize("how", ["refused", "failed", "cancelled", "cancelled running", "unknown"])
async def test_children_of_a_failed_parent_are_not_sent(tmp_path: Path, how: str) -> None:
    """If the parent does not finish, all its descendants raise `ParentFailed`."""
    server = Server()
    server.on_submit = lambda _: {"refused": refusal(400), "unknown": refusal(409, code="idempotency_result_indeterminate")}.get(how)  # fmt: skip  # noqa: E501
    async with FakeClient(server, tmp_path) as client:
        parent = client.submit("a")
        child = parent.extend("b")
        grandchild = child.extend("c")
        if how == "cancelled":
            parent.cancel()
        elif how == "cancelled running":
            await parent.accepted()
            parent.cancel()
        elif how == "failed":
            server.tasks[await parent.accepted()].fails = True
        for job in (child, grandchild, parent.extend("late")):
            with pytest.raises(ParentFailed) as caught:
                await job
            assert caught.value.key == job.key
            assert job.status is JobStatus.FAILED
    assert len(server.posts) <= 1


async def test_a_parent_whose_download_failed_can_be_extended(tmp_path: Path) -> None:
    """A parent that is finished on the server still serves its children."""
    server = Server()
    server.on_download = lambda url: TransportError("reset") if "01.mp4" in url else None
    async with FakeClient(server, tmp_path, retry=Retry(timeout=5)) as client:
        parent = client.submit("a")
        child = parent.extend("b")
        with pytest.raises(DownloadError):
            await parent
        assert (await child).is_file()
        assert (await parent.extend("c")).is_file()


async def test_cancelling_a_waiting_child_does_not_affect_its_parent(tmp_path: Path) -> None:
    """The child is never sent; its parent and its sibling continue."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        parent = client.submit("a")
        child, sibling = parent.extend("b"), parent.extend("c")
        await parent.accepted()
        child.cancel()
        await asyncio.gather(parent, sibling)
        with pytest.raises(JobCancelled):
            await child
    assert [post.body["prompt"] for post in server.posts] == ["a", "c"]


async def test_resume_continues_a_chain_after_a_stop(tmp_path: Path) -> None:
    """After a 401 every job of the chain gets the error; resume continues the chain in order."""
    server = Server(on_submit=lambda _: refusal(401))
    async with FakeClient(server, tmp_path) as client:
        parent = client.submit("a", key="a")
        child = parent.extend("b", key="b")
        grandchild = child.extend("c", key="c")
        results = await asyncio.gather(parent, child, grandchild, return_exceptions=True)
        assert all(isinstance(result, OmniError) for result in results)
        server.on_submit = None
        jobs = await resumed(client)
        assert [job.key for job in jobs] == ["a", "b", "c"]
        await asyncio.gather(*jobs)
    assert [post.body["prompt"] for post in server.posts] == ["a", "a", "b", "c"]
    assert server.posts[2].body["extend_from_task_id"] == server.posts[1].task_id
