"""The spools of workers: they do not outlive them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio
import pytest

from omni_async.fleet.clips import SpooledClipStore, clip_store

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_killed_workers_have_left_is_removed_after_a_day(tmp_path: Path) -> None:
    """Spools and temporary copies that nothing was written to for a day are deleted, younger ones and others stay."""
    spool, clips = tmp_path / "spool", tmp_path / "clips"
    old, young = spool / "omni-async-spool-old", spool / "omni-async-spool-young"
    mine = spool / "mine"
    for folder in (old, young, mine, clips):
        folder.mkdir(parents=True)
        (folder / "a.part").write_bytes(b"x")
    (clips / ".fox.mp4.0123456789ab.part").write_bytes(b"x")
    (clips / ".hen.mp4.0123456789ab.part").write_bytes(b"x")
    yesterday = time.time() - 25 * 3600
    for path in (old, mine, clips / ".fox.mp4.0123456789ab.part", clips / "a.part"):
        os.utime(path, (yesterday, yesterday))
    store = clip_store(clips, spool)
    await store.prepare()
    await store.aclose()
    assert {path.name for path in spool.iterdir()} == {"mine", "omni-async-spool-young"}
    assert {path.name for path in clips.iterdir()} == {"a.part", ".hen.mp4.0123456789ab.part"}


@pytest.mark.parametrize("is_native", [False, True], ids=["scope", "task"])
async def test_a_store_that_is_cancelled_while_it_opens_leaves_no_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_native: bool
) -> None:
    """Neither where the thread that makes it is waited for (a cancel scope) nor where it is not (`task.cancel()`)."""
    may_begin, ended = threading.Event(), threading.Event()
    make_spool = SpooledClipStore._make_spool

    def make_late(self: SpooledClipStore, spool: Path) -> None:
        assert may_begin.wait(20)
        make_spool(self, spool)
        ended.set()

    async def use() -> None:
        with scope:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(store.aclose)
                await store.prepare()
                await asyncio.sleep(20)

    monkeypatch.setattr(SpooledClipStore, "_make_spool", make_late)
    store, scope = clip_store(tmp_path / "clips", tmp_path / "spool"), anyio.CancelScope()
    task = asyncio.create_task(use())
    await asyncio.sleep(0.05)
    if is_native:
        task.cancel()
        await asyncio.wait([task])
    else:
        scope.cancel()
    may_begin.set()
    await asyncio.wait([task])
    assert await asyncio.to_thread(ended.wait, 20)
    assert list((tmp_path / "spool").iterdir()) == []
