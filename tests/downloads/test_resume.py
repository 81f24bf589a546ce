"""Downloads across restarts: on from the part file where it still fits, never two versions in one clip."""

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
from tests.client.test_resume import Service
from tests.support.crash import DRIVER
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from omni_async.sandbox.tasks import Task

pytest.importorskip("av", reason="the sandbox films with the extra `media`")

SIZE = 900_000


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A sandbox whose clips take three seconds each."""
    pace: dict[str, Any] = {"clip_bytes": SIZE, "cdn_rate": SIZE / 3}
    async with Sandbox(prerendered=True, median=0.1, sigma=0.01, seconds=5, **pace) as sandbox:
        yield Service(sandbox, tmp_path / "clips")


def hurry(service: Service) -> None:
    """Let the rest come fast."""
    object.__setattr__(service.sandbox.settings, "cdn_rate", None)


async def kill_in_the_middle(service: Service, seconds: float = 1.7) -> Path:
    """Start a process that makes one clip, and kill it when that is partly here; gives the part file."""
    orders = {"base_url": service.sandbox.base_url, "folder": str(service.folder), "jobs": 1, "chains": 0}
    process = await asyncio.create_subprocess_exec(sys.executable, str(DRIVER), json.dumps(orders))
    part = service.folder / "k000.mp4.part"
    try:
        async with asyncio.timeout(20):
            while not part.exists():
                await asyncio.sleep(0.02)
        await asyncio.sleep(seconds)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert part.stat().st_size < SIZE
    return part


def only_task(service: Service) -> Task:
    """The one task of the sandbox."""
    (task,) = service.sandbox._runner.tasks.values()
    return task


def whole(service: Service) -> bytes:
    """The bytes of its clip."""
    return only_task(service).clips[0].read(0, SIZE)


async def test_a_killed_download_goes_on_where_it_was(service: Service) -> None:
    """After SIGKILL the next run asks for the rest with Range, and the clip is the same to the byte."""
    await kill_in_the_middle(service)
    mark = service.row("k000").partial_download
    assert mark is not None
    assert 0 < mark.offset < SIZE
    assert (mark.index, mark.total) == (0, SIZE)
    hurry(service)
    sent = service.sandbox.record.bytes_sent
    async with service.client() as client:
        (job,) = await resumed(client)
        path = await job
    assert path.read_bytes() == whole(service)
    assert service.sandbox.record.range_requests == 1
    assert service.sandbox.record.bytes_sent - sent == SIZE - mark.offset
    assert service.sandbox.record.submits == 1
    assert service.row("k000").partial_download is None


@pytest.mark.parametrize("validators", ["etag", "none"])
async def test_a_clip_that_changed_in_between_is_fetched_anew(service: Service, validators: str) -> None:
    """With another version behind the link, not one byte of the old one is in the file, even without any validator."""
    await kill_in_the_middle(service)
    task = only_task(service)
    content = task.clips[0].read(0, task.clips[0].source_size)
    size = SIZE if validators == "etag" else SIZE + 4096  # without a validator the size is all there is to tell by
    task.clips[0] = distinct_clip(content, "another version" * 20_000, size)
    if validators == "none":
        service.set_row("k000", partial_download=json.dumps({"index": 0, "offset": 300_000, "total": SIZE}))
    hurry(service)
    async with service.client() as client:
        (job,) = await resumed(client)
        path = await job
    assert path.read_bytes() == task.clips[0].read(0, size)
    assert b"another version" in path.read_bytes()


@pytest.mark.parametrize("harm", ["gone", "shorter", "longer", "link fault"])
async def test_a_part_file_that_is_not_what_it_was(service: Service, harm: str) -> None:
    """Gone or shorter: from the start. Longer: only what was made sure counts. No Range there: from the start."""
    part = await kill_in_the_middle(service)
    mark = service.row("k000").partial_download
    assert mark is not None
    if harm == "gone":
        part.unlink()
    elif harm == "shorter":
        os.truncate(part, mark.offset - 1)
    elif harm == "longer":
        with part.open("r+b") as file:
            file.truncate(mark.offset)
            file.seek(0, os.SEEK_END)
            file.write(b"never made sure" * 10_000)
    else:
        service.sandbox.script("clip", ["no_range"])
    hurry(service)
    async with service.client() as client:
        (job,) = await resumed(client)
        path = await job
    assert path.read_bytes() == whole(service)
    assert service.sandbox.record.range_requests == (harm in {"longer", "link fault"})


async def test_a_mark_without_its_part_file_is_taken_back(service: Service) -> None:
    """Once the start over has begun, no later run may believe that the new part file holds the old bytes."""
    part = await kill_in_the_middle(service)
    before = service.row("k000").partial_download
    assert before is not None
    nearly_all = {"offset": SIZE - 1, "index": 0, "total": SIZE, "validator": before.validator, "etag": before.etag}
    service.set_row("k000", partial_download=json.dumps(nearly_all))
    part.unlink()
    part = await kill_in_the_middle(service, seconds=0.0)
    after = service.row("k000").partial_download
    assert after is None or after.offset <= part.stat().st_size


async def test_a_rename_without_its_row_is_no_harm(service: Service) -> None:
    """Killed between the rename and the row, the clip is there, the row says downloading; it ends completed, unpaid."""
    hurry(service)
    async with service.client() as client:
        path = await client.submit("a fox", key="fox")
    service.set_row("fox", status="downloading", paths=None, finished_at=None)
    async with service.client() as client:
        (job,) = await resumed(client)
        assert await job == path
    assert path.read_bytes() == whole(service)
    assert mp4.find_defect(lambda at, length: path.read_bytes()[at : at + length], SIZE) is None
    assert service.submits == 1


async def test_two_videos_go_on_one_by_one(service: Service) -> None:
    """A mark in the second video is used for the second, and both are whole in the end."""
    hurry(service)
    object.__setattr__(service.sandbox.settings, "videos_per_task", 2)
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        await job
        assert [path.name for path in job.paths] == ["fox.mp4", "fox-2.mp4"]
        contents = [path.read_bytes() for path in job.paths]
    etag = only_task(service).clips[1].etag
    (service.folder / "fox-2.mp4").rename(service.folder / "fox-2.mp4.part")
    mark = {"index": 1, "offset": 500_000, "total": SIZE, "validator": etag, "etag": etag}
    service.set_row("fox", status="downloading", paths=None, partial_download=json.dumps(mark))
    async with service.client() as client:
        (job,) = await resumed(client)
        await job
        assert [path.read_bytes() for path in job.paths] == contents
    assert service.sandbox.record.range_requests == 1


async def test_a_folder_that_vanishes_makes_download_failed(service: Service) -> None:
    """The folder goes in the middle of a run, and something else stands in its way: paid, kept, fetched later."""
    books = service.folder.with_name("books.db")
    async with service.client(ledger=books) as client:
        job = client.submit("a fox", key="fox")
        while not list(service.folder.glob("*.part")):  # else it may just be making the folder
            await asyncio.sleep(0.01)
        other = client.submit("a hen", key="hen")
        shutil.rmtree(service.folder)
        service.folder.touch()
        hurry(service)
        for each in (job, other):
            with pytest.raises(DownloadError, match=r"finished and paid.*could not be stored"):
                await each
        assert client.stop_error is None
    service.folder.unlink()
    async with service.client(ledger=books) as client:
        jobs = await resumed(client)
        assert len(jobs) == 2
        paths = await asyncio.gather(*jobs)
    assert all(path.is_file() for path in paths)
    assert service.submits == 2


async def test_a_full_disk_makes_download_failed_and_later_resume_fetches(service: Service, small_disk: Path) -> None:
    """Clips on a disk that is full: the job is download_failed with the cause; with room again it is fetched, unpaid."""
    hurry(service)
    service.folder = small_disk / "clips"
    books = small_disk.with_name("books.db")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(7_600_000))
    async with service.client(ledger=books) as client:
        with pytest.raises(DownloadError, match="No space left on device"):
            await client.submit("a fox", key="fox")
        assert client.stop_error is None
        assert client.statistics().unresolved == 1
    ballast.unlink()
    async with service.client(ledger=books) as client:
        (job,) = await resumed(client)
        assert (await job).read_bytes() == whole(service)
    assert service.submits == 1


async def test_a_part_file_that_cannot_be_removed_harms_nobody(service: Service) -> None:
    """Something stands where the part file of a cancelled job was; it stays, and the client goes on."""
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        part = service.folder / "fox.mp4.part"
        async with asyncio.timeout(10):
            while not part.exists():
                await asyncio.sleep(0.01)
        part.unlink()
        part.mkdir()
        job.cancel()
        hurry(service)
        assert (await client.submit("a hen", key="hen")).is_file()
    assert part.is_dir()
