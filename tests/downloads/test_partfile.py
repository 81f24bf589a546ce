"""Clips on real disks: full ones, missing folders, files in the way. Other jobs continue, and paid clips can follow."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import DownloadError, JobStatus
from tests.support.clip_host import CLIP, client_of, download, hosting
from tests.support.fakes import mp4
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from aiohttp import web

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


async def test_a_full_disk_makes_the_job_download_failed(tmp_path: Path) -> None:
    """The error names file and cause, other jobs continue, and resume downloads the clip later without paying."""
    async with hosting() as host, client_of(host, tmp_path) as client:
        (tmp_path / "full.mp4.part").symlink_to("/dev/full")
        full, fine = client.submit("p", key="full"), client.submit("q", key="fine")
        with pytest.raises(DownloadError, match="No space left") as caught:
            await full
        assert "full.mp4" in str(caught.value)
        assert caught.value.path == str(tmp_path / "full.mp4")
        assert await fine
        assert full.status is JobStatus.DOWNLOAD_FAILED
        (tmp_path / "full.mp4.part").unlink()
        assert (await (await resumed(client))[0]).read_bytes() == CLIP
        assert host.posts == 2


async def test_a_folder_that_cannot_be_created_stops_submits() -> None:
    """Without permission (here: a kernel folder) the error has the cause."""
    folder = Path("/sys/omni")
    async with hosting() as host, client_of(host, folder) as client:
        with pytest.raises(DownloadError, match=r"ermission|permitted|Read-only|omni"):
            await client.submit("p", key="k")


async def test_a_folder_that_is_a_file_stops_submits(tmp_path: Path) -> None:
    """An output folder whose name is a file is an error that names it."""
    (tmp_path / "file").write_text("x")
    async with hosting() as host, client_of(host, tmp_path / "file") as client:
        with pytest.raises(DownloadError, match="file"):
            await client.submit("p", key="k")


async def test_a_clip_whose_name_is_a_folder_is_download_failed(tmp_path: Path) -> None:
    """If `<key>.mp4` is a folder, the job is download_failed, and the folder is left alone."""
    (tmp_path / "k.mp4").mkdir()
    async with hosting() as host, client_of(host, tmp_path) as client:
        with pytest.raises(DownloadError, match=r"k\.mp4"):
            await client.submit("p", key="k")
        assert (tmp_path / "k.mp4").is_dir()
        assert (await client.submit("q")).is_file()


async def test_a_folder_removed_during_a_transfer_is_created_again(tmp_path: Path) -> None:
    """It is created again before the first byte is written."""
    folder = tmp_path / "out"
    async with hosting() as host:

        async def remove(request: web.BaseRequest) -> web.StreamResponse:
            shutil.rmtree(folder)
            return await host.send(request)

        host.answers = [remove]
        async with client_of(host, folder) as client:
            path = await client.submit("p", key="k")
            assert path.read_bytes() == CLIP
        assert host.posts == 1


async def test_an_existing_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """A file of that name from elsewhere is a complete clip at every moment."""
    (tmp_path / "k.mp4").write_bytes(mp4("old", 10))
    async with hosting() as host:
        assert (await download(host, tmp_path)).read_bytes() == CLIP


async def test_a_part_file_without_a_checkpoint_is_not_used(tmp_path: Path) -> None:
    """What an earlier run left in a part file without recording it does not get into the clip."""
    (tmp_path / "k.mp4.part").write_bytes(b"x" * 700_000)
    async with hosting() as host:
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert not (tmp_path / "k.mp4.part").exists()


async def test_the_event_loop_is_not_blocked_by_writing(tmp_path: Path) -> None:
    """Files are synced in threads, never in the thread of the event loop."""
    loop_thread, calls_in_loop = threading.get_ident(), list[str]()
    real = os.fsync

    def fsync(descriptor: Any) -> None:
        if threading.get_ident() == loop_thread:
            calls_in_loop.append("fsync")
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        async with hosting() as host:
            await download(host, tmp_path)
    assert not calls_in_loop
