"""A download slot is held while bytes may arrive, and left to others during a back-off."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from omni_async import DownloadError, Limits, Retry
from omni_async.downloads.concurrency import DownloadConcurrency
from omni_async.downloads.failures import AttemptFailure
from omni_async.downloads.slots import MAX_BACKING_OFF, DownloadSlot, DownloadSlots, max_downloads
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


def slots_of(limit: int) -> DownloadSlots[str]:
    """Return so many slots."""
    return DownloadSlots(DownloadConcurrency(limit), Clock())


async def acquire(slots: DownloadSlots[str], host: str = "a") -> DownloadSlot:
    """Return the next slot, for a transfer from a host."""
    slots.add(host, "item")
    return (await slots.next())[1]


async def test_a_slot_is_free_during_a_back_off() -> None:
    """Another transfer takes the slot meanwhile. Afterwards the first waits for it, and learns how long."""
    slots = slots_of(1)
    first = await acquire(slots)
    back_off = asyncio.create_task(first.back_off(5))
    second = await acquire(slots)
    began = now()
    handing_out = asyncio.create_task(slots.next())
    await asyncio.sleep(12)
    assert not back_off.done()
    second.release()
    assert await back_off == pytest.approx(7)
    assert now() - began == pytest.approx(12)
    handing_out.cancel()


async def test_a_transfer_that_had_a_slot_goes_before_those_that_have_not_begun() -> None:
    """It has a file open, and its link may expire."""
    slots = slots_of(1)
    back_off = asyncio.create_task((await acquire(slots)).back_off(5))
    other = await acquire(slots)
    slots.add("a", "not begun")
    begun = asyncio.create_task(slots.next())
    await asyncio.sleep(10)
    other.release()
    await back_off
    assert not begun.done()
    begun.cancel()


async def test_a_slot_released_twice_is_one_slot() -> None:
    """Releasing again, or after a cancelled back-off, does not make a second slot."""
    slots = slots_of(1)
    slot = await acquire(slots)
    back_off = asyncio.create_task(slot.back_off(60))
    await asyncio.sleep(1)
    back_off.cancel()
    await asyncio.wait([back_off])
    slot.release()
    await acquire(slots)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(acquire(slots), 5)


@pytest.mark.parametrize("is_granted", [False, True])
async def test_a_wait_for_a_slot_that_is_cancelled_takes_none(is_granted: bool) -> None:
    """Also if the slot was handed out in the same turn of the event loop."""
    slots = slots_of(1)
    back_off = asyncio.create_task((await acquire(slots)).back_off(1))
    other = await acquire(slots)
    await asyncio.sleep(2)  # now it waits
    following = asyncio.create_task(acquire(slots))
    await asyncio.sleep(0)
    other.release()
    if is_granted:
        await asyncio.sleep(0)
    back_off.cancel()
    await asyncio.wait([back_off])
    assert back_off.cancelled()
    (await asyncio.wait_for(following, 1)).release()


async def test_a_limited_number_of_transfers_back_off_without_a_slot() -> None:
    """One more keeps its slot while it backs off: each of them has a file open."""
    slots = slots_of(1)
    backing_off = [asyncio.create_task((await acquire(slots)).back_off(1000)) for _ in range(MAX_BACKING_OFF)]
    last = await acquire(slots)
    back_off = asyncio.create_task(last.back_off(10))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(acquire(slots), 500)
    assert await back_off == 0.0
    assert not any(each.done() for each in backing_off)
    last.release()
    await asyncio.wait_for(slots.next(), 1)
    for each in backing_off:
        each.cancel()


async def test_hosts_share_the_slots_evenly() -> None:
    """With ten clips of one host before those of two others, six slots are two for each."""
    slots = slots_of(6)
    for host in "aaaaaaaaaabbbccc":
        slots.add(host, host)
    assert Counter([(await slots.next())[0] for _ in range(6)]) == {"a": 2, "b": 2, "c": 2}


async def test_a_single_slot_goes_from_host_to_host() -> None:
    """With fewer slots than hosts, none waits until another has no clip left."""
    slots = slots_of(1)
    for host in "aaabbb":
        slots.add(host, host)
    order = ""
    for _ in range(6):
        host, slot = await slots.next()
        order += host
        slot.release()
    assert order == "ababab"


async def test_a_host_that_refuses_gets_fewer_slots_and_the_others_get_them() -> None:
    """It refuses the fourth of four transfers. That one's slot goes to the other host."""
    slots = slots_of(8)
    for host in "aaaaaaaabbbbbbbb":
        slots.add(host, host)
    held = [await slots.next() for _ in range(8)]
    refused = next(slot for host, slot in held if host == "a")
    refused.record_attempt(AttemptFailure("too many", kind="HTTP 429"), received=0)
    back_off = asyncio.create_task(refused.back_off(60))
    assert (await slots.next())[0] == "b"
    back_off.cancel()


async def test_a_clip_that_fails_again_and_again_counts_once_for_its_host() -> None:
    """Its link may be what is wrong. The next clip that is refused counts."""
    slots = slots_of(8)
    first, second, *_ = [await acquire(slots) for _ in range(8)]
    for _ in range(3):
        first.record_attempt(AttemptFailure("too many", kind="HTTP 503"), received=0)
    first.release()
    second.release()
    third = await asyncio.wait_for(acquire(slots), 1)  # seven may be in progress
    third.record_attempt(AttemptFailure("too many", kind="HTTP 503"), received=0)
    third.release()
    slots.add("a", "item")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slots.next(), 1)


async def test_hosts_are_forgotten_when_nothing_is_left_of_them() -> None:
    """A program that runs for months meets many names."""
    slots = slots_of(1)
    for number in range(100):
        (await acquire(slots, f"clips-{number}")).release()
    assert not slots._hosts


@pytest.mark.parametrize(("files", "expected"), [(None, 128), (256, 32), (1024, 128), (20, 8), (10**6, 128)])
def test_the_most_downloads_follow_from_the_open_files(
    files: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most half of the files are for downloads, four for each. A configured number is kept as it is."""
    monkeypatch.setattr("omni_async.downloads.slots.open_files_limit", lambda: files)
    assert max_downloads(None) == expected
    assert max_downloads(500) == 500


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
