"""A place for a transfer is held while bytes may come, and left to others during a rest."""

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
    """Give the loop's time."""
    return asyncio.get_running_loop().time()


async def test_a_clip_in_trouble_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """With one place, and one clip that never comes, the others are there long before that one is given up."""
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
    assert took < 60  # the budget of the lost one is 300


async def test_waiting_for_a_place_tries_no_patience(tmp_path: Path) -> None:
    """A clip in trouble that finds its place taken for longer than the budget still gets its next attempt."""
    server = Server()
    tried = Counter[str]()

    def trouble(url: str) -> Response | str | None:
        tried[url] += 1
        if url == next(iter(tried)):
            return response(503) if tried[url] <= 2 else None
        return "stall" if tried[url] == 1 else None  # holds the one place for half a minute

    server.on_download = trouble
    async with FakeClient(server, tmp_path, limits=ONE, retry=Retry(timeout=20)) as client:
        paths = await asyncio.gather(*(client.submit(f"prompt {number}") for number in range(2)))
    assert all(path.is_file() for path in paths)
    assert sorted(tried.values()) == [2, 3]


async def test_looks_and_transfers_fail_apart(tmp_path: Path) -> None:
    """Where five looks go wrong for each fresh link, and eight links are dead, the clip arrives within the budget."""
    server = Server(duration=0)
    looks = transfers = 0

    def look(_: str) -> Response | None:
        nonlocal looks
        looks += transfers > 0
        return response(502) if looks % 6 else None

    def transfer(_: str) -> Response | None:
        nonlocal transfers
        transfers += 1
        return response(200, {"error": "busy"}) if transfers <= 8 else None

    server.on_check, server.on_download = look, transfer
    async with FakeClient(server, tmp_path, retry=Retry(timeout=300)) as client:
        assert (await client.submit("a red apple")).is_file()
    assert (looks, transfers) == (48, 9)


async def test_a_place_at_rest_is_free() -> None:
    """During a rest another takes the place; afterwards the first waits for it, and is told how long."""
    places = DownloadSlots(1, Clock())
    first = await places.acquire()
    rest = asyncio.create_task(first.back_off(5))
    second = await places.acquire()
    began = now()
    await asyncio.sleep(12)
    assert not rest.done()
    second.release()
    assert await rest == pytest.approx(7)
    assert now() - began == pytest.approx(12)


async def test_a_place_that_is_left_twice_is_one_place() -> None:
    """Leaving again, or leaving after a rest that was cancelled, gives no second place away."""
    places = DownloadSlots(1, Clock())
    place = await places.acquire()
    rest = asyncio.create_task(place.back_off(60))
    await asyncio.sleep(1)
    rest.cancel()
    await asyncio.wait([rest])
    place.release()
    await places.acquire()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(places.acquire(), 5)


async def test_so_many_rest_without_a_place_and_no_more() -> None:
    """One more than may rest keeps its place while it rests: each of them has a file open."""
    places = DownloadSlots(1, Clock())
    resting = [asyncio.create_task((await places.acquire()).back_off(1000)) for _ in range(MAX_BACKING_OFF)]
    last = await places.acquire()
    rest = asyncio.create_task(last.back_off(10))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(places.acquire(), 500)
    assert await rest == 0.0
    assert not any(each.done() for each in resting)
    last.release()
    await asyncio.wait_for(places.acquire(), 1)
    for each in resting:
        each.cancel()


async def test_a_rest_ends_with_its_job(tmp_path: Path) -> None:
    """A job that is cancelled while its download rests for long needs no place any more: its part file goes at once."""
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
