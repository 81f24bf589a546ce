"""Downloads across restarts: a part file is continued if it still fits, and two versions are never mixed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import DownloadError
from omni_async.downloads import mp4
from omni_async.sandbox import Sandbox
from omni_async.sandbox.clips import distinct_clip
from tests.support.crash import DRIVER
from tests.support.restarts import Service
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from omni_async.sandbox.tasks import Task

pytestmark = pytest.mark.slow

pytest.importorskip("av", reason="the sandbox renders clips with the extra `media`")

SIZE = 900_000


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """Open a sandbox whose clips take three seconds each."""
    speed: dict[str, Any] = {"clip_bytes": SIZE, "cdn_rate": SIZE / 3}
    async with Sandbox(prerendered=True, median=0.1, sigma=0.01, seconds=5, **speed) as sandbox:
        yield Service(sandbox, tmp_path / "clips")


def speed_up(service: Service) -> None:
    """Let the rest of the clips arrive fast."""
    object.__setattr__(service.sandbox.settings, "cdn_rate", None)


async def kill_in_the_middle(service: Service, old_offset: int | None = None) -> Path:
    """Start a process that makes one clip, and return its part file.

    It is killed when it has recorded another checkpoint than that at `old_offset`, or none in its place.
    """

    def offset() -> int | None:
        checkpoint = service.row("k000").partial_download
        return None if checkpoint is None else checkpoint.offset

    orders = {"base_url": service.sandbox.base_url, "folder": str(service.folder), "jobs": 1, "chains": 0}
    process = await asyncio.create_subprocess_exec(sys.executable, str(DRIVER), json.dumps(orders))
    part = service.folder / "k000.mp4.part"
    try:
        async with asyncio.timeout(20):
            while not part.exists() or offset() == old_offset:
                await asyncio.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert part.stat().st_size < SIZE
    return part


def only_task(service: Service) -> Task:
    """Return the one task of the sandbox."""
    (task,) = service.sandbox._runner.tasks.values()
    return task


def clip_of(service: Service) -> bytes:
    """Return the bytes of its clip."""
    return only_task(service).clips[0].read(0, SIZE)


async def test_a_killed_download_continues_where_it_was(service: Service) -> None:
    """After SIGKILL the next run requests the rest with Range, and the clip is the same byte for byte."""
    await kill_in_the_middle(service)
    checkpoint = service.row("k000").partial_download
    assert checkpoint is not None
    assert 0 < checkpoint.offset < SIZE
    assert (checkpoint.index, checkpoint.total) == (0, SIZE)
    speed_up(service)
    sent = service.sandbox.record.bytes_sent
    async with service.client() as client:
        (job,) = await resumed(client)
        path = await job
    assert path.read_bytes() == clip_of(service)
    assert service.sandbox.record.range_requests == 1
    assert service.sandbox.record.bytes_sent - sent == SIZE - checkpoint.offset
    assert service.sandbox.record.submits == 1
    assert service.row("k000").partial_download is None


@pytest.mark.parametrize("validators", ["etag", "none"])
async def test_a_clip_that_changed_in_between_is_downloaded_again(service: Service, validators: str) -> None:
    """With another version at the URL, no byte of the old one is in the file, even without any validator."""
    await kill_in_the_middle(service)
    task = only_task(service)
    content = task.clips[0].read(0, task.clips[0].source_size)
    size = SIZE if validators == "etag" else SIZE + 4096  # without a validator only the size shows the change
    task.clips[0] = distinct_clip(content, "another version" * 20_000, size)
    if validators == "none":
        service.set_row("k000", partial_download=json.dumps({"index": 0, "offset": 300_000, "total": SIZE}))
    speed_up(service)
    async with service.client() as client:
        (job,) = await resumed(client)
        path = await job
    assert path.read_bytes() == task.clips[0].read(0, size)
    assert b"another version" in path.read_bytes()


@pytest.mark.parametrize("damage", ["gone", "shorter", "longer", "no ranges"])
async def test_a_changed_part_file_is_not_trusted(service: Service, damage: str) -> None:
    """If it is gone or shorter, or the host knows no ranges: from the start. If longer: only recorded bytes count."""
    part = await kill_in_the_middle(service)
    checkpoint = service.row("k000").partial_download
    assert checkpoint is not None
    if damage == "gone":
        part.unlink()
    elif damage == "shorter":
        os.truncate(part, checkpoint.offset - 1)
    elif damage == "longer":
        with part.open("r+b") as file:
            file.truncate(checkpoint.offset)
            file.seek(0, os.SEEK_END)
            file.write(b"never synced" * 10_000)
    else:
        service.sandbox.script("clip", ["no_range"])
    speed_up(service)
    async with service.client() as client:
        (job,) = await resumed(client)
        path = await job
    assert path.read_bytes() == clip_of(service)
    assert service.sandbox.record.range_requests == (damage in {"longer", "no ranges"})


async def test_a_checkpoint_without_its_part_file_is_cleared(service: Service) -> None:
    """The clip begins again. From then on no later run may take its new part file for the old one."""
    part = await kill_in_the_middle(service)
    before = service.row("k000").partial_download
    assert before is not None
    nearly_all = {"offset": SIZE - 1, "index": 0, "total": SIZE, "validator": before.validator, "etag": before.etag}
    service.set_row("k000", partial_download=json.dumps(nearly_all))
    part.unlink()
    await kill_in_the_middle(service, old_offset=SIZE - 1)
    assert service.row("k000").partial_download is None


async def test_a_kill_between_rename_and_row_does_no_harm(service: Service) -> None:
    """The clip has its name, but its row says downloading: it is completed by the next run, which pays nothing."""
    speed_up(service)
    async with service.client() as client:
        path = await client.submit("a fox", key="fox")
    service.set_row("fox", status="downloading", paths=None, finished_at=None)
    async with service.client() as client:
        (job,) = await resumed(client)
        assert await job == path
    assert path.read_bytes() == clip_of(service)
    assert mp4.find_defect(lambda at, length: path.read_bytes()[at : at + length], SIZE) is None
    assert service.submits == 1


async def test_the_second_video_of_a_task_is_continued(service: Service) -> None:
    """A checkpoint of the second video is used for the second, and both are complete in the end."""
    speed_up(service)
    object.__setattr__(service.sandbox.settings, "videos_per_task", 2)
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        await job
        assert [path.name for path in job.paths] == ["fox.mp4", "fox-2.mp4"]
        contents = [path.read_bytes() for path in job.paths]
    etag = only_task(service).clips[1].etag
    (service.folder / "fox-2.mp4").rename(service.folder / "fox-2.mp4.part")
    checkpoint = {"index": 1, "offset": 500_000, "total": SIZE, "validator": etag, "etag": etag}
    service.set_row("fox", status="downloading", paths=None, partial_download=json.dumps(checkpoint))
    async with service.client() as client:
        (job,) = await resumed(client)
        await job
        assert [path.read_bytes() for path in job.paths] == contents
    assert service.sandbox.record.range_requests == 1


async def test_a_folder_that_vanishes_makes_download_failed(service: Service) -> None:
    """The folder is removed and a file is in its place: the jobs are paid, and a later run downloads their clips."""
    ledger = service.folder.with_name("books.db")
    async with service.client(ledger=ledger) as client:
        job = client.submit("a fox", key="fox")
        while not list(service.folder.glob("*.part")):  # before that it may still create the folder
            await asyncio.sleep(0.01)
        other = client.submit("a hen", key="hen")
        shutil.rmtree(service.folder)
        service.folder.touch()
        speed_up(service)
        for each in (job, other):
            with pytest.raises(DownloadError, match=r"finished and paid.*could not be stored"):
                await each
        assert client.stop_error is None
    service.folder.unlink()
    async with service.client(ledger=ledger) as client:
        jobs = await resumed(client)
        assert len(jobs) == 2
        paths = await asyncio.gather(*jobs)
    assert all(path.is_file() for path in paths)
    assert service.submits == 2


async def test_a_full_disk_makes_download_failed_and_resume_downloads_later(service: Service, small_disk: Path) -> None:
    """The job is download_failed with the cause. With free space again its clip is downloaded without paying."""
    speed_up(service)
    service.folder = small_disk / "clips"
    ledger = small_disk.with_name("books.db")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(7_600_000))
    async with service.client(ledger=ledger) as client:
        with pytest.raises(DownloadError, match="No space left on device"):
            await client.submit("a fox", key="fox")
        assert client.stop_error is None
        assert client.statistics().unresolved == 1
    ballast.unlink()
    async with service.client(ledger=ledger) as client:
        (job,) = await resumed(client)
        assert (await job).read_bytes() == clip_of(service)
    assert service.submits == 1


async def test_a_part_file_that_cannot_be_removed_does_no_harm(service: Service) -> None:
    """A folder is where the part file of a cancelled job was: it stays, and the client continues."""
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        part = service.folder / "fox.mp4.part"
        async with asyncio.timeout(10):
            while not part.exists():
                await asyncio.sleep(0.01)
        part.unlink()
        part.mkdir()
        job.cancel()
        speed_up(service)
        assert (await client.submit("a hen", key="hen")).is_file()
    assert part.is_dir()
