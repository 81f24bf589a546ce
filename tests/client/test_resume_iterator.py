"""`client.resume()` resumes unfinished jobs lazily, from the oldest to the newest, and never twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from omni_async import ClientClosed, JobCancelled, JobStatus, LedgerError, PaymentRequired
from omni_async.ledger import MemoryJobStore
from tests.support.fakes import FakeClient, Server, left_by_error, left_over, refusal
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.jobs.records import JobRecord
    from omni_async.jobs.store import RecordPage


async def store_with(tmp_path: Path, number: int) -> MemoryJobStore:
    """Return a store with unfinished jobs, none of them sent: the account had no credit."""
    store = MemoryJobStore()
    server = Server(on_submit=lambda _: refusal(402, code="payment_required"))
    async with FakeClient(server, tmp_path, ledger=store) as client:
        for index in range(number):
            with pytest.raises(PaymentRequired):
                await client.submit(f"p{index}", key=f"k{index}")
    return store


async def test_jobs_are_yielded_oldest_first_while_they_run(tmp_path: Path) -> None:
    """They come in the order of their creation, before they are done, and each is paid for once."""
    store, server = await store_with(tmp_path, 5), Server(duration=100)
    async with FakeClient(server, tmp_path, ledger=store) as client:
        jobs = [job async for job in client.resume()]
        assert [job.key for job in jobs] == [f"k{index}" for index in range(5)]
        assert not any(job.done() for job in jobs)
        assert all([(await job).is_file() for job in jobs])
    assert len(server.posts) == 5


async def test_no_more_than_max_pending_are_unfinished(tmp_path: Path) -> None:
    """The others wait in the ledger until a job ends, whether or not the caller iterates."""
    store, server = await store_with(tmp_path, 12), Server(duration=10)
    async with FakeClient(server, tmp_path, ledger=store) as client:
        live = []
        async for job in client.resume(max_pending=3):
            live.append(client.statistics().in_flight + client.statistics().waiting)
            await job
        assert len(live) == 12
        assert max(live) <= 3
        assert server.most_in_flight == 3


async def test_jobs_are_resumed_without_iterating(tmp_path: Path) -> None:
    """Leaving the block resumes all of them, a few at a time, and waits for them."""
    store, server = await store_with(tmp_path, 7), Server()
    async with FakeClient(server, tmp_path, ledger=store) as client:
        client.resume(max_pending=2)
    assert server.most_in_flight == 2
    assert {record.status for record in store._records.values()} == {JobStatus.COMPLETED}


async def test_a_job_that_was_submitted_meanwhile_is_not_submitted_again(tmp_path: Path) -> None:
    """Rows are read again before they are resumed, so a job finished meanwhile is left alone."""
    durations = iter([5.0, 20.0, 40.0, 5.0])
    store, server = await store_with(tmp_path, 4), Server(duration=lambda: next(durations))
    async with FakeClient(server, tmp_path, ledger=store) as client:
        iterator = client.resume(max_pending=2)
        await anyio.sleep(10)  # k0 is done, k1 and k2 run, and k3 is the last one of a page that was read already
        await client.submit("p3", key="k3")
        assert [job.key async for job in iterator] == ["k0", "k1", "k2", "k3"]
    assert [post.body["prompt"] for post in server.posts].count("p3") == 1
    assert len(server.tasks) == 4


async def test_a_job_that_was_cancelled_meanwhile_stays_cancelled(tmp_path: Path) -> None:
    """A page may be old when its last job is resumed: a job that the user has cancelled meanwhile is not resumed."""
    store, server = await store_with(tmp_path, 4), Server(duration=100)
    async with FakeClient(server, tmp_path, ledger=store) as client:
        iterator = client.resume(max_pending=2)
        await anyio.sleep(110)  # k3 is the last one of a page that was read already
        last = client.submit("p3", key="k3")
        await last.accepted()
        last.cancel()
        *others, again = [job async for job in iterator]
        assert [job.key for job in (*others, again)] == ["k0", "k1", "k2", "k3"]
        with pytest.raises(JobCancelled):
            await again
    assert store._records["k3"].status is JobStatus.CANCELLED


@pytest.mark.parametrize("max_pending", [1, 1000])
async def test_a_job_that_is_older_than_its_parent_waits_for_it(tmp_path: Path, max_pending: int) -> None:
    """A row may be older than that of its parent, if the parent was rejected at first because a file was missing."""
    store, server = MemoryJobStore(), Server(duration=10)
    no_credit = Server(on_submit=lambda _: refusal(402, code="payment_required"))
    async with FakeClient(no_credit, tmp_path, ledger=store) as client:
        parent = client.submit("p", key="parent")
        child = parent.extend("then", key="child")
        for job in (parent, child):
            with pytest.raises(PaymentRequired):
                await job
    store._records = dict(reversed(store._records.items()))
    async with FakeClient(server, tmp_path, ledger=store) as client:
        jobs = [job async for job in client.resume(max_pending=max_pending)]
        assert [job.key for job in jobs] == ["child", "parent"]
        assert all([(await job).is_file() for job in jobs])
    assert [post.body["prompt"] for post in server.posts] == ["p", "then"]


@pytest.mark.parametrize("status", [JobStatus.DOWNLOADING, JobStatus.COMPLETED, JobStatus.DOWNLOAD_FAILED])
async def test_a_job_that_is_read_before_its_finished_parent_is_submitted(tmp_path: Path, status: JobStatus) -> None:
    """The job waits for the row of its parent, and then for nothing more."""
    store, server = MemoryJobStore(), Server(duration=10)
    async with FakeClient(server, tmp_path, ledger=store) as client:
        parent = client.submit("p", key="parent")
        await parent
        child = parent.extend("then", key="child")
        child.cancel()
        with pytest.raises(JobCancelled):
            await child
    store._records["parent"] = replace(store._records["parent"], status=status)
    async with FakeClient(server, tmp_path, ledger=store) as client, asyncio.timeout(100):
        child, parent = client.resubmit("child"), client.submit("p", key="parent")
        assert (await child).is_file()
        assert (await parent).is_file()
    assert [post.body["prompt"] for post in server.posts] == ["p", "then"]


async def test_a_parent_that_is_resumed_while_its_row_is_read_is_resumed_once(tmp_path: Path) -> None:
    """A page may reach the parent while the job before it looks for it in the store."""

    class Slow(MemoryJobStore):
        def find(self, key: str) -> Any:
            return self._find(key)

        async def _find(self, key: str) -> JobRecord | None:
            await anyio.sleep(100)
            return await super().find(key)

    store, durations = Slow(), iter([130.0, 10.0, 10.0])
    no_credit = Server(on_submit=lambda _: refusal(402, code="payment_required"))
    async with FakeClient(no_credit, tmp_path, ledger=store) as client:
        other, parent = client.submit("o", key="other"), client.submit("p", key="parent")
        for job in (other, parent, parent.extend("then", key="child")):
            with pytest.raises(PaymentRequired):
                await job
    store._records = {key: store._records[key] for key in ("other", "child", "parent")}
    server = Server(duration=lambda: next(durations))
    async with FakeClient(server, tmp_path, ledger=store) as client:
        jobs = [job async for job in client.resume(max_pending=2)]
        assert [job.key for job in jobs] == ["other", "child", "parent"]
        assert all([(await job).is_file() for job in jobs])
    assert [post.body["prompt"] for post in server.posts] == ["o", "p", "then"]


async def test_leaving_the_client_ends_an_iteration_with_an_error(tmp_path: Path) -> None:
    """An end without an error would say that every job of the ledger was resumed."""
    store = await store_with(tmp_path, 4)

    async def iterate(client: FakeClient) -> list[str]:
        return [job.key async for job in client.resume(max_pending=2)]

    async with left_by_error(FakeClient(Server(duration=1000), tmp_path, ledger=store)) as client:
        task = asyncio.create_task(iterate(client))
        await anyio.sleep(5)
    with pytest.raises(ClientClosed):
        await task
    assert not left_over()


async def test_a_running_job_is_yielded_as_the_same_object(tmp_path: Path) -> None:
    """A job of this client that is still running is the same `Job` object."""
    async with FakeClient(Server(duration=50), tmp_path) as client:
        job = client.submit("p")
        await job.accepted()
        assert await resumed(client) == [job]


async def test_as_completed_accepts_resume(tmp_path: Path) -> None:
    """`as_completed` takes what `resume` returns."""
    durations = iter([30.0, 10.0, 20.0])
    store, server = await store_with(tmp_path, 3), Server(duration=lambda: next(durations))
    async with FakeClient(server, tmp_path, ledger=store) as client:
        assert [job.key async for job in client.as_completed(client.resume())] == ["k1", "k2", "k0"]


async def test_an_unreadable_store_raises_in_the_iteration(tmp_path: Path) -> None:
    """The client continues to work."""

    class Broken(MemoryJobStore):
        async def unfinished(self, after: int = 0, limit: int = 1000) -> RecordPage:  # type: ignore[override]
            raise LedgerError("the disk is gone")

    async with left_by_error(FakeClient(Server(), tmp_path, ledger=Broken())) as client:
        with pytest.raises(LedgerError, match="the disk is gone"):
            await resumed(client)
        assert (await client.submit("p")).is_file()


async def test_max_pending_must_be_at_least_one(tmp_path: Path) -> None:
    """A smaller value raises immediately."""
    async with FakeClient(Server(), tmp_path) as client:
        with pytest.raises(ValueError, match=r"resume\(max_pending=0\)"):
            client.resume(max_pending=0)
