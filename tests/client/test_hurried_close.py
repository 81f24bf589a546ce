"""However often its program is cancelled, a client that has ended has closed its ledger: the next one opens it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import LedgerLocked, OmniClient
from omni_async.api.http import HttpTransport
from tests.support.fakes import left_over

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.api.transport import Transport

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time: the ledger is a file, written by a thread."""
    return "asyncio"


def client_in(folder: Path) -> OmniClient:
    """Return a client with a ledger on disk. It sends nothing."""
    return OmniClient("sk-test", base_url="http://127.0.0.1:9", output_dir=folder)


@pytest.mark.parametrize("cancellations", [1, 2, 3])
@pytest.mark.parametrize("pause", [0.0, 0.0005], ids=["at once", "with pauses"])
async def test_cancelled_again_and_again(tmp_path: Path, cancellations: int, pause: float) -> None:
    """Each round cancels a program a little later: while its client opens, while it is open, and while it closes."""

    async def program() -> None:
        async with client_in(tmp_path):
            await asyncio.sleep(0.01)

    for step in range(20):
        task = asyncio.create_task(program())
        await asyncio.sleep(step * 0.001)
        for _ in range(cancellations):
            task.cancel()
            await asyncio.sleep(pause)
        await asyncio.wait({task})
        assert task.cancelled() or task.exception() is None
        assert not left_over()
        async with client_in(tmp_path):
            pass


class SlowToClose(HttpTransport):
    """A transport whose connections take a moment to close."""

    async def aclose(self) -> None:
        """Wait, then close."""
        await asyncio.sleep(0.05)
        await super().aclose()


class SlowClient(OmniClient):
    """A client with such a transport."""

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        return SlowToClose(base_url, api_key)


async def test_every_task_cancelled_while_closing(tmp_path: Path) -> None:
    """`asyncio.run` does that after a second Ctrl-C; the thread that writes the ledger ends soon, and not never."""
    client = await SlowClient("sk-test", base_url="http://127.0.0.1:9", output_dir=tmp_path).open()
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0.02)
    ours = {*left_over(), closing}
    for task in ours:
        task.cancel()
    await asyncio.wait(ours)
    async with asyncio.timeout(5):
        while not await opens(tmp_path):
            await asyncio.sleep(0.01)


async def opens(folder: Path) -> bool:
    """Return whether the ledger is free."""
    try:
        async with client_in(folder):
            return True
    except LedgerLocked:
        return False
