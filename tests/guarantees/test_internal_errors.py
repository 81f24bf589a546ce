"""An internal error reaches every waiter and the block of the client, on virtual time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import ClientClosed
from omni_async.client.dispatcher import Dispatcher
from omni_async.downloads.slots import DownloadSlots
from omni_async.errors import LedgerError
from omni_async.ledger import MemoryJobStore
from omni_async.polling.poller import Poller
from omni_async.submission.submitter import Submitter
from tests.support.fakes import FakeClient, Server, left_over

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


pytestmark = pytest.mark.timeout(60)


# What the loop of each stage calls, not on behalf of a single job.
LOOPS = {
    "dispatcher": (Dispatcher, "_admit"),
    "submitter": (Submitter, "_delay"),
    "poller": (Poller, "_delay"),
    "downloader": (DownloadSlots, "next"),
}


def plant_bug(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the loop of a stage raise from some moment on."""
    owner, name = LOOPS[stage]
    original = getattr(owner, name)

    def buggy(*arguments: Any) -> Any:
        if asyncio.get_running_loop().time() >= 1031:  # when "r" is submitted
            raise ZeroDivisionError("a bug")
        return original(*arguments)

    monkeypatch.setattr(owner, name, buggy)


@pytest.mark.parametrize("stage", LOOPS)
async def test_a_bug_in_a_stage_reaches_waiters_and_the_block(
    tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waiter gets `ClientClosed` caused by the bug, and the block raises the bug."""
    server = Server(duration=25)
    plant_bug(stage, monkeypatch)

    async def block() -> None:
        async with FakeClient(server, tmp_path) as client:
            waiters = [asyncio.ensure_future(client.submit(f"p{number}")) for number in range(10)]
            await asyncio.sleep(29)
            waiters += [asyncio.ensure_future(client.submit(f"q{number}")) for number in range(10)]
            await asyncio.sleep(2)
            waiters.append(asyncio.ensure_future(client.submit("r")))
            async with asyncio.timeout(100):
                results = await asyncio.gather(*waiters, return_exceptions=True)
            closed = [result for result in results if isinstance(result, BaseException)]
            assert closed
            for error in closed:
                assert isinstance(error, ClientClosed)
                assert isinstance(error.__cause__, ZeroDivisionError)
            with pytest.raises(ClientClosed):
                client.submit("another")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        await block()
    assert not left_over()


async def test_a_bug_while_leaving_is_raised_by_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that fails while the block waits for the last jobs raises there."""
    server = Server(duration=50)
    plant_bug("poller", monkeypatch)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        async with FakeClient(server, tmp_path) as client:
            client.submit("p")
    assert not left_over()


async def test_a_bug_does_not_hide_the_error_of_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the block raises an error of its own, that error comes out."""
    server = Server(duration=50)
    plant_bug("poller", monkeypatch)

    async def block() -> None:
        async with FakeClient(server, tmp_path) as client:
            client.submit("p")
            await asyncio.sleep(100)
            raise ArithmeticError("mine")

    with pytest.raises(ArithmeticError, match="mine"):
        await block()


async def test_a_failing_ledger_stops_submits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A job that cannot be recorded is not sent, and paid clips are still downloaded."""

    class Full:
        def __await__(self) -> Generator[None, None, None]:
            yield
            raise LedgerError("disk full")

    class FullLedger(MemoryJobStore):
        def save(self, record: Any) -> Any:
            if asyncio.get_running_loop().time() < 1005:
                return super().save(record)
            return Full()

    server = Server(duration=30)
    caplog.set_level(logging.CRITICAL + 1)
    async with FakeClient(server, tmp_path, ledger=FullLedger()) as client:
        early = [client.submit(f"p{number}") for number in range(5)]
        await asyncio.sleep(6)
        late = [client.submit(f"q{number}") for number in range(20)]
        assert not [r for r in await asyncio.gather(*early, return_exceptions=True) if isinstance(r, BaseException)]
        results = await asyncio.gather(*late, return_exceptions=True)
        assert all(isinstance(result, LedgerError) for result in results)
    assert len(server.posts) == 5
