"""A client works across asyncio tasks, and refuses a second event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import ClientClosed, JobCancelled, JobStatus, Limits, OmniClient, Polling, Retry
from omni_async.testing import SandboxThread
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


def test_another_kind_of_event_loop_raises(tmp_path: Path) -> None:
    """Under Trio, for example, no event loop of asyncio is running: the error says what is needed."""
    with pytest.raises(RuntimeError, match="needs the event loop of asyncio"):
        FakeClient(Server(), tmp_path).open().send(None)  # as another library would run it


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


# Other loops than the one that the tests run on


async def use_everything(sandbox: SandboxThread, folder: Path) -> None:
    """Make clips and a chain, lose an answer, cancel a job, resume another one, and leave nothing running."""
    environment = sandbox.environment
    client = OmniClient(
        environment["APIMART_API_KEY"],
        base_url=environment["APIMART_BASE_URL"],
        output_dir=folder,
        limits=Limits(submits_per_minute=6000),
        polling=Polling(min_interval=0.02, max_interval=0.1),
        retry=Retry(wait_initial=0.01, wait_max=0.1),
    )
    async with client:
        jobs = [client.submit(f"clip {number}") for number in range(6)]
        cancelled, chained = client.submit("not this one"), jobs[0].extend("and then")
        cancelled.cancel()
        assert all(path.read_bytes()[4:8] == b"ftyp" for path in await asyncio.gather(*jobs))
        assert (await chained).is_file()
        with pytest.raises(JobCancelled):
            await cancelled
        assert await jobs[3].accepted() == jobs[3].task_id
        async for job in client.as_completed(f"more {number}" for number in range(3)):
            assert (await job).is_file()
        waiter = asyncio.create_task(client.submit("slow").wait())
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    assert not left_over()


def assert_paid_once(sandbox: SandboxThread) -> None:
    """Check that every job was paid for once, and that the sandbox saw the answer that was lost."""
    assert sandbox.record.duplicates == 0
    assert sandbox.record.accepted == len({task.prompt for task in sandbox.record.tasks.values()})
    assert sandbox.record.faults["drop_after"] == 1


@pytest.mark.slow
def test_uvloop_works(tmp_path: Path) -> None:
    """On uvloop a client does all that it does on the loop of asyncio."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    with SandboxThread() as sandbox:
        sandbox.script("submit", [None, "drop_after"])
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert isinstance(runner.get_loop(), uvloop.Loop)
            runner.run(use_everything(sandbox, tmp_path))
        assert_paid_once(sandbox)


# Not marked as slow: CI runs only the inner loop on the interpreters that have eager tasks.
@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="asyncio has eager tasks from Python 3.12 on")
def test_eager_tasks_work(tmp_path: Path) -> None:
    """With the eager task factory, by which a task runs before `create_task` returns, a client works the same."""
    with SandboxThread() as sandbox:
        sandbox.script("submit", [None, "drop_after"])
        with asyncio.Runner() as runner:
            runner.get_loop().set_task_factory(vars(asyncio)["eager_task_factory"])
            runner.run(use_everything(sandbox, tmp_path))
        assert_paid_once(sandbox)
