"""A child is sent as soon as its parent has finished on the server, on virtual time."""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from omni_async import JobStatus, UnknownModelWarning, VideoRequest, batch
from tests.support.fakes import FakeClient, Server, left_by_error
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from pathlib import Path

EXT = "Omni-Flash-Ext"


async def test_a_child_does_not_wait_for_the_clip_of_its_parent(tmp_path: Path) -> None:
    """While the first clip is being downloaded, its child and grandchild are accepted."""
    server = Server(duration=5)
    server.on_download = lambda _: "stall"  # no clip ever comes
    async with left_by_error(FakeClient(server, tmp_path)) as client:
        first = client.submit("a")
        third = first.extend("b").extend("c")
        await third.accepted()
        assert first.status is JobStatus.DOWNLOADING
        assert first.paths == ()
        assert len(server.posts) == 3


@pytest.mark.parametrize("is_from_file", slow_after(1, [False, True]), ids=["extend", "file"])
async def test_a_hundred_chains_run_concurrently(tmp_path: Path, is_from_file: bool) -> None:
    """Each of 300 jobs is sent after its parent, and no chain waits for another."""
    server, chains = Server(duration=30), 100
    async with FakeClient(server, tmp_path) as client:
        if is_from_file:
            file = tmp_path / "chains.jsonl"
            lines = [
                f'{{"id": "{number}-{position}", "prompt": "{number}"'
                + (f', "extend_from": "{number}-{position - 1}"}}\n' if position else "}\n")
                for number in range(chains)
                for position in (2, 0, 1)
            ]
            file.write_text("".join(lines), "utf-8")
            jobs = [job async for job in client.as_completed(batch.submit_lines(client, batch.read(file)))]
        else:
            firsts = [client.submit(str(number)) for number in range(chains)]
            seconds = [job.extend(str(number)) for number, job in enumerate(firsts)]
            jobs = firsts + seconds + [job.extend(str(number)) for number, job in enumerate(seconds)]
            await asyncio.gather(*jobs)
    assert len(jobs) == len(server.posts) == 3 * chains
    assert Counter(post.body["prompt"] for post in server.posts) == {str(number): 3 for number in range(chains)}
    by_id = {post.task_id: post for post in server.posts}
    extensions = [post for post in server.posts if "extend_from_task_id" in post.body]
    assert len(extensions) == 2 * chains
    for post in extensions:
        parent = by_id[post.body["extend_from_task_id"]]
        assert parent.body["prompt"] == post.body["prompt"]
        assert post.at >= server.tasks[parent.task_id or ""].ready_at
    assert server.most_in_flight > chains / 2


async def test_a_job_can_have_many_children(tmp_path: Path) -> None:
    """Three hundred jobs that extend the same one are sent in order once it has finished."""
    server = Server(duration=5)
    async with FakeClient(server, tmp_path) as client:
        first = client.submit("first")
        children = [first.extend(str(number)) for number in range(300)]
        await asyncio.gather(first, *children)
    assert [post.body["prompt"] for post in server.posts] == ["first", *map(str, range(300))]
    assert {post.body.get("extend_from_task_id") for post in server.posts[1:]} == {first.task_id}


async def test_an_invalid_extension_raises_immediately(tmp_path: Path) -> None:
    """A model that cannot extend, or a video beside a parent, raises, and nothing is sent."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        fixed, free = client.submit("a", model=EXT), client.submit("b", model="gemini-omni-1.1-flash", resolution="4k")
        with pytest.raises(ValueError, match="cannot extend another task"):
            fixed.extend("more")
        with pytest.raises(ValueError, match="exclude each other"):
            free.extend("more", video_urls=["https://example.com/a.mp4"])
        with pytest.raises(ValueError, match="cannot extend another task"):
            free.extend("more", model=EXT)
        to_old = free.extend("more", model="gemini-omni-flash-preview")  # its 4k is not inherited by this model
        await asyncio.gather(fixed, free, to_old)
    assert [post.body.get("resolution") for post in server.posts] == [None, "4k", None]
    assert len(client.memory._records) == 3


async def test_an_unknown_model_warns_once(tmp_path: Path) -> None:
    """There is one warning per id, none for known models, and the requested model is sent."""
    server = Server()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        async with FakeClient(server, tmp_path) as client:
            jobs = [client.submit(f"{number}", model="gemini-omni-1.2-flash", duration=15) for number in range(3)]
            jobs += [client.submit(VideoRequest(model="sora-2", prompt="x")), client.submit("known")]
            jobs.append(jobs[0].extend("more"))
            await asyncio.gather(*jobs)
    assert [each.category for each in caught] == [UnknownModelWarning] * 2
    assert ["1.2-flash" in str(each.message) for each in caught] == [True, False]
    assert server.posts[0].body == {"model": "gemini-omni-1.2-flash", "prompt": "0", "duration": 15}
