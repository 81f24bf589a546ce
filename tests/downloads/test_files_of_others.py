"""What others have put under the name of a clip stays as it is, and the clip gets a marked name, once and for good."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import DownloadError, JobStatus, OmniClient, Polling
from omni_async.downloads import partfile
from omni_async.downloads.partfile import PartFile
from omni_async.files import publish
from tests.support.clip_host import CLIP, KEY, QUICK, ImpatientClient, announcing, client_of, download, hosting
from tests.support.fakes import left_by_error, mp4
from tests.support.markers import slow_after
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aiohttp import web

    from tests.support.clip_host import Host

pytestmark = pytest.mark.timeout(60)

OTHER = mp4("another clip", 50_000)


def _link(path: Path, content: bytes) -> None:
    path.with_name("target").write_bytes(content)
    path.symlink_to("target")


THINGS: dict[str, Callable[[Path], object]] = {
    "a text": lambda path: path.write_text("mine"),
    "an empty file": lambda path: path.touch(),
    "a clip": lambda path: path.write_bytes(OTHER),
    "a part of the clip": lambda path: path.write_bytes(CLIP[:-1]),
    "a file of the same size": lambda path: path.write_bytes(CLIP[:-1] + b"?"),
    "a folder": lambda path: path.mkdir(),
    "a full folder": lambda path: (path / "x").mkdir(parents=True),
    "a link to a file": lambda path: _link(path, b"mine"),
    "a link to the clip": lambda path: _link(path, CLIP),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to a device": lambda path: path.symlink_to("/dev/full"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a pipe": os.mkfifo,
}


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


def state(path: Path) -> tuple[Any, ...]:
    """Return everything about a file that a change would show."""
    status = path.lstat()
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    link = path.readlink() if path.is_symlink() else None
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_nlink, content, link


@pytest.mark.parametrize("suffix", ["", ".part"], ids=["clip", "part"])
@pytest.mark.parametrize("thing", slow_after(6, THINGS))
async def test_a_file_of_others_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, thing: str, suffix: str
) -> None:
    """The clip is whole under a marked name, and one warning says which file stayed and where the clip is."""
    theirs = tmp_path / f"k.mp4{suffix}"
    THINGS[thing](theirs)
    before, others = state(theirs), {each.name for each in tmp_path.iterdir()}
    async with hosting() as host, client_of(host, tmp_path) as client:
        job = client.submit("p", key="k")
        path = await asyncio.wait_for(job, 20)
        assert job.paths == (path,)
        assert path == tmp_path / "k-new.mp4"
    assert path.read_bytes() == CLIP
    assert state(theirs) == before
    assert {each.name for each in tmp_path.iterdir()} == others | {"k-new.mp4"}
    if thing == "a link to a file":
        assert (tmp_path / "target").read_text() == "mine"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(theirs) in warning
    assert "k-new.mp4" in warning
    assert len(host.requests) == 1


async def test_further_videos_are_marked_one_by_one(tmp_path: Path) -> None:
    """Only the video whose name is taken has another one."""
    (tmp_path / "k-2.mp4").write_text("mine")
    async with hosting(videos=3) as host, client_of(host, tmp_path) as client:
        job = client.submit("p", key="k")
        await job
        assert [path.name for path in job.paths] == ["k.mp4", "k-2-new.mp4", "k-3.mp4"]
    assert (tmp_path / "k-2.mp4").read_text() == "mine"


async def test_marked_names_that_are_taken_are_skipped(tmp_path: Path) -> None:
    """By files, and by other jobs of the ledger."""
    for name in ("k.mp4", "k-new.mp4"):
        (tmp_path / name).write_text("mine")
    async with hosting() as host, client_of(host, tmp_path) as client:
        other = client.submit("q", key="k-new2")
        assert (await other).name == "k-new2.mp4"
        assert (await client.submit("p", key="k")).name == "k-new3.mp4"


async def test_the_same_content_is_the_clip(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is the clip already, byte for byte, is kept under its name: nothing is stored twice."""
    (tmp_path / "k.mp4").write_bytes(CLIP)
    inode = (tmp_path / "k.mp4").stat().st_ino
    async with hosting() as host:
        assert await download(host, tmp_path) == tmp_path / "k.mp4"
    assert [each.name for each in tmp_path.iterdir()] == ["k.mp4"]
    assert (tmp_path / "k.mp4").stat().st_ino == inode
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_a_file_that_appears_during_the_transfer_stays(tmp_path: Path) -> None:
    """The name is given in one step, so there is no moment between a look and a rename."""
    async with hosting() as host:

        async def appear(request: web.BaseRequest) -> web.StreamResponse:
            (tmp_path / "k.mp4").write_text("mine")
            return await host.send(request)

        host.answers = [appear]
        assert await download_unwatched(host, tmp_path) == tmp_path / "k-new.mp4"
    assert (tmp_path / "k.mp4").read_text() == "mine"


async def download_unwatched(host: Host, folder: Path) -> Path:
    """Return the clip of one job, in a folder where others write."""
    async with client_of(host, folder) as client:
        return await asyncio.wait_for(client.submit("p", key="k"), 20)


async def test_a_file_that_appears_at_the_last_moment_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last look, and before the clip gets its name."""

    def publish_late(source: Path, path: Path) -> None:
        if path.name == "k.mp4":
            path.write_text("mine")
        publish(source, path)

    monkeypatch.setattr(partfile, "publish", publish_late)
    async with hosting() as host:
        path = await download_unwatched(host, tmp_path)
    assert (path.name, path.read_bytes()) == ("k-new.mp4", CLIP)
    assert (tmp_path / "k.mp4").read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["k-new.mp4", "k.mp4"]


async def test_two_clients_in_one_folder_keep_each_others_clips(tmp_path: Path) -> None:
    """Two ledgers do not know each other's keys: each job has a clip of its own, also while both are written."""
    async with hosting() as one, hosting(clip=OTHER) as other:

        async def slowly(request: web.BaseRequest) -> web.StreamResponse:
            return await one.send_slowly(request, pieces=3, pause=0.15)

        one.always = slowly
        async with client_of(one, tmp_path) as first, client_of(other, tmp_path) as second:
            jobs = [client.submit("p", key="k") for client in (first, second)]
            paths = [await asyncio.wait_for(job, 20) for job in jobs]
        assert [path.read_bytes() for path in paths] == [one.clip, other.clip]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["k-new.mp4", "k.mp4"]


async def test_a_part_file_with_a_second_name_is_not_written(tmp_path: Path) -> None:
    """A hard link would carry every byte into the other file."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    async with hosting() as host:

        async def link(request: web.BaseRequest) -> web.StreamResponse:
            os.link(mine, tmp_path / "k.mp4.part")
            os.utime(mine)
            return await host.send(request)

        host.answers = [link]
        assert (await download_unwatched(host, tmp_path)).name == "k-new.mp4"
    assert mine.read_text() == "mine"


# Later runs


@pytest.mark.parametrize("suffix", ["", ".part"], ids=["clip", "part"])
async def test_a_file_of_others_stays_when_a_failed_download_is_resumed(tmp_path: Path, suffix: str) -> None:
    """The first run failed before it wrote anything: what was there before it is not what it has left."""
    folder, ledger = tmp_path / "clips", tmp_path / "ledger.db"
    folder.mkdir()
    theirs = folder / f"k.mp4{suffix}"
    theirs.write_text("mine")
    async with hosting() as host:
        host.always = announcing(3 * 1024**3)  # above the limit, which is final
        async with client_with(host, folder, ledger) as client:
            with pytest.raises(DownloadError):
                await client.submit("p", key="k")
        host.always = None
        async with client_with(host, folder, ledger) as client:
            assert await client.submit("p", key="k") == folder / "k-new.mp4"
    assert theirs.read_text() == "mine"
    assert sorted(each.name for each in folder.iterdir()) == sorted([theirs.name, "k-new.mp4"])


def client_with(host: Host, folder: Path, ledger: Path) -> OmniClient:
    """Return a client with a ledger that outlives it."""
    polling = Polling(min_interval=0.02, max_interval=0.1)
    return ImpatientClient(KEY, base_url=host.url, output_dir=folder, ledger=ledger, retry=QUICK, polling=polling)


async def test_a_marked_name_stays(tmp_path: Path) -> None:
    """A later run finds the clip under it, and downloads it under it, also when the other file is gone."""
    folder, ledger = tmp_path / "clips", tmp_path / "ledger.db"
    folder.mkdir()
    (folder / "k.mp4").write_text("mine")
    async with hosting() as host:
        for step in range(4):
            async with client_with(host, folder, ledger) as client:
                assert await client.submit("p", key="k") == folder / "k-new.mp4"
            if step == 1:
                (folder / "k-new.mp4").unlink()
            if step == 2:
                (folder / "k.mp4").unlink()
                (folder / "k-new.mp4").unlink()
        assert host.posts == 1
        assert len(host.requests) == 3
    assert [each.name for each in folder.iterdir()] == ["k-new.mp4"]


async def test_a_clip_that_vanished_is_downloaded_under_its_own_name(tmp_path: Path) -> None:
    """The ledger knows it, so it is no file of others; the same for one that was damaged."""
    folder, ledger = tmp_path / "clips", tmp_path / "ledger.db"
    async with hosting() as host:
        for damage in ("none", "gone", "cut", "empty"):
            if damage == "gone":
                (folder / "k.mp4").unlink()
            elif damage != "none":
                os.truncate(folder / "k.mp4", 0 if damage == "empty" else 1000)
            async with client_with(host, folder, ledger) as client:
                path = await client.submit("p", key="k")
            assert (path, path.read_bytes()) == (folder / "k.mp4", CLIP)
        assert host.posts == 1
    assert [each.name for each in folder.iterdir()] == ["k.mp4"]


@pytest.mark.parametrize("thing", ["a folder", "a dangling link", "a link to a device", "a pipe"])
async def test_what_replaced_a_clip_that_vanished_stays(tmp_path: Path, thing: str) -> None:
    """That is not the clip that the ledger knows."""
    folder, ledger = tmp_path / "clips", tmp_path / "ledger.db"
    async with hosting() as host:
        async with client_with(host, folder, ledger) as client:
            await client.submit("p", key="k")
        (folder / "k.mp4").unlink()
        THINGS[thing](folder / "k.mp4")
        before = state(folder / "k.mp4")
        async with client_with(host, folder, ledger) as client:
            path = await asyncio.wait_for(client.submit("p", key="k"), 20)
    assert (path, path.read_bytes()) == (folder / "k-new.mp4", CLIP)
    assert state(folder / "k.mp4") == before


@pytest.mark.parametrize("moment", ["before its name", "with both names", "after its name"])
async def test_a_clip_that_was_stored_and_not_recorded_is_recognised(tmp_path: Path, moment: str) -> None:
    """A run that dies between the two leaves its own file: the next run stores no second one."""
    folder, ledger = tmp_path / "clips", tmp_path / "ledger.db"
    async with hosting() as host:
        host.always = host.sending(cut=1000)
        async with left_by_error(client_with(host, folder, ledger)) as client:
            job = client.submit("p", key="k")
            while job.status is not JobStatus.DOWNLOADING or not host.requests:
                await asyncio.sleep(0.01)
        host.always = None
        clip, part = folder / "k.mp4", folder / "k.mp4.part"
        part.write_bytes(CLIP)
        if moment != "before its name":
            os.link(part, clip)
        if moment == "after its name":
            part.unlink()
        async with client_with(host, folder, ledger) as client:
            (job,) = await resumed(client)
            assert await asyncio.wait_for(job, 20) == clip
        assert host.posts == 1
    assert clip.read_bytes() == CLIP
    assert [each.name for each in folder.iterdir()] == ["k.mp4"]


@pytest.mark.parametrize("is_moved", [True, False])
async def test_part_files_belong_to_a_folder(tmp_path: Path, is_moved: bool) -> None:
    """What an earlier run left is used again in a folder that was moved. In another folder it is somebody else's."""
    old, new, ledger = tmp_path / "old", tmp_path / "new", tmp_path / "ledger.db"
    async with hosting() as host:
        host.always = announcing(3 * 1024**3)
        async with client_with(host, old, ledger) as client:
            with pytest.raises(DownloadError):
                await client.submit("p", key="k")
        host.always = None
        if is_moved:
            old.rename(new)
        new.mkdir(exist_ok=True)
        (new / "k.mp4.part").write_text("a part")
        async with client_with(host, new, ledger) as client:
            path = await client.submit("p", key="k")
    assert path.read_bytes() == CLIP
    expected = {"k.mp4"} if is_moved else {"k-new.mp4", "k.mp4.part"}
    assert {each.name for each in new.iterdir()} == expected


async def test_a_deleted_ledger_leaves_its_clips(tmp_path: Path) -> None:
    """What was paid under it stays when the same key is made again."""
    folder, ledger = tmp_path / "clips", tmp_path / "ledger"
    contents = []
    async with hosting() as host:
        for clip in (CLIP, OTHER):
            host.clip = clip
            async with client_with(host, folder, ledger / "ledger.db") as client:
                contents.append((await client.submit("p", key="k")).read_bytes())
            shutil.rmtree(ledger)
    assert contents == [CLIP, OTHER]
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == {"k.mp4": CLIP, "k-new.mp4": OTHER}


def test_a_commit_can_be_repeated_under_another_name(tmp_path: Path) -> None:
    """What was written is kept; the last bytes are written once."""
    (tmp_path / "k.mp4").write_text("mine")
    file = PartFile(tmp_path / "k.mp4")
    file.append(CLIP[:1000])
    for name in ("k.mp4", "k-new.mp4"):
        file.rename(name)
        if name == "k.mp4":
            with pytest.raises(FileExistsError, match=r"k\.mp4"):
                file.commit(CLIP[1000:])
        else:
            assert file.commit(CLIP[1000:]) is None
    assert (tmp_path / "k-new.mp4").read_bytes() == CLIP
    assert not (tmp_path / "k.mp4.part").exists()
