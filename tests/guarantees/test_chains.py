"""Chains on virtual time: each turn leaves as soon as the one before is finished on the server, many side by side."""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from omni_async import JobStatus, UnknownModelWarning, VideoRequest, batch
from tests.support.fakes import FakeClient, Server, left_by_error

if TYPE_CHECKING:
    from pathlib import Path

EXT = "Omni-Flash-Ext"


async def test_a_turn_does_not_wait_for_the_clip_before_it(tmp_path: Path) -> None:
    """While the first clip is still on its way, the second and the third turn are accepted."""
    server = Server(duration=5)
    server.on_download = lambda _: "stall"  # no clip ever comes
    async with left_by_error(FakeClient(server, tmp_path)) as client:
        first = client.submit("a")
        third = first.extend("b").extend("c")
        await third.accepted()
        assert first.status is JobStatus.DOWNLOADING
        assert first.paths == ()
        assert len(server.posts) == 3


@pytest.mark.parametrize("is_from_file", [False, True], ids=["extend", "file"])
async def test_many_chains_side_by_side(tmp_path: Path, is_from_file: bool) -> None:
    """A hundred chains of three: three hundred posts, each turn after its parent, no chain behind another."""
    server, chains = Server(duration=30), 100
    async with FakeClient(server, tmp_path) as client:
        if is_from_file:
            file = tmp_path / "chains.jsonl"
            lines = [
                f'{{"id": "{number}-{turn}", "prompt": "{number}"'
                + (f', "extend_from": "{number}-{turn - 1}"}}\n' if turn else "}\n")
                for number in range(chains)
                for turn in (2, 0, 1)
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
    turns = [post for post in server.posts if "extend_from_task_id" in post.body]
    assert len(turns) == 2 * chains
    for post in turns:
        parent = by_id[post.body["extend_from_task_id"]]
        assert parent.body["prompt"] == post.body["prompt"]
        assert post.at >= server.tasks[parent.task_id or ""].ready_at
    assert server.most_in_flight > chains / 2


async def test_one_job_with_very_many_children(tmp_path: Path) -> None:
    """Three hundred jobs that extend the same one are all sent once it is finished, in their order."""
    server = Server(duration=5)
    async with FakeClient(server, tmp_path) as client:
        first = client.submit("first")
        children = [first.extend(str(number)) for number in range(300)]
        await asyncio.gather(first, *children)
    assert [post.body["prompt"] for post in server.posts] == ["first", *map(str, range(300))]
    assert {post.body.get("extend_from_task_id") for post in server.posts[1:]} == {first.task_id}


async def test_what_cannot_be_extended_is_refused_at_once(tmp_path: Path) -> None:
    """A model that goes on from nothing, or a video beside a parent: `extend` raises, nothing is sent."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        fixed, free = client.submit("a", model=EXT), client.submit("b", model="gemini-omni-1.1-flash", resolution="4k")
        with pytest.raises(ValueError, match="cannot extend another task"):
            fixed.extend("more")
        with pytest.raises(ValueError, match="exclude each other"):
            free.extend("more", video_urls=["https://example.com/a.mp4"])
        with pytest.raises(ValueError, match="cannot extend another task"):
            free.extend("more", model=EXT)
        to_old = free.extend("more", model="gemini-omni-flash-preview")  # its 4k is not handed down to this model
        await asyncio.gather(fixed, free, to_old)
    assert [post.body.get("resolution") for post in server.posts] == [None, "4k", None]
    assert len(client.memory._records) == 3


async def test_an_unknown_model_is_warned_of_once(tmp_path: Path) -> None:
    """One warning for each id, however many jobs; those of the table give none; what is asked for is sent."""
    server = Server()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        async with FakeClient(server, tmp_path) as client:
            jobs = [client.submit(f"{number}", model="gemini-omni-1.2-flash", duration=15) for number in range(3)]
            jobs += [client.submit(VideoRequest(model="sora-2", prompt="x")), client.submit("known")]
            jobs.append(jobs[0].extend("more"))
            await asyncio.gather(*jobs)
    assert [each.category for each in told] == [UnknownModelWarning] * 2
    assert ["1.2-flash" in str(each.message) for each in told] == [True, False]
    assert server.posts[0].body == {"model": "gemini-omni-1.2-flash", "prompt": "0", "duration": 15}
