"""Many downloads over real sockets: several videos of one task, a limit, and transfers that are cut short."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import JobStatus, Limits
from tests.support.clip_host import CLIP, client_of, hosting, watched
from tests.support.fakes import left_by_error
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

    from omni_async import Job

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


async def test_all_videos_of_a_task_are_stored(tmp_path: Path) -> None:
    """Further videos are named `-2`, `-3`; `paths` has all of them."""
    async with hosting(videos=3) as host, client_of(host, tmp_path) as client:
        job = client.submit("p", key="k")
        assert await job == tmp_path / "k.mp4"
        assert [path.name for path in job.paths] == ["k.mp4", "k-2.mp4", "k-3.mp4"]
        assert all(path.read_bytes() == CLIP for path in job.paths)


async def test_a_key_that_looks_like_a_second_video_does_not_collide(tmp_path: Path) -> None:
    """Keys "k", "k-2" and "K", with two videos each, make six files."""
    async with hosting(videos=2) as host, client_of(host, tmp_path) as client:
        jobs = [client.submit("p", key="k"), client.submit("q", key="k-2"), client.submit("r", key="K")]
        await asyncio.gather(*jobs)
        names = [path.name.casefold() for job in jobs for path in job.paths]
        assert len(set(names)) == 6


async def test_no_more_downloads_run_concurrently_than_allowed(tmp_path: Path) -> None:
    """`max_downloads=2` is kept with twenty clips waiting."""
    running = most = 0

    async with hosting() as host:

        async def count(request: web.BaseRequest) -> web.StreamResponse:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                await asyncio.sleep(0.02)
                return await host.send(request)
            finally:
                running -= 1

        host.always = count
        async with client_of(host, tmp_path, limits=Limits(max_downloads=2)) as client:
            await asyncio.gather(*(client.submit(f"p{number}") for number in range(20)))
    assert most == 2


@pytest.mark.parametrize("after", slow_after(2, [0.05, 0.1, 0.0, 0.02, 0.15]))
async def test_leaving_during_downloads_leaves_no_incomplete_clip(tmp_path: Path, after: float) -> None:
    """Left by an exception while ten clips are being transferred: each final name is a complete clip or absent."""
    async with hosting() as host:
        host.always = host.sending(cut=250_000, stall=False)
        async with watched(tmp_path), left_by_error(client_of(host, tmp_path)) as client:
            jobs = [client.submit(f"p{number}") for number in range(10)]
            await jobs[9].accepted()
            await asyncio.sleep(after)
    assert all(job.done() for job in jobs)


async def test_a_cancelled_job_leaves_no_part_file(tmp_path: Path) -> None:
    """Cancelling a job during its transfer removes what was received; other jobs are downloaded."""
    async with hosting() as host, client_of(host, tmp_path) as client:

        async def slow(request: web.BaseRequest) -> web.StreamResponse:
            return await host.send_slowly(request, pieces=96, pause=0.01)

        host.answers = [slow]
        job = client.submit("p", key="k")
        await _until(job, JobStatus.DOWNLOADING)
        await asyncio.sleep(0.1)
        assert job.cancel()
        assert (await client.submit("q", key="q")).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["q.mp4"]


async def _until(job: Job, status: JobStatus) -> None:
    async with asyncio.timeout(10):
        while job.status is not status:
            await asyncio.sleep(0.005)
