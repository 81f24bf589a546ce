"""A download slot is held while bytes may arrive, and left to others during a back-off."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from omni_async import DownloadError, Limits, Retry
from omni_async.downloads.slots import MAX_BACKING_OFF, DownloadSlots
from omni_async.timing import Clock
from tests.support.fakes import FakeClient, Server, left_by_error, response

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.api.parsing import Response

ONE = Limits(max_downloads=1)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


async def test_a_failing_download_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """With one slot and one clip that never arrives, the others arrive long before that one is given up."""
    server = Server()
    async with FakeClient(server, tmp_path, limits=ONE, retry=Retry(timeout=300)) as client:
        lost = client.submit("lost")
        lost_id = await lost.accepted()
        server.on_download = lambda url: response(503) if lost_id in url else None
        jobs = [client.submit(f"prompt {number}") for number in range(20)]
        began = now()
        await asyncio.gather(*jobs)
        took = now() - began
        assert not lost.done()
        with pytest.raises(DownloadError, match="HTTP 503"):
            await lost
    assert took < 60  # the retry timeout of the lost one is 300


async def test_waiting_for_a_slot_does_not_count_towards_the_timeout(tmp_path: Path) -> None:
    """A failing clip whose slot is taken for longer than the retry timeout still gets its next attempt."""
    server = Server()
    attempts = Counter[str]()

    def fail(url: str) -> Response | str | None:
        attempts[url] += 1
        if url == next(iter(attempts)):
            return response(503) if attempts[url] <= 2 else None
        return "stall" if attempts[url] == 1 else None  # holds the one slot for half a minute

    server.on_download = fail
    async with FakeClient(server, tmp_path, limits=ONE, retry=Retry(timeout=20)) as client:
        paths = await asyncio.gather(*(client.submit(f"prompt {number}") for number in range(2)))
    assert all(path.is_file() for path in paths)
    assert sorted(attempts.values()) == [2, 3]


async def test_failed_checks_and_failed_transfers_are_counted_apart(tmp_path: Path) -> None:
    """Five failed checks for each fresh URL, and eight URLs that do not work, are within the retry timeout."""
    server = Server(duration=0)
    checks = transfers = 0

    def check(_: str) -> Response | None:
        nonlocal checks
        checks += transfers > 0
        return response(502) if checks % 6 else None

    def transfer(_: str) -> Response | None:
        nonlocal transfers
        transfers += 1
        return response(404) if transfers <= 8 else None

    server.on_check, server.on_download = check, transfer
    async with FakeClient(server, tmp_path, retry=Retry(timeout=300)) as client:
        assert (await client.submit("a red apple")).is_file()
    assert (checks, transfers) == (48, 9)


async def test_a_slot_is_free_during_a_back_off() -> None:
    """Another transfer takes the slot meanwhile. Afterwards the first waits for it, and learns how long."""
    slots = DownloadSlots(1, Clock())
    first = await slots.acquire()
    back_off = asyncio.create_task(first.back_off(5))
    second = await slots.acquire()
    began = now()
    await asyncio.sleep(12)
    assert not back_off.done()
    second.release()
    assert await back_off == pytest.approx(7)
    assert now() - began == pytest.approx(12)


async def test_a_slot_released_twice_is_one_slot() -> None:
    """Releasing again, or after a cancelled back-off, does not make a second slot."""
    slots = DownloadSlots(1, Clock())
    slot = await slots.acquire()
    back_off = asyncio.create_task(slot.back_off(60))
    await asyncio.sleep(1)
    back_off.cancel()
    await asyncio.wait([back_off])
    slot.release()
    await slots.acquire()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slots.acquire(), 5)


async def test_a_limited_number_of_transfers_back_off_without_a_slot() -> None:
    """One more keeps its slot while it backs off: each of them has a file open."""
    slots = DownloadSlots(1, Clock())
    backing_off = [asyncio.create_task((await slots.acquire()).back_off(1000)) for _ in range(MAX_BACKING_OFF)]
    last = await slots.acquire()
    back_off = asyncio.create_task(last.back_off(10))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slots.acquire(), 500)
    assert await back_off == 0.0
    assert not any(each.done() for each in backing_off)
    last.release()
    await asyncio.wait_for(slots.acquire(), 1)
    for each in backing_off:
        each.cancel()


async def test_a_back_off_ends_with_its_job(tmp_path: Path) -> None:
    """A job cancelled during a long back-off needs no slot any more: its part file is removed immediately."""
    server = Server(duration=0)
    server.on_download = lambda _: "cut" if not server.downloads[1:] else response(503, retry_after="200")
    async with left_by_error(FakeClient(server, tmp_path)) as client:
        job = client.submit("p")
        await job.accepted()
        await asyncio.sleep(20)
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        job.cancel()
        await asyncio.sleep(0.1)
        assert list(tmp_path.iterdir()) == []
