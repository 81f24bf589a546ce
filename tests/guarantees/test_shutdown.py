"""Leaving a client ends every waiter within seconds and leaves nothing running, on virtual time."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from omni_async import ClientClosed, JobStatus, OmniError
from omni_async.ledger import MemoryJobStore
from tests.support.fakes import HTML, FakeClient, Fault, Server, SlowLedger, left_by_error, left_over, refusal
from tests.support.ledgers import unfinished
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import Job

pytestmark = pytest.mark.timeout(60)


SECONDS = 8.0  # what "within seconds" means


async def settle(waiters: list[asyncio.Future[Any]]) -> list[object]:
    """Return the outcome of waiters, which must have one by now or very soon."""
    async with asyncio.timeout(1):
        return list(await asyncio.gather(*waiters, return_exceptions=True))


def assert_no_asyncio_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """Assert that asyncio has logged nothing."""
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def _random_fault(jitter: random.Random) -> Fault:
    return jitter.choices([None, "lost", "hang", refusal(429, retry_after="3")], [90, 4, 3, 3])[0]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("how", ["exception", "cancel"])
@pytest.mark.slow
async def test_leaving_at_a_random_moment_ends_every_waiter(
    tmp_path: Path, seed: int, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every waiter of 200 jobs has an outcome within seconds, and no task remains."""
    jitter = random.Random(seed)
    server, ledger = (
        Server(duration=jitter.uniform(1, 60), latency=jitter.uniform(0.01, 2)),
        SlowLedger(seed % 3 * 0.02),
    )
    server.on_submit = lambda post: _random_fault(jitter)
    server.on_check = lambda task_id: HTML if jitter.random() < 0.1 else None
    waiters: list[asyncio.Future[Any]] = []
    jobs: list[Job] = []

    async def run() -> None:
        async with FakeClient(server, tmp_path, ledger=ledger) as client:
            jobs.extend(client.submit(f"p{number}", key=f"k{number}") for number in range(190))
            jobs.extend(jobs[number].extend(f"then {number}", key=f"e{number}") for number in range(10))
            waiters.extend(asyncio.ensure_future(job) for job in jobs)
            waiters.extend(asyncio.ensure_future(job.accepted()) for job in jobs)
            await asyncio.sleep(leave_after)
            if how == "exception":
                raise ZeroDivisionError
            await asyncio.sleep(10_000)

    leave_after = jitter.choice([0.0, 0.001, jitter.uniform(0, 5), jitter.uniform(0, 60), jitter.uniform(0, 300)])
    task = asyncio.create_task(run())
    await asyncio.sleep(leave_after)
    began = server.now()
    if how == "cancel":
        task.cancel()
    await asyncio.wait({task}, timeout=1000)
    assert server.now() - began < SECONDS
    if how == "cancel":
        assert task.cancelled()
    else:
        assert isinstance(task.exception(), ZeroDivisionError)
    for result in await settle(waiters):
        assert not isinstance(result, BaseException) or isinstance(result, OmniError | ClientClosed)
    for job in jobs:
        assert job.done()
        record = ledger._records.get(job.key)
        if record is not None:
            assert record.status is job.status
            assert record.task_id == job.task_id
    recorded = {record.task_id for record in ledger._records.values()}
    for task_id, paid in server.tasks.items():
        key = next(post.key for post in server.posts if post.task_id == task_id)
        mine = next(record for record in ledger._records.values() if record.idempotency_key == key)
        assert task_id in recorded or mine.status is JobStatus.SUBMITTING, paid
    assert not left_over()
    assert_no_asyncio_warnings(caplog)


async def test_interrupted_jobs_are_resumed_and_paid_once(tmp_path: Path) -> None:
    """After nine interrupted runs, 100 jobs are completed, each paid for once."""
    jitter = random.Random(3)
    server, ledger = Server(duration=20, latency=0.3), MemoryJobStore()
    server.on_submit = lambda post: jitter.choices([None, "lost"], [9, 1])[0]
    for number in range(9):
        async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
            if number == 0:
                for name in range(100):
                    client.submit(f"p{name}", key=f"k{name}")
            else:
                client.resume()
            await asyncio.sleep(jitter.uniform(0.5, 4))
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await asyncio.gather(*await resumed(client))
    assert len(server.tasks) == 100
    assert all((tmp_path / f"k{name}.mp4").is_file() for name in range(100))
    assert not server.concurrent_submits


async def test_an_outstanding_post_is_waited_for_briefly(tmp_path: Path) -> None:
    """After a few seconds its job is left `submitting`."""
    server, ledger = Server(on_submit=lambda _: "hang"), MemoryJobStore()
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        job = client.submit("p")
        await asyncio.sleep(1)
        began = server.now()
    assert server.now() - began < SECONDS
    assert (await unfinished(ledger))[0].status is JobStatus.SUBMITTING
    with pytest.raises(ClientClosed):
        await job


async def test_a_response_received_while_leaving_is_recorded(tmp_path: Path) -> None:
    """The task id is recorded, and the waiter gets it."""
    server, ledger = Server(latency=2.0), MemoryJobStore()
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        job = client.submit("p")
        await asyncio.sleep(1)
    assert (await unfinished(ledger))[0].task_id == job.task_id == next(iter(server.tasks))
    with pytest.raises(ClientClosed, match="task_") as caught:
        await job
    assert caught.value.task_id == job.task_id


async def test_a_second_cancellation_leaves_nothing_behind(tmp_path: Path) -> None:
    """A cancellation while the client is closing ends it within seconds."""
    server = Server(on_submit=lambda _: "hang")

    async def run() -> None:
        async with FakeClient(server, tmp_path) as client:
            client.submit("p")
            await asyncio.sleep(1000)

    task = asyncio.create_task(run())
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.sleep(0.5)
    task.cancel()
    began = server.now()
    await asyncio.wait({task}, timeout=100)
    assert task.cancelled()
    assert server.now() - began < SECONDS
    assert not left_over()


async def test_leaving_normally_waits_for_every_job(tmp_path: Path) -> None:
    """Jobs that are not awaited are completed too."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(20)]
        jobs.append(jobs[0].extend("more"))
    assert all(job.status is JobStatus.COMPLETED for job in jobs)
    assert client.fake_transport.is_closed
    assert not left_over()


async def test_a_cancellation_while_entering_leaves_nothing_behind(tmp_path: Path) -> None:
    """No asyncio task remains."""

    async def run() -> None:
        async with FakeClient(Server(), tmp_path):
            await asyncio.sleep(1000)

    for steps in range(4):
        task = asyncio.create_task(run())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=100)
        assert task.cancelled()
        assert not left_over()


async def test_cancelling_a_normal_leave_is_quick(tmp_path: Path) -> None:
    """A cancellation while waiting for the last jobs ends the client within seconds, and their waiters too."""
    server = Server(duration=5000)
    jobs: list[Job] = []

    async def run() -> None:
        async with FakeClient(server, tmp_path) as client:
            jobs.append(client.submit("p"))

    task = asyncio.create_task(run())
    await asyncio.sleep(10)
    task.cancel()
    await asyncio.wait({task}, timeout=SECONDS)
    assert task.cancelled()
    with pytest.raises(ClientClosed):
        await jobs[0]


async def test_an_anyio_timeout_can_leave_the_client(tmp_path: Path) -> None:
    """An anyio timeout around the block leaves it within seconds."""
    server = Server(duration=5000)
    began = 0.0
    with anyio.move_on_after(50) as scope:
        async with FakeClient(server, tmp_path) as client:
            began = server.now()
            await client.submit("p")
    assert scope.cancelled_caught
    assert server.now() - began < 50 + SECONDS
    assert not left_over()


@pytest.mark.parametrize("how", ["in", "out"])
async def test_waiters_in_a_task_group_get_their_outcome(tmp_path: Path, how: str) -> None:
    """The task group may be outside or inside of the block that is left by an error."""
    server = Server(duration=500)

    async def wait(job: Job) -> None:
        with pytest.raises(ClientClosed):
            await job

    async def within() -> None:
        async with FakeClient(server, tmp_path) as client, asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(swallow(client.submit(f"p{number}")))
            await asyncio.sleep(5)
            raise ZeroDivisionError

    async def swallow(job: Job) -> None:
        await job

    if how == "in":
        with pytest.raises(ExceptionGroup) as caught:
            await within()
        assert caught.group_contains(ZeroDivisionError)
    else:
        async with asyncio.TaskGroup() as group, left_by_error(FakeClient(server, tmp_path)) as client:
            for number in range(5):
                group.create_task(wait(client.submit(f"p{number}")))
            await asyncio.sleep(5)
    assert not left_over()


async def test_client_closed_names_the_job_of_the_waiter(tmp_path: Path) -> None:
    """It names key and task id, also for a job that waited for its parent."""
    async with left_by_error(FakeClient(Server(duration=500), tmp_path)) as client:
        jobs = [client.submit(f"p{number}") for number in range(3)]
        jobs.append(jobs[0].extend("more"))
        await asyncio.sleep(5)
    for job in jobs:
        with pytest.raises(ClientClosed) as caught:
            await job
        assert caught.value.key == job.key
        assert caught.value.task_id == job.task_id
