"""The clips of a fleet: spooled by each worker, and published whole or not at all, into a folder or an object store."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import pytest
from aiohttp import web

from omni_async.files import NameTaken
from omni_async.fleet.clips import SpooledClipStore, clip_store
from omni_async.testing.fake_clips import mp4
from tests.support.markers import long_run
from tests.support.other_videos import OTHER_VIDEOS
from tests.support.s3_server import S3Server
from tests.support.tcp_proxy import tcp_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLIP = mp4("a clip")
NAME = "fox.mp4"
LARGE = mp4("a larger clip", size=1_000_000)  # 13 MB: three parts

KINDS = ["folder", "file", "memory", pytest.param("s3", marks=pytest.mark.slow)]


def make_store(kind: str, request: pytest.FixtureRequest, folder: Path, **settings: Any) -> SpooledClipStore:
    """Return an empty store of a kind."""
    if kind == "folder":
        destination = str(folder / "clips")
    elif kind == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        for name, value in server.variables().items():
            monkeypatch.setenv(name, value)
        destination = f"s3://{server.bucket}/{uuid4().hex}"
    else:
        pytest.importorskip("obstore")
        destination = "memory:///" if kind == "memory" else f"file://{folder}/objects"
    return clip_store(destination, folder / "spool", **settings)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SpooledClipStore]:
    """Return an empty store of each kind, ready for use."""
    store = make_store(request.param, request, tmp_path)
    await store.prepare()
    yield store
    await store.aclose()
    assert list((tmp_path / "spool").iterdir()) == []


async def content(store: SpooledClipStore, name: str, tmp_path: Path) -> bytes | None:
    """Return what is published under a name."""
    path = tmp_path / uuid4().hex
    return path.read_bytes() if await store.destination.copy_to(name, path) else None


async def put(store: SpooledClipStore, data: bytes, name: str = NAME) -> str | None:
    """Store a clip as the download stage does, in two pieces."""
    clip = store.partial(name)
    try:
        await clip.append(data[:100])
        await clip.sync()
        return await clip.commit(data[100:])
    finally:
        clip.close()


# What every store does


async def test_a_clip_has_its_name_only_when_it_is_complete(store: SpooledClipStore, tmp_path: Path) -> None:
    """Before `commit` there is nothing of this name; afterwards there is the whole clip."""
    clip = store.partial(NAME)
    await clip.append(CLIP[:100])
    assert not await store.has(NAME)
    assert await content(store, NAME, tmp_path) is None
    assert await clip.commit(CLIP[100:]) is None
    clip.close()
    assert await store.has(NAME)
    assert await content(store, NAME, tmp_path) == CLIP


@pytest.mark.slow
async def test_a_clip_of_several_parts_is_stored_whole(store: SpooledClipStore, tmp_path: Path) -> None:
    """A clip that is larger than one request of an object store arrives byte for byte."""
    assert await put(store, LARGE) is None
    assert await content(store, NAME, tmp_path) == LARGE


async def test_an_incomplete_clip_is_not_published(store: SpooledClipStore, tmp_path: Path) -> None:
    """`commit` says what is wrong with it; begun again and completed, it is published."""
    clip = store.partial(NAME)
    await clip.append(CLIP[:-10])
    assert "does not end within" in str(await clip.commit(b""))
    assert await content(store, NAME, tmp_path) is None
    await clip.truncate()
    assert await clip.commit(CLIP) is None
    clip.close()
    assert await content(store, NAME, tmp_path) == CLIP


async def test_two_workers_may_publish_the_same_clip(store: SpooledClipStore, tmp_path: Path) -> None:
    """Many transfers of one clip at the same time leave one clip, and none of them fails."""
    assert await asyncio.gather(*(put(store, CLIP) for _ in range(8))) == [None] * 8
    assert await content(store, NAME, tmp_path) == CLIP


async def test_what_others_have_put_there_stays(store: SpooledClipStore, tmp_path: Path) -> None:
    """Other bytes under the name are not replaced, be they as long or not; under another name the clip is stored."""
    for name, other in (("same-size.mp4", bytes(len(CLIP))), ("other-size.mp4", b"mine")):
        source = tmp_path / "mine"
        source.write_bytes(other)
        await store.destination.publish(source, name)
        clip = store.partial(name)
        await clip.append(CLIP[:100])
        with pytest.raises(NameTaken):
            await clip.commit(CLIP[100:])
        clip.rename(f"new-{name}")
        assert await clip.commit(CLIP[100:]) is None
        clip.close()
        assert await content(store, name, tmp_path) == other
        assert await content(store, f"new-{name}", tmp_path) == CLIP


async def test_a_discarded_clip_leaves_nothing(store: SpooledClipStore, tmp_path: Path) -> None:
    """Neither the spool nor the store holds any of it."""
    clip = store.partial(NAME)
    await clip.append(CLIP[:500])
    await clip.discard()
    clip.close()
    assert await content(store, NAME, tmp_path) is None
    assert [path for path in (tmp_path / "spool").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["a b.mp4", "a%20b#c?é日本.mp4", "x&y+z~'!.mp4", "a..b.mp4", "(1) 🎬.mp4"])
async def test_names_are_kept_as_they_are(store: SpooledClipStore, tmp_path: Path, name: str) -> None:
    """Whatever characters a safe file name holds, the clip is found under it again."""
    assert await put(store, CLIP, name) is None
    assert await store.has(name)
    assert await content(store, name, tmp_path) == CLIP
    assert store.location(name).endswith(f"/{name}")


async def test_a_video_of_another_kind_is_kept_under_a_name_that_says_so(
    store: SpooledClipStore, tmp_path: Path
) -> None:
    """It was paid for. A complete clip that comes after it replaces it."""
    clip = store.partial(NAME)
    await clip.append(OTHER_VIDEOS["webm"])
    assert await clip.commit() is not None
    assert await clip.keep_unverified() == "fox.unverified.webm"
    assert await content(store, "fox.unverified.webm", tmp_path) == OTHER_VIDEOS["webm"]
    assert await content(store, NAME, tmp_path) is None
    assert await clip.commit(CLIP) is None
    clip.close()
    assert await content(store, NAME, tmp_path) == CLIP
    assert await content(store, "fox.unverified.webm", tmp_path) is None


async def test_inputs_are_kept_below_a_folder_of_their_own(store: SpooledClipStore, tmp_path: Path) -> None:
    """A file that is no clip may be published, under a name with a folder, as often as one likes."""
    source = tmp_path / "boat.png"
    source.write_bytes(b"picture")
    for _ in range(2):
        await store.destination.publish(source, "inputs/abc.png")
    assert await content(store, "inputs/abc.png", tmp_path) == b"picture"


async def test_a_copy_is_on_disk_and_replaces_nothing(
    store: SpooledClipStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy of a clip is flushed before it has its name, is kept when it is asked for again, and spares others."""
    assert await put(store, CLIP) is None
    target, synced = tmp_path / "here" / NAME, list[bool]()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(target.exists())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert await store.destination.copy_to(NAME, target)
    assert False in synced
    number = target.stat().st_ino
    assert await store.destination.copy_to(NAME, target)
    assert (target.read_bytes(), target.stat().st_ino) == (CLIP, number)
    target.write_bytes(b"mine")
    with pytest.raises(NameTaken):
        await store.destination.copy_to(NAME, target)
    assert target.read_bytes() == b"mine"
    assert not await store.destination.copy_to("missing.mp4", target)
    assert [path.name for path in target.parent.iterdir()] == [NAME]


async def test_a_source_that_breaks_leaves_nothing(store: SpooledClipStore, tmp_path: Path) -> None:
    """If the local file cannot be read, there is an error and no clip, not even a part of one."""
    with pytest.raises(OSError, match=r"."):
        await store.destination.publish(tmp_path / "not there", NAME)
    with pytest.raises(OSError, match=r"."):
        await store.destination.publish(tmp_path, NAME)
    assert await content(store, NAME, tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.1, *map(long_run, (0.003, 0.03))])
async def test_a_cancelled_upload_leaves_nothing_or_everything(
    store: SpooledClipStore, tmp_path: Path, seconds: float
) -> None:
    """However far it has come, there is a whole clip or none."""
    with anyio.move_on_after(seconds):
        await put(store, LARGE)
    await asyncio.sleep(0.2)
    assert await content(store, NAME, tmp_path) in {None, LARGE}


# Stores that fail


async def test_a_missing_bucket_is_said_at_the_beginning(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prepare` raises one line that names the bucket and the server's reason, and no credentials."""
    for name, value in s3_server.variables().items():
        monkeypatch.setenv(name, value)
    store = clip_store("s3://nowhere/x", tmp_path)
    with pytest.raises(OSError, match="s3://nowhere/x") as caught:
        await store.prepare()
    await store.aclose()
    assert "NoSuchBucket" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_credentials_that_may_not_list_are_said_at_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 then calls a missing object forbidden, so that a worker could store nothing: it does not even begin."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=403 if request.method == "HEAD" else 200, headers={"ETag": '"x"'})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for name, value in S3Server(runner.addresses[0][1]).variables().items():
        monkeypatch.setenv(name, value)
    store = clip_store("s3://clips/x", tmp_path)
    with pytest.raises(OSError, match="s3:ListBucket"):
        await store.prepare()
    await store.aclose()
    await runner.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["refuse", long_run("black_hole")])
async def test_a_store_that_is_away_for_ten_seconds_is_waited_for(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    """Clips that are verified meanwhile are kept and published; the user is told once that and why they wait."""
    async with tcp_proxy(s3_server.port) as proxy:
        for name, value in s3_server.variables(proxy.port).items():
            monkeypatch.setenv(name, value)
        store = clip_store(f"s3://{s3_server.bucket}/{harm}", tmp_path / "spool", give_up_after=60)
        await store.prepare()
        getattr(proxy, harm)()
        puts = [asyncio.create_task(put(store, CLIP, f"{number}.mp4")) for number in range(5)]
        await asyncio.sleep(10)
        assert not any(task.done() for task in puts)
        proxy.heal()
        assert await asyncio.wait_for(asyncio.gather(*puts), 60) == [None] * 5
        for number in range(5):
            assert await content(store, f"{number}.mp4", tmp_path) == CLIP
        await store.aclose()
    if harm == "refuse":
        assert [record.getMessage().partition(" in ")[0] for record in caplog.records] == [
            "clips cannot be stored",
            "clips are stored",
        ]


async def test_a_folder_that_vanishes_is_not_created_again(tmp_path: Path) -> None:
    """A network folder that is away is waited for: nothing is written to the disk below it. Then the clip is there."""
    store = clip_store(tmp_path / "clips", tmp_path / "spool", give_up_after=30)
    await store.prepare()
    (tmp_path / "clips").rename(tmp_path / "away")
    waiting = asyncio.create_task(put(store, CLIP))
    await asyncio.sleep(0.3)
    assert not (tmp_path / "clips").exists()
    (tmp_path / "away").rename(tmp_path / "clips")
    assert await asyncio.wait_for(waiting, 10) is None
    assert (tmp_path / "clips" / NAME).read_bytes() == CLIP
    await store.aclose()


@pytest.mark.usefixtures("small_disk")
async def test_another_file_system_under_the_folder_is_not_written_to(tmp_path: Path) -> None:
    """The folder is a mount point, and its file system is unmounted while the worker runs."""
    import subprocess

    folder = tmp_path / "disk"  # what `small_disk` has mounted
    store = clip_store(folder, tmp_path / "spool", give_up_after=0)
    await store.prepare()
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)
    try:
        with pytest.raises(OSError, match="no longer mounted"):
            await put(store, CLIP)
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True, timeout=10)  # for the fixture
    await store.aclose()


async def test_a_full_folder_keeps_no_part_of_a_clip(small_disk: Path, tmp_path: Path) -> None:
    """The error names the cause; when there is room again, the same clip is stored."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(8 * 1024**2 - 64 * 1024))
    store = clip_store(small_disk, tmp_path / "spool", give_up_after=0)
    clip = mp4("a clip that does not fit", size=10_000)
    await store.prepare()
    with pytest.raises(OSError, match="No space left"):
        await put(store, clip)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    filler.unlink()
    assert await put(store, clip) is None
    assert (small_disk / NAME).read_bytes() == clip
    await store.aclose()


async def test_a_folder_on_the_same_disk_needs_no_copy(tmp_path: Path) -> None:
    """The clip is linked into the folder, and the spool's name of it is removed."""
    store = clip_store(tmp_path / "clips", tmp_path / "spool")
    await store.prepare()
    await put(store, CLIP)
    assert (tmp_path / "clips" / NAME).stat().st_nlink == 1
    assert [path.name for path in (tmp_path / "clips").iterdir()] == [NAME]
    await store.aclose()


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///x", "s3://id:hunter2@bucket/x", "az://container/x?sig=hunter2", "gs://bucket#hunter2"]
)
def test_a_url_without_a_bucket_or_with_a_secret_is_refused(url: str) -> None:
    """The URL of a store is shown and recorded, so no secret may be in it; the error does not quote it."""
    with pytest.raises(ValueError, match="://BUCKET/PREFIX") as caught:
        clip_store(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://host/clips", "https://host/clips", "s3//bucket"])
def test_a_url_of_another_kind_is_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which URLs there are. Without ``://`` it is a folder."""
    monkeypatch.chdir(tmp_path)
    if "://" in url:
        with pytest.raises(ValueError, match="s3://, gs:// or az://"):
            clip_store(url)
    else:
        assert clip_store(url).location(NAME) == str(tmp_path / "s3/bucket" / NAME)
