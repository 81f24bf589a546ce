"""Clips can be kept anywhere: in a folder, or in any store that implements two small protocols."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import ClipStore, DownloadError, FolderClipStore, JobStatus, OmniClient
from omni_async.ledger import MemoryJobStore
from omni_async.testing import MemoryServer, fake_clips
from omni_async.testing.fake_clips import mp4
from tests.support.clip_stores import MemoryClipStore
from tests.support.fakes import left_by_error
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from omni_async.jobs.records import PartialDownload

CLIP = mp4("a clip")
NAME = "fox.mp4"


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ClipStore:
    """Return an empty store of each kind."""
    return FolderClipStore(tmp_path / "clips") if request.param == "folder" else MemoryClipStore(tmp_path / "clips")


# What every store does


async def test_a_clip_has_its_name_only_when_it_is_complete(store: ClipStore) -> None:
    """Before `commit` there is no clip of this name; afterwards there is."""
    await store.prepare()
    clip = store.partial(NAME)
    await clip.append(CLIP[:100])
    await clip.sync()
    assert not await store.has(NAME)
    assert await clip.commit(CLIP[100:]) is None
    clip.close()
    assert await store.has(NAME)


async def test_an_incomplete_clip_is_not_committed(store: ClipStore) -> None:
    """`commit` returns what is wrong with it; it can be begun again and completed then."""
    await store.prepare()
    clip = store.partial(NAME)
    await clip.append(CLIP[:-10])
    assert "does not end within" in str(await clip.commit(b""))
    assert not await store.has(NAME)
    await clip.truncate()
    assert await clip.commit(CLIP) is None
    clip.close()
    assert await store.has(NAME)


async def test_a_partial_clip_is_continued_where_it_was_synced(store: ClipStore) -> None:
    """A later run keeps the bytes that it asks for, and not those that came after them."""
    await store.prepare()
    first = store.partial(NAME)
    await first.append(CLIP[:500])
    await first.sync()
    first.close()
    second = store.partial(NAME)
    assert await second.open(300) == 300
    assert await second.commit(CLIP[300:]) is None
    second.close()
    assert await store.has(NAME)


async def test_nothing_is_kept_of_a_clip_that_is_shorter_than_recorded(store: ClipStore) -> None:
    """Asked for more bytes than there are, or for a clip that there is not, a store begins again."""
    await store.prepare()
    first = store.partial(NAME)
    await first.append(CLIP[:500])
    await first.sync()
    first.close()
    second, other = store.partial(NAME), store.partial("other.mp4")
    assert await second.open(501) == 0
    assert await second.commit(CLIP) is None
    assert await other.open(10) == 0
    second.close()
    other.close()


async def test_a_discarded_clip_is_gone(store: ClipStore) -> None:
    """A later run finds nothing of it."""
    await store.prepare()
    first = store.partial(NAME)
    await first.append(CLIP[:500])
    await first.sync()
    await first.discard()
    first.close()
    second = store.partial(NAME)
    assert await second.open(500) == 0
    second.close()
    assert not await store.has(NAME)


async def test_a_relative_folder_is_made_absolute_immediately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder store keeps its folder when the program changes its working directory."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = FolderClipStore("clips")
    monkeypatch.chdir(tmp_path / "elsewhere")
    await store.prepare()
    assert store.root == tmp_path / "clips"
    assert store.root.is_dir()


# A client over a store that is no folder


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every attempt to open, create or rename a file fail."""

    def refuse(*arguments: Any, **_: Any) -> Any:
        raise AssertionError(f"a file was used: {arguments[0]}")

    for owner, name in ((os, "open"), (os, "mkdir"), (os, "replace"), (Path, "open"), (Path, "mkdir")):
        monkeypatch.setattr(owner, name, refuse)


@pytest.mark.usefixtures("no_files")
async def test_a_client_uses_no_file_where_clips_are_kept_elsewhere() -> None:
    """In a complete run, clips are in the store, and jobs name the paths that the store gives them."""
    server, clips = MemoryServer(), MemoryClipStore()
    async with server.client("/nowhere/clips", clip_store=clips) as client:
        jobs = [client.submit(prompt, key=prompt) for prompt in ("one", "two")]
        paths = [await job for job in jobs]
        assert paths == [clips.root / "one.mp4", clips.root / "two.mp4"]
        assert [job.paths for job in jobs] == [(path,) for path in paths]
    assert clips.clips == {f"{job.key}.mp4": mp4(f"https://cdn.test/{job.task_id}.mp4") for job in jobs}
    assert not clips.open_clips
    assert not Path("/nowhere").exists()


@pytest.mark.usefixtures("no_files")
async def test_a_broken_transfer_is_resumed_from_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client is left in the middle of a clip; the next one requests the rest and pays nothing."""
    monkeypatch.setattr(fake_clips, "_SECONDS_PER_CHUNK", 0.4)
    server, clips, ledger = MemoryServer(), MemoryClipStore(), MemoryJobStore()
    settings: dict[str, Any] = {"clip_store": clips, "ledger": ledger}
    async with left_by_error(server.client("/nowhere/clips", **settings)) as client:
        job = client.submit("a fox", key="fox")
        checkpoint: PartialDownload | None = None
        while checkpoint is None:
            await asyncio.sleep(0.1)
            record = await ledger.find("fox")
            checkpoint = record.partial_download if record else None
    assert not clips.open_clips
    assert len(clips.partial_clips["fox.mp4"]) == checkpoint.offset
    async with server.client("/nowhere/clips", **settings) as client:
        (job,) = await resumed(client)
        assert await job == clips.root / "fox.mp4"
    assert clips.clips["fox.mp4"] == mp4(f"https://cdn.test/{job.task_id}.mp4")
    assert [headers.get("Range") for _, _, headers in server.downloads] == [None, f"bytes={checkpoint.offset}-"]
    assert len(server.posts) == 1


@pytest.mark.usefixtures("no_files")
async def test_a_clip_that_is_in_the_store_is_not_downloaded_again() -> None:
    """The same key resolves to the earlier clip, and is downloaded again once the store has lost it."""
    server, clips, ledger = MemoryServer(), MemoryClipStore(), MemoryJobStore()
    for downloads in (1, 1, 2):
        if downloads == 2:
            clips.clips["fox.mp4"] = clips.clips["fox.mp4"][:-1]
        async with server.client("/nowhere/clips", clip_store=clips, ledger=ledger) as client:
            assert await client.submit("a fox", key="fox") == clips.root / "fox.mp4"
        assert len(server.downloads) == downloads
    assert len(server.posts) == 1


async def test_a_store_that_cannot_keep_a_clip_makes_the_job_download_failed() -> None:
    """`OSError` of a store ends the download with its reason; other jobs continue, and `resume` needs no payment."""

    class FullStore(MemoryClipStore):
        def partial(self, name: str, **facts: Any) -> Any:
            clip = super().partial(name, **facts)
            if name == "fox.mp4" and is_full:
                clip.commit = _fail  # type: ignore[method-assign]
            return clip

    async def _fail(last: bytes | bytearray = b"") -> str | None:
        raise OSError(28, "No space left in the bucket")

    is_full = True
    server, clips = MemoryServer(), FullStore()
    async with server.client("/nowhere/clips", clip_store=clips) as client:
        job, other = client.submit("a fox", key="fox"), client.submit("a hen", key="hen")
        with pytest.raises(DownloadError, match=r"/memory/clips/fox\.mp4 could not be stored: No space left") as caught:
            await job
        assert caught.value.path == str(clips.root / "fox.mp4")
        assert job.status is JobStatus.DOWNLOAD_FAILED
        await other
        is_full = False
        (again,) = await resumed(client)
        await again
    assert set(clips.clips) == {"fox.mp4", "hen.mp4"}
    assert len(server.posts) == 2


async def test_a_store_that_is_not_ready_stops_submits() -> None:
    """If `prepare` fails, nothing is sent and nothing is paid."""

    class MissingStore(MemoryClipStore):
        async def prepare(self) -> None:
            raise OSError(2, "No such bucket", "bucket")

    server = MemoryServer()
    async with server.client("/nowhere/clips", clip_store=MissingStore()) as client:
        with pytest.raises(DownloadError, match=r"No such bucket \(bucket\)"):
            await client.submit("a fox", key="fox")
    assert not server.posts


def test_the_repr_of_a_client_names_the_store() -> None:
    """It shows where clips are stored."""
    client = OmniClient("sk-test", output_dir="clips", clip_store=MemoryClipStore())
    assert "output_dir='/memory/clips'" in repr(client)
