"""`SandboxThread`: its faults, its record and assertions, and how it starts and ends."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from omni_async import JobFailed, OmniClient
from omni_async.testing import SandboxThread, client_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def shared() -> Iterator[SandboxThread]:
    """Start a sandbox for the tests that only look at their own jobs."""
    with SandboxThread() as sandbox:
        yield sandbox


@pytest.fixture
def make_client(shared: SandboxThread, tmp_path: Path) -> Callable[..., OmniClient]:
    """Return a function that creates clients of the shared sandbox."""
    return client_factory(shared, tmp_path)


@pytest.mark.slow
async def test_a_fault_is_switched_on_and_off(shared: SandboxThread, make_client: Callable[..., OmniClient]) -> None:
    """A fault with probability 1 affects every submit from then on, and none after it is switched off."""
    shared.fault("http_400")
    async with make_client() as client:
        jobs = [client.submit(f"switched {number}") for number in range(3)]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert {type(outcome).__name__ for outcome in outcomes} == {"InvalidRequest"}
        shared.fault("http_400", 0)
        assert (await client.submit("switched off")).is_file()
    assert shared.record.faults["http_400"] == 3
    for name, chance in [("no such", 1.0), ("http_400", 1.5), ("http_400", True)]:
        with pytest.raises(ValueError, match="faults: "):
            shared.fault(name, chance)


@pytest.mark.slow
async def test_assertion_messages_name_prompts_tasks_and_keys(tmp_path: Path) -> None:
    """Each assertion passes when all is right; otherwise its message says what is wrong."""
    with SandboxThread(idempotency=False, declare_idempotency=True) as sandbox:
        async with client_factory(sandbox, tmp_path)() as client:
            await client.submit("a hen")
            sandbox.assert_paid_once()
            sandbox.assert_paid_for(["a hen"])
            sandbox.assert_downloaded()
            sandbox.script("submit", ["drop_after"])
            await client.submit("a fox")
        assert (sandbox.submits, len(sandbox.tasks)) == (3, 3)
        assert sandbox.paid == pytest.approx(sum(task.price for task in sandbox.tasks))
        with pytest.raises(AssertionError, match=r"'a fox' was paid for 2 times .*task_.*, task_"):
            sandbox.assert_paid_once()
        with pytest.raises(AssertionError, match=r"3 task.*:\n  not paid for: 'a cat'\n.*not expected: 'a fox'"):
            sandbox.assert_paid_for(["a hen", "a cat", "a fox"])
        await _wait_until_done(sandbox)
        with pytest.raises(AssertionError, match=r"1 clip\(s\) were paid for but never downloaded:\n  'a fox'"):
            sandbox.assert_downloaded()


async def _wait_until_done(sandbox: SandboxThread) -> None:
    while sandbox.record.in_flight:
        await asyncio.sleep(0.02)


async def test_a_failed_task_is_refunded(shared: SandboxThread, make_client: Callable[..., OmniClient]) -> None:
    """A task that fails on the server is not part of the total cost."""
    with SandboxThread(fail_rate=1.0) as sandbox:
        async with make_client(base_url=sandbox.base_url) as client:
            with pytest.raises(JobFailed):
                await client.submit("in vain")
        assert (sandbox.paid, len(sandbox.tasks)) == (0.0, 1)


def test_the_thread_ends_with_its_block() -> None:
    """No thread is left, and using the sandbox afterwards raises an error that says why."""
    before = set(threading.enumerate())
    with SandboxThread() as sandbox:
        new = set(threading.enumerate()) - before
        assert len(new) == 1
        assert sandbox.submits == 0
    assert not [thread for thread in new if thread.is_alive()]
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        _ = sandbox.submits


class _SlowToEnd(SandboxThread):
    """A sandbox whose thread lives on for a moment after its event loop was closed."""

    def _run(self) -> None:
        try:
            super()._run()
        finally:
            time.sleep(0.3)


def test_a_closed_loop_whose_thread_still_runs_hides_no_error() -> None:
    """Between the end of the event loop and that of its thread, the reason is raised, and calls say what is wrong."""
    with SandboxThread() as sandbox:
        port = int(sandbox.base_url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=str(port)), _SlowToEnd(port=port):
            pass
    with _SlowToEnd() as slow:
        loop = slow._loop
        assert loop is not None
        loop.call_soon_threadsafe(slow._stop.set)
        while not loop.is_closed():
            time.sleep(0.01)
        assert slow._thread.is_alive()
        with pytest.raises(RuntimeError, match="inside its `with` block"):
            _ = slow.submits


def test_a_sandbox_that_cannot_start_raises_the_reason() -> None:
    """An invalid setting raises immediately; an error during the start raises too and leaves no thread."""
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="median=-1"):
        SandboxThread(median=-1)
    with SandboxThread() as sandbox:
        port = int(sandbox.base_url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=str(port)), SandboxThread(port=port):
            pass
    assert set(threading.enumerate()) <= before
