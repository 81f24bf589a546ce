"""Local videos are sent within the request, on virtual time."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from omni_async import (
    JobStatus,
    Limits,
    SubmitOutcomeUnknown,
)
from omni_async.ledger import MemoryJobStore
from omni_async.submission.references import VIDEOS
from tests.support.fakes import FakeClient, Server, left_by_error, mp4, script
from tests.support.reference_files import image_urls, png, video
from tests.support.submitting import error_of

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def no_av(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the check of the length of videos, as if the extra `media` were not installed."""
    monkeypatch.setattr("omni_async.submission.local_files.length_of", lambda _: None)


@pytest.mark.usefixtures("no_av")
@pytest.mark.parametrize("change", ["same", "changed", "gone"])
async def test_an_ambiguous_video_is_resent_only_if_unchanged(tmp_path: Path, change: str) -> None:
    """The ledger does not keep its bytes. If they have changed, the job is unknown, and the error says why."""
    clip, ledger, server = video(tmp_path), MemoryJobStore(), Server()
    server.submit_script = script(["hang"])
    async with left_by_error(FakeClient(server, tmp_path / "clips", ledger=ledger)) as client:
        client.submit("p", video=clip, key="k")
        await anyio.sleep(5)
    if change == "changed":
        clip.write_bytes(mp4("another"))
    elif change == "gone":
        clip.unlink()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger) as client:
        job = client.submit("p", video=clip, key="k")
        if change == "same":
            assert (await job).is_file()
            assert server.posts[0].body == server.posts[1].body
            return
        error = await error_of(job)
        assert isinstance(error, SubmitOutcomeUnknown)
        assert "the same request cannot be sent again" in str(error)
        assert str(clip) in str(error)
        assert (await client.submit("others continue")).is_file()
    assert job.status is JobStatus.UNKNOWN
    assert len(server.posts) == 2


@pytest.mark.usefixtures("no_av")
async def test_a_local_video_is_sent_as_a_data_uri(tmp_path: Path) -> None:
    """The ledger holds its path and its hash, and not its bytes."""
    clip, ledger = video(tmp_path, size=50_000), MemoryJobStore()
    async with FakeClient(server := Server(), tmp_path / "clips", ledger=ledger) as client:
        await client.submit("p", video=clip, images=[png(tmp_path)], key="k")
    (post,) = server.posts
    head, data = post.body["video_urls"][0].split(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(data) == clip.read_bytes()
    assert len(image_urls(post)) == 1
    assert len(repr(ledger._records["k"])) < 2000


@pytest.mark.usefixtures("no_av")
async def test_few_videos_are_in_memory_concurrently(tmp_path: Path) -> None:
    """At most two are between reading and the response, for any number of jobs."""
    server, most, now = Server(), [0], [0]
    server.delay_submit = lambda _: 10.0
    held = server.submit

    async def count(body: bytes, key: str, **more: Any) -> Any:
        now[0] += b"data:video" in body
        most[0] = max(most[0], now[0])
        try:
            return await held(body, key, **more)
        finally:
            now[0] -= b"data:video" in body

    server.submit = count  # type: ignore[method-assign]
    async with FakeClient(server, tmp_path / "clips") as client:
        jobs = [client.submit("p", video=video(tmp_path, f"{number}")) for number in range(12)]
        await asyncio.gather(*jobs)
    assert most == [VIDEOS]


@pytest.mark.usefixtures("no_av")
async def test_a_video_that_changes_before_sending_is_read_again(tmp_path: Path) -> None:
    """The content that is sent is the content that was hashed."""
    clip = video(tmp_path)
    server = Server(upload_latency=0.001)
    ledger = MemoryJobStore()
    async with FakeClient(server, tmp_path / "clips", ledger=ledger, limits=Limits(submits_per_minute=1)) as client:
        first, job = client.submit("first"), client.submit("p", video=clip, key="k")
        await first.accepted()
        await anyio.sleep(20)  # it is prepared by now, and waits for the submit rate
        clip.write_bytes(mp4("another"))
        await job
    assert len(server.posts) == 2
    assert base64.b64decode(server.posts[1].body["video_urls"][0].split(",")[1]) == clip.read_bytes()
    assert ledger._records["k"].submits == 1
