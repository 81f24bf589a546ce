"""`MemoryServer` and `VirtualClock` as users' tests use them: no plugin, no socket, no waiting."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest

from omni_async import JobTimedOut, Limits, PaymentRequired
from omni_async.sandbox import FAULTS
from omni_async.testing import Deadlock, MemoryServer, VirtualClock
from omni_async.testing.faults import MEMORY_FAULTS
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path


def test_virtual_time_skips_waiting(tmp_path: Path) -> None:
    """A hundred clips on a slow account take fifty virtual minutes; all are downloaded and paid for once."""
    server = MemoryServer(duration=300.0, capacity=10)

    async def work() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with server.client(tmp_path, limits=Limits(max_in_flight=10)) as client:
            async for job in client.as_completed(f"p{number}" for number in range(100)):
                assert (await job).is_file()
        return loop.time() - start

    assert VirtualClock().run(work()) == pytest.approx(10 * 300, rel=0.15)
    server.assert_paid_for(f"p{number}" for number in range(100))
    server.assert_paid_once()
    server.assert_downloaded()
    assert (server.paid, server.most_in_flight) == (50.0, 10)


@pytest.mark.parametrize("name", MEMORY_FAULTS)
def test_every_fault_occurs_once_and_nothing_is_paid_twice(name: str, tmp_path: Path) -> None:
    """Each is a fault of the sandbox for the same kind of request; the client survives it without paying twice."""
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
    assert not any((server.submit_script, server.check_script, server.download_script))
    server.assert_paid_once()
    assert "q" in server.prompts
    other = "check" if kind != "check" else "clip"
    with pytest.raises(ValueError, match=f"is not a {other} fault of a MemoryServer; these are: "):
        server.script(other, [name])


def test_a_server_without_idempotency_bills_a_resend_and_the_assertion_reports_it(tmp_path: Path) -> None:
    """Without idempotency a lost response leads to a second task, and `assert_paid_once` reports it."""
    server = MemoryServer(idempotency=False, declare_idempotency=True)  # a client would not resend else
    server.script("submit", ["drop_after"])

    async def work() -> None:
        async with server.client(tmp_path) as client:
            await client.submit("a fox")

    VirtualClock().run(work())
    with pytest.raises(AssertionError, match=r"'a fox' was paid for 2 times"):
        server.assert_paid_once()
    with pytest.raises(AssertionError, match=r"1 clip\(s\) were paid for but never downloaded"):
        server.assert_downloaded()


@pytest.mark.parametrize("is_honoured", [True, False])
@pytest.mark.parametrize("declared", [None, True, False])
def test_the_schema_declares_idempotency_as_the_settings_say(
    tmp_path: Path, is_honoured: bool, declared: bool | None
) -> None:
    """The schema of any model declares the Idempotency-Key if it is honoured, unless the setting says otherwise."""
    server = MemoryServer(idempotency=is_honoured, declare_idempotency=declared)

    async def work() -> dict[str, Any]:
        async with server.client(tmp_path) as client:
            return await client.model_schema("any model")

    schema = VirtualClock().run(work())
    assert (schema["model"], schema["operation"]) == ("any model", "video_generation")
    expected = {"header": "Idempotency-Key", "retention_seconds": 86_400}
    declares = is_honoured if declared is None else declared
    assert expected.items() <= schema["idempotency"].items() if declares else "idempotency" not in schema


def test_a_timeout_of_half_an_hour_takes_no_real_time(tmp_path: Path) -> None:
    """What the client does after 1800 s can be tested, and so can submissions that stop and resume."""
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
                await client.submit("expensive", key="k")
            (again,) = [job for job in await resumed(client) if job.key == "k"]
            assert (await again).is_file()

    VirtualClock().run(work())


def test_a_deadlock_is_reported() -> None:
    """A coroutine that waits for an event that is never set raises `Deadlock` instead of hanging."""

    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="the program would hang"):
        VirtualClock().run(work())


def test_threads_work_again_after_a_run() -> None:
    """During a run, work for threads runs in the thread of the event loop; afterwards in worker threads."""

    async def worker_thread() -> int:
        return await anyio.to_thread.run_sync(threading.get_ident)

    assert VirtualClock().run(worker_thread()) == threading.get_ident()
    assert asyncio.run(worker_thread()) != threading.get_ident()
