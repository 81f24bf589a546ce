"""A client works across asyncio tasks, and refuses a second event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import ClientClosed, JobStatus, OmniClient
from tests.support.fakes import FakeClient, Server, left_over

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import Job

pytestmark = pytest.mark.timeout(60)


async def test_a_client_can_be_left_in_another_task(tmp_path: Path) -> None:
    """Test fixtures and web frameworks enter and leave in different asyncio tasks."""
    client = FakeClient(Server(), tmp_path)
    await asyncio.create_task(client.__aenter__())
    job = client.submit("p")
    await asyncio.create_task(client.__aexit__(None, None, None))
    assert job.status is JobStatus.COMPLETED
    assert not left_over()


async def test_a_client_can_be_entered_once(tmp_path: Path) -> None:
    """Entering it again, or using it before and after, raises."""
    client = FakeClient(Server(), tmp_path)
    with pytest.raises(ClientClosed, match="async with"):
        client.submit("p")
    async with client:
        with pytest.raises(ClientClosed):
            await client.__aenter__()
    with pytest.raises(ClientClosed):
        client.submit("p")
    with pytest.raises(ClientClosed):
        async with client:
            pass
    assert client.statistics().completed == 0


def test_a_second_event_loop_raises(tmp_path: Path) -> None:
    """Using a client or a job in another event loop raises a clear error instead of hanging."""
    clients: list[OmniClient] = []
    jobs: list[Job] = []

    async def first() -> None:
        client = FakeClient(Server(duration=1000), tmp_path)
        await client.__aenter__()
        clients.append(client)
        jobs.append(client.submit("p"))

    async def second() -> None:
        for use in (lambda: clients[0].submit("q"), clients[0].resume, lambda: clients[0].attach("task_1")):
            with pytest.raises(RuntimeError, match="another event loop"):
                use()
        with pytest.raises(RuntimeError, match="another event loop"):
            await clients[0].balance()
        with pytest.raises((RuntimeError, ClientClosed)):
            await jobs[0]
        with pytest.raises((RuntimeError, ClientClosed)):
            await jobs[0].accepted()

    asyncio.run(first())
    asyncio.run(second())


def test_the_end_of_the_loop_ends_an_open_client(tmp_path: Path) -> None:
    """`asyncio.run` returns, no waiter hangs, and nothing is logged."""
    jobs: list[Job] = []

    async def main() -> None:
        client = FakeClient(Server(duration=1000), tmp_path)
        await client.__aenter__()
        jobs.append(client.submit("p"))
        await asyncio.sleep(0.1)

    asyncio.run(main())
    assert jobs[0].done()
