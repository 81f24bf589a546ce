"""A large clip is made durable while it arrives, and what goes wrong with that is not lost."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omni_async import FolderClipStore
from omni_async.downloads import mp4, partfile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omni_async.downloads.clip_store import FolderPartialClip

PIECE = 1024 * 1024
PIECES = 20


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time: threads write."""
    return "asyncio"


def _pieces() -> Iterator[bytes]:
    """Yield the pieces of a large clip."""
    head = (16).to_bytes(4, "big") + b"ftypisom" + bytes(4) + (8).to_bytes(4, "big") + b"moov"
    size = PIECE * PIECES - len(head)
    yield head + size.to_bytes(4, "big") + b"mdat" + bytes(PIECE - len(head) - 8)
    for number in range(1, PIECES):
        yield bytes([number]) * PIECE


def _open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def _clip(folder: Path) -> tuple[FolderClipStore, FolderPartialClip]:
    store = FolderClipStore(folder)
    await store.prepare()
    return store, store.partial("fox.mp4")


async def test_a_large_clip_is_flushed_while_it_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data is synced twice before its end, in other threads than the event loop's, and it is whole."""
    threads: list[int] = []
    monkeypatch.setattr(partfile, "_sync_data", lambda _: threads.append(threading.get_ident()))
    store, clip = await _clip(tmp_path)
    for piece in _pieces():
        await clip.append(piece)
    assert await clip.commit() is None
    clip.close()
    assert len(threads) == 2
    assert threading.get_ident() not in threads
    assert mp4.find_defect_in((tmp_path / "fox.mp4").read_bytes()) is None
    assert await store.has("fox.mp4")


async def test_a_failed_flush_fails_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system reports a write that failed to one sync only: the clip must not be published after that."""

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(partfile, "_sync_data", fail)
    _, clip = await _clip(tmp_path)
    pieces = list(_pieces())
    for piece in pieces[:15]:  # the first flush begins after eight
        await clip.append(piece)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        await clip.append(pieces[15])
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        await clip.commit()
    clip.close()
    assert not (tmp_path / "fox.mp4").exists()


async def test_a_clip_may_be_closed_during_a_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled transfer neither waits for the flush nor hears of its failure, and no descriptor stays open."""
    before, may_go_on = _open_descriptors(), threading.Event()

    def fail_late(_: int) -> None:
        may_go_on.wait(30)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(partfile, "_sync_data", fail_late)
    _, clip = await _clip(tmp_path)
    for piece in list(_pieces())[:9]:
        await clip.append(piece)
    waiting = asyncio.create_task(clip.commit())
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    clip.close()
    may_go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert _open_descriptors() == before


async def test_a_clip_needs_no_descriptor_for_flushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a free one, all of it is left to the sync at the end."""

    def fail(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "dup", fail)
    store, clip = await _clip(tmp_path)
    for piece in _pieces():
        await clip.append(piece)
    assert await clip.commit() is None
    clip.close()
    assert await store.has("fox.mp4")
