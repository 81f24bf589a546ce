"""Clips on real disks: full ones, missing folders, files in the way. Other jobs continue, and paid clips can follow."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from omni_async import DownloadError, JobStatus
from omni_async.downloads.partfile import PartFile
from tests.support.clip_host import CLIP, client_of, download, hosting
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from aiohttp import web

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


async def test_a_full_disk_makes_the_job_download_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names file and cause, other jobs continue, and resume downloads the clip later without paying."""
    open_file = PartFile._open_locked

    def open_full(self: PartFile, *, exclusive: bool = False) -> BinaryIO:
        if self.path.name == "full.mp4":
            return Path("/dev/full").open("r+b", buffering=0)
        return open_file(self, exclusive=exclusive)

    monkeypatch.setattr(PartFile, "_open_locked", open_full)
    async with hosting() as host, client_of(host, tmp_path) as client:
        full, fine = client.submit("p", key="full"), client.submit("q", key="fine")
        with pytest.raises(DownloadError, match="No space left") as caught:
            await full
        assert "full.mp4" in str(caught.value)
        assert caught.value.path == str(tmp_path / "full.mp4")
        assert await fine
        assert full.status is JobStatus.DOWNLOAD_FAILED
        monkeypatch.undo()
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
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for name in ("file", "link"):
        async with hosting() as host, client_of(host, tmp_path / name) as client:
            with pytest.raises(DownloadError, match="it is a file or a broken link, not a folder") as caught:
                await client.submit("p", key="k")
            assert str(tmp_path / name) in str(caught.value)
            assert host.posts == 0


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


async def test_a_part_file_without_a_checkpoint_is_not_used(tmp_path: Path) -> None:
    """What an earlier run left in a part file without recording it does not get into the clip."""
    part = tmp_path / "k.mp4.part"
    part.write_bytes(b"x" * 700_000)
    file = PartFile(part.with_suffix(""), is_resumed=True)
    file.append(CLIP)
    assert part.read_bytes() == CLIP
    assert file.commit() is None
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("k.mp4", CLIP)]


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
