"""Leaving on virtual time: nobody hangs, nothing is left running, the ledger is true, and bugs come to light."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from omni_async import ClientClosed, JobStatus, OmniClient, OmniError
from omni_async.errors import LedgerError
from omni_async.ledger import MemoryJobStore
from tests.support.fakes import HTML, FakeClient, Fault, Post, Server, SlowLedger, left_by_error, left_over, refusal
from tests.support.ledgers import unfinished
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from omni_async import Job

pytestmark = pytest.mark.timeout(60)

SECONDS = 8.0  # "within seconds"


async def settle(waiters: list[asyncio.Future[Any]]) -> list[object]:
    """Give what came of waiters, who must all have an outcome by now or very soon."""
    async with asyncio.timeout(1):
        return list(await asyncio.gather(*waiters, return_exceptions=True))


def untroubled(caplog: pytest.LogCaptureFixture) -> None:
    """Check that asyncio had nothing to complain of."""
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("way", ["exception", "cancel"])
async def test_leaving_at_a_random_moment(
    tmp_path: Path, seed: int, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Left at any moment of a run of 200 jobs: every waiter has an outcome within seconds, and nothing is left over."""
    jitter = random.Random(seed)
    server, ledger = (
        Server(duration=jitter.uniform(1, 60), latency=jitter.uniform(0.01, 2)),
        SlowLedger(seed % 3 * 0.02),
    )
    server.on_submit = lambda post: _trouble(jitter)
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
            if way == "exception":
                raise ZeroDivisionError
            await asyncio.sleep(10_000)

    leave_after = jitter.choice([0.0, 0.001, jitter.uniform(0, 5), jitter.uniform(0, 60), jitter.uniform(0, 300)])
    task = asyncio.create_task(run())
    await asyncio.sleep(leave_after)
    began = server.now()
    if way == "cancel":
        task.cancel()
    await asyncio.wait({task}, timeout=1000)
    assert server.now() - began < SECONDS
    if way == "cancel":
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
    untroubled(caplog)


def _trouble(jitter: random.Random) -> Fault:
    return jitter.choices([None, "lost", "hang", refusal(429, retry_after="3")], [90, 4, 3, 3])[0]


async def test_what_was_left_is_taken_up_and_paid_once(tmp_path: Path) -> None:
    """Left in the middle eight times over, 100 jobs are done in the end, each paid once."""
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


async def test_a_hanging_post_is_given_a_few_seconds(tmp_path: Path) -> None:
    """A POST on the wire is waited for briefly; then its job is left `submitting`, which is the truth."""
    server, ledger = Server(on_submit=lambda _: "hang"), MemoryJobStore()
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        job = client.submit("p")
        await asyncio.sleep(1)
        began = server.now()
    assert server.now() - began < SECONDS
    assert (await unfinished(ledger))[0].status is JobStatus.SUBMITTING
    with pytest.raises(ClientClosed):
        await job


async def test_an_answer_that_comes_while_leaving_is_recorded(tmp_path: Path) -> None:
    """The task_id of a POST that is answered while the client is being left is not lost, and the waiter gets it."""
    server, ledger = Server(latency=2.0), MemoryJobStore()
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        job = client.submit("p")
        await asyncio.sleep(1)
    assert (await unfinished(ledger))[0].task_id == job.task_id == next(iter(server.tasks))
    with pytest.raises(ClientClosed, match="task_") as caught:
        await job
    assert caught.value.task_id == job.task_id


async def test_being_cancelled_twice_is_in_a_hurry(tmp_path: Path) -> None:
    """A second cancellation while leaving does not leave anything behind either."""
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


async def test_leaving_normally_waits_for_everything(tmp_path: Path) -> None:
    """Leaving without an error waits for each job, also those that nobody awaits."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(20)]
        jobs.append(jobs[0].extend("more"))
    assert all(job.status is JobStatus.COMPLETED for job in jobs)
    assert client.fake_transport.is_closed
    assert not left_over()


async def test_being_cancelled_while_entering_leaves_nothing(tmp_path: Path) -> None:
    """A cancellation that arrives while the client is being entered leaves no asyncio task behind."""

    async def run() -> None:
        async with FakeClient(Server(), tmp_path):
            await asyncio.sleep(1000)

    for turns in range(4):
        task = asyncio.create_task(run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=100)
        assert task.cancelled()
        assert not left_over()


async def test_cancelling_a_normal_leave_stops_at_once(tmp_path: Path) -> None:
    """Who is cancelled while waiting for the last jobs leaves within seconds, and the jobs' waiters are told."""
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


async def test_anyio_scopes_can_leave_too(tmp_path: Path) -> None:
    """An anyio timeout around the whole block leaves it within seconds."""
    server = Server(duration=5000)
    began = 0.0
    with anyio.move_on_after(50) as scope:
        async with FakeClient(server, tmp_path) as client:
            began = server.now()
            await client.submit("p")
    assert scope.cancelled_caught
    assert server.now() - began < 50 + SECONDS
    assert not left_over()


@pytest.mark.parametrize("way", ["in", "out"])
async def test_waiters_in_a_task_group_around_or_within(tmp_path: Path, way: str) -> None:
    """Jobs awaited in a task group outside or inside of the block get their outcome when it is left by an error."""
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

    if way == "in":
        with pytest.raises(ExceptionGroup) as caught:
            await within()
        assert caught.group_contains(ZeroDivisionError)
    else:
        async with asyncio.TaskGroup() as group, left_by_error(FakeClient(server, tmp_path)) as client:
            for number in range(5):
                group.create_task(wait(client.submit(f"p{number}")))
            await asyncio.sleep(5)
    assert not left_over()


async def test_each_waiter_is_told_of_its_own_job(tmp_path: Path) -> None:
    """The `ClientClosed` of each job names that job's key and task_id, also of one that waited for its parent."""
    async with left_by_error(FakeClient(Server(duration=500), tmp_path)) as client:
        jobs = [client.submit(f"p{number}") for number in range(3)]
        jobs.append(jobs[0].extend("more"))
        await asyncio.sleep(5)
    for job in jobs:
        with pytest.raises(ClientClosed) as caught:
            await job
        assert caught.value.key == job.key
        assert caught.value.task_id == job.task_id


# A bug inside


class BuggyLedger(MemoryJobStore):
    """Has a bug when asked for one more row."""

    def insert(self, record: Any) -> Any:
        """Insert, or break."""
        if record.key == "bug":
            return _broken()
        return super().insert(record)


async def _broken() -> None:
    raise ZeroDivisionError("a bug")


def plant(room: str, server: Server) -> None:
    """Plant a bug in what a room uses, from some moment on."""

    def bug(_: object) -> Fault:
        if server.now() > 1030:
            raise ZeroDivisionError("a bug")
        return None

    def bug_at_submit(post: Post) -> Fault:
        return bug(post)

    if room == "submitter":
        server.on_submit = bug_at_submit
    elif room == "poller":
        server.on_check = bug
    elif room == "downloader":
        server.on_download = bug


@pytest.mark.parametrize("room", ["dispatcher", "submitter", "poller", "downloader"])
async def test_a_bug_in_a_room_reaches_waiters_and_the_block(tmp_path: Path, room: str) -> None:
    """Whatever room breaks down: each waiter gets `ClientClosed` caused by the bug, and the block raises the bug."""
    server = Server(duration=25)
    plant(room, server)

    async def block() -> None:
        async with FakeClient(server, tmp_path, ledger=BuggyLedger()) as client:
            waiters = [asyncio.ensure_future(client.submit(f"p{number}")) for number in range(10)]
            await asyncio.sleep(29)
            waiters += [asyncio.ensure_future(client.submit(f"q{number}")) for number in range(10)]
            await asyncio.sleep(1)
            waiters.append(asyncio.ensure_future(client.submit("r", key="bug" if room == "dispatcher" else "fine")))
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


async def test_a_bug_while_leaving_normally_comes_out_of_the_block(tmp_path: Path) -> None:
    """A room that breaks down while the block waits for the last jobs raises its bug there."""
    server = Server(duration=50)
    plant("poller", server)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        async with FakeClient(server, tmp_path) as client:
            client.submit("p")
    assert not left_over()


async def test_a_bug_does_not_hide_the_error_of_the_block(tmp_path: Path) -> None:
    """Where a room has broken down and the block raises something of its own, that is what comes out."""
    server = Server(duration=50)
    plant("poller", server)

    async def block() -> None:
        async with FakeClient(server, tmp_path) as client:
            client.submit("p")
            await asyncio.sleep(100)
            raise ArithmeticError("mine")

    with pytest.raises(ArithmeticError, match="mine"):
        await block()


async def test_a_ledger_that_fails_stops_buying(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be recorded is not bought: a ledger that fails stops the line, and what is paid is still fetched."""

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


# Loops and tasks


async def test_entering_in_one_task_and_leaving_in_another_works(tmp_path: Path) -> None:
    """Test fixtures and web frameworks enter and leave in different asyncio tasks."""
    client = FakeClient(Server(), tmp_path)
    await asyncio.create_task(client.__aenter__())
    job = client.submit("p")
    await asyncio.create_task(client.__aexit__(None, None, None))
    assert job.status is JobStatus.COMPLETED
    assert not left_over()


async def test_a_client_is_entered_once(tmp_path: Path) -> None:
    """Entering it again, or using it before and after, says so."""
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


def test_a_second_event_loop_is_told_so(tmp_path: Path) -> None:
    """Using a client, or a job of it, in another event loop raises a clear error instead of hanging."""
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


def test_the_end_of_the_loop_ends_a_client_that_was_never_left(tmp_path: Path) -> None:
    """`asyncio.run` returning while a client is open leaves no waiter hanging and no complaint."""
    jobs: list[Job] = []

    async def main() -> None:
        client = FakeClient(Server(duration=1000), tmp_path)
        await client.__aenter__()
        jobs.append(client.submit("p"))
        await asyncio.sleep(0.1)

    asyncio.run(main())
    assert jobs[0].done()
