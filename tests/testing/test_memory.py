"""The server in memory and the clock that jumps, as somebody's tests use them: no plugin, no socket, no waiting."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from omni_async import JobTimedOut, Limits, PaymentRequired
from omni_async.sandbox import FAULTS
from omni_async.testing import Deadlock, MemoryServer, VirtualClock
from omni_async.testing.faults import MEMORY_FAULTS

if TYPE_CHECKING:
    from pathlib import Path


def test_an_afternoon_takes_no_time(tmp_path: Path) -> None:
    """A hundred clips of a slow account take fifty minutes by the loop's clock; clips and bills are there."""
    server = MemoryServer(duration=300.0, capacity=10)

    async def work() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with server.client(tmp_path, limits=Limits(max_in_flight=10)) as client:
            async for job in client.as_completed(f"p{number}" for number in range(100)):
                assert (await job).is_file()
        return loop.time() - began

    assert VirtualClock().run(work()) == pytest.approx(10 * 300, rel=0.15)
    server.assert_paid_for(f"p{number}" for number in range(100))
    server.assert_paid_once()
    server.assert_downloaded()
    assert (server.paid, server.most_in_flight) == (50.0, 10)


@pytest.mark.parametrize("name", MEMORY_FAULTS)
def test_every_fault_befalls_and_is_overcome_or_told(name: str, tmp_path: Path) -> None:
    """Each is one of the sandbox's faults, of the same kind of request; it happens once, and nothing is paid twice."""
    kind = MEMORY_FAULTS[name].kind
    assert kind in FAULTS[name].kinds
    server = MemoryServer()
    server.script(kind, [name])

    async def work() -> None:
        async with server.client(tmp_path) as client:
            await asyncio.gather(client.submit("p"), return_exceptions=True)
            if client.stop_error:
                client.resume()
            assert (await client.submit("q")).is_file()

    VirtualClock().run(work())
    assert not any((server.submit_script, server.check_script, server.fetch_script))
    server.assert_paid_once()
    assert "q" in server.prompts
    with pytest.raises(ValueError, match=f"cannot befall a {'check' if kind != 'check' else 'clip'} in memory; these"):
        server.script("check" if kind != "check" else "clip", [name])


def test_it_bills_twice_where_it_does_not_know_keys(tmp_path: Path) -> None:
    """Without idempotency a lost answer leads to a second task, and the assertion tells of it."""
    server = MemoryServer(idempotency=False)
    server.script("submit", ["drop_after"])

    async def work() -> None:
        async with server.client(tmp_path) as client:
            await client.submit("a fox")

    VirtualClock().run(work())
    with pytest.raises(AssertionError, match=r"'a fox' was bought 2 times"):
        server.assert_paid_once()
    with pytest.raises(AssertionError, match=r"1 clip\(s\) were paid, and nobody fetched them"):
        server.assert_downloaded()


def test_half_an_hour_of_patience_is_over_at_once(tmp_path: Path) -> None:
    """What the client does after 1800 s can be tested; so can a line that stops, and goes on."""
    server = MemoryServer(duration=1e6)

    async def work() -> None:
        async with server.client(tmp_path) as client:
            job = client.submit("slow")
            await job.accepted()
            with pytest.raises(JobTimedOut):
                await job
            server.duration = 10.0
            server.script("submit", ["http_402"])
            with pytest.raises(PaymentRequired):
                await client.submit("dear", key="k")
            (again,) = [job for job in client.resume() if job.key == "k"]
            assert (await again).is_file()

    VirtualClock().run(work())


def test_what_would_hang_is_told() -> None:
    """A coroutine that waits for something that nobody will do raises instead of hanging."""

    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="nobody will do"):
        VirtualClock().run(work())


def test_threads_are_as_before_when_it_is_over() -> None:
    """Within a run work for threads is done in the loop's own; afterwards it is not."""

    async def where() -> int:
        return await anyio.to_thread.run_sync(threading.get_ident)

    assert VirtualClock().run(where()) == threading.get_ident()
    assert asyncio.run(where()) != threading.get_ident()
