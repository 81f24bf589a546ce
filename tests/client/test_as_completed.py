"""`as_completed` on virtual time: order, back-pressure, and sources that are slow, endless or broken."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    AuthenticationError,
    ClientClosed,
    JobCancelled,
    JobFailed,
    Limits,
    OmniError,
    PaymentRequired,
    VideoRequest,
)
from tests.support.fakes import FakeClient, Server, left_by_error, left_over, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from omni_async import Job

pytestmark = pytest.mark.timeout(30)


class Source:
    """An iterable of prompts that counts how many were taken from it."""

    def __init__(self, most: int | None = None, pause: float = 0.0) -> None:
        self.taken = 0
        self.most = most
        self.pause = pause
        self.is_closed = False

    def __iter__(self) -> Iterator[str]:
        while self.most is None or self.taken < self.most:
            self.taken += 1
            yield f"p{self.taken}"

    async def stream(self) -> AsyncIterator[str]:
        """Yield the same prompts slowly."""
        try:
            for prompt in self:
                await asyncio.sleep(self.pause)
                yield prompt
        finally:
            self.is_closed = True


def unfinished(client: FakeClient) -> int:
    """Return the number of jobs that are not done."""
    return len(client._lifetime.entered().registry.live())


async def test_every_job_is_yielded_once_in_order_of_completion(tmp_path: Path) -> None:
    """The order of submission does not matter."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(10)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        for number, job in enumerate(reversed(jobs)):
            assert job.task_id is not None
            server.tasks[job.task_id].ready_at = 1100 + number * 30
        seen = [job async for job in client.as_completed(jobs)]
        assert seen == jobs[::-1]


@pytest.mark.parametrize("max_pending", [1, 7, 1000])
async def test_a_plain_source_is_read_as_jobs_finish(tmp_path: Path, max_pending: int) -> None:
    """At most `max_pending` jobs are unfinished, and every item is submitted in the end."""
    server, source, most = Server(), Source(60), 0
    async with FakeClient(server, tmp_path) as client:
        done: list[Path] = []
        async for job in client.as_completed(source, max_pending=max_pending):
            most = max(most, unfinished(client))
            assert source.taken <= len(done) + 1 + max_pending + 60 // 2
            done.append(await job)
    assert most <= max_pending
    assert len(set(done)) == 60


async def test_an_async_source_can_be_used_first(tmp_path: Path) -> None:
    """An async iterable works immediately after the client is entered."""
    source = Source(5, pause=1)
    async with FakeClient(Server(), tmp_path) as client:
        assert len([job async for job in client.as_completed(source.stream())]) == 5


@pytest.mark.parametrize("max_pending", [1, 5])
async def test_an_async_source_is_read_as_jobs_finish(tmp_path: Path, max_pending: int) -> None:
    """At most `max_pending` jobs are unfinished."""
    server, source = Server(), Source(30)
    async with FakeClient(server, tmp_path) as client:
        await asyncio.sleep(1)
        async for job in client.as_completed(source.stream(), max_pending=max_pending):
            assert unfinished(client) <= max_pending
            await job
    assert len(server.tasks) == 30


async def test_a_finished_job_does_not_wait_for_a_slow_source(tmp_path: Path) -> None:
    """It is yielded immediately, also while the source yields nothing for an hour."""
    server, source = Server(duration=10), Source(3, pause=3600)
    async with FakeClient(server, tmp_path) as client:
        await asyncio.sleep(1)
        began = server.now()
        times = [server.now() - began async for _ in client.as_completed(source.stream())]
    assert times[0] < 3600 + 30
    assert times[1] < 7200 + 30


async def test_a_failed_job_is_yielded(tmp_path: Path) -> None:
    """Failures do not end the iteration; awaiting the job raises."""
    server = Server()
    server.on_submit = lambda post: refusal(400) if post.number % 3 == 0 else None
    failed = 0
    async with FakeClient(server, tmp_path) as client:
        async for job in client.as_completed(f"p{number}" for number in range(30)):
            assert job.done()
            try:
                await job
            except OmniError:
                failed += 1
    assert failed == 10


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_error_of_the_source_is_raised_and_loses_no_job(tmp_path: Path, kind: str) -> None:
    """Every job that was submitted before is completed and yielded."""
    server = Server()

    def broken() -> Iterator[str]:
        yield from ("a", "b", "c")
        raise ArithmeticError("source")

    async def broken_stream() -> AsyncIterator[str]:
        for prompt in broken():
            await asyncio.sleep(1)
            yield prompt

    seen: list[Job] = []
    async with FakeClient(server, tmp_path) as client:
        await asyncio.sleep(1)
        iterator = client.as_completed(broken() if kind == "sync" else broken_stream())
        errors = 0
        while True:
            try:
                seen.append(await anext(iterator))
            except ArithmeticError:
                errors += 1
            except StopAsyncIteration:
                break
        assert errors == 1
        assert len(seen) == 3
    assert len(server.tasks) == 3


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_invalid_item_raises_in_the_loop(tmp_path: Path, kind: str) -> None:
    """The client continues to work."""

    async def stream() -> AsyncIterator[str]:
        yield "fine"
        yield ""

    async with FakeClient(Server(), tmp_path) as client:
        await asyncio.sleep(1)
        with pytest.raises(ValueError, match="prompt"):
            async for _ in client.as_completed(["fine", ""] if kind == "sync" else stream()):
                pass
        assert (await client.submit("later")).is_file()


async def test_a_source_can_yield_requests_prompts_and_jobs(tmp_path: Path) -> None:
    """A job may be done already."""
    async with FakeClient(Server(), tmp_path) as client:
        done = client.submit("done", key="done")
        await done
        items: list[VideoRequest | str | Job] = [
            "one",
            VideoRequest(prompt="two"),
            client.submit("three", key="three"),
            done,
        ]
        assert len([job async for job in client.as_completed(items)]) == 4


async def test_break_stops_a_plain_source(tmp_path: Path) -> None:
    """Nothing more is taken from the source, and what was taken is completed."""
    server, source = Server(), Source()
    async with FakeClient(server, tmp_path) as client:
        async for _ in client.as_completed(source, max_pending=5):
            if source.taken >= 20:
                break
        taken = source.taken
    assert source.taken == taken
    assert len(server.tasks) == taken


async def test_break_stops_an_async_source(tmp_path: Path) -> None:
    """At most `max_pending` more items are taken, and the client can be left."""
    server, source = Server(), Source(500, pause=0.1)
    async with FakeClient(server, tmp_path) as client:
        await asyncio.sleep(1)
        async for _ in client.as_completed(source.stream(), max_pending=5):
            break
        taken = source.taken
    assert source.taken <= taken + 5


async def test_the_first_failure_is_yielded_before_the_source_is_exhausted(tmp_path: Path) -> None:
    """If every job fails immediately, the first one is yielded soon."""
    server, source = Server(on_submit=lambda _: refusal(401)), Source(20_000)
    async with FakeClient(server, tmp_path) as client:
        async for job in client.as_completed(source, max_pending=100):
            with pytest.raises(AuthenticationError):
                await job
            break
        assert source.taken <= 1000
    assert len(server.posts) == 1


async def test_finished_jobs_are_yielded_one_by_one(tmp_path: Path) -> None:
    """A source of finished jobs is not read to its end first."""
    taken = 0
    async with FakeClient(Server(), tmp_path) as client:
        done = client.submit("done")
        await done

        def source() -> Iterator[Job]:
            nonlocal taken
            for taken in count(1):
                if taken > 20_000:
                    return
                yield done

        async for job in client.as_completed(source(), max_pending=10):
            assert job is done
            break
        assert taken <= 100


async def test_a_timeout_of_anext_loses_no_job(tmp_path: Path) -> None:
    """`wait_for` around one step may time out any number of times."""
    seen = []
    async with FakeClient(Server(duration=30), tmp_path) as client:
        iterator = client.as_completed(Source(20), max_pending=3)
        while True:
            try:
                seen.append(await asyncio.wait_for(anext(iterator), 0.7))
            except TimeoutError:
                continue
            except StopAsyncIteration:
                break
    assert len(set(seen)) == 20


async def test_concurrent_iterations_are_independent(tmp_path: Path) -> None:
    """Two loops over the same client each get their own jobs."""

    async def loop(client: FakeClient, source: Source) -> list[str]:
        return [job.key async for job in client.as_completed(source, max_pending=3)]

    async with FakeClient(Server(), tmp_path) as client:
        one, two = await asyncio.gather(loop(client, Source(15)), loop(client, Source(15)))
    assert len(set(one)) == len(set(two)) == 15
    assert not set(one) & set(two)


async def test_a_cancelled_job_is_yielded(tmp_path: Path) -> None:
    """It raises when it is awaited."""
    server = Server(duration=500)
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(4)]
        await jobs[3].accepted()
        iterator = client.as_completed(jobs)
        jobs[2].cancel()
        first = await anext(iterator)
        assert first is jobs[2]
        with pytest.raises(JobCancelled):
            await first
        for task in server.tasks.values():
            task.fails = True
        server.finish()
        async for job in iterator:
            with pytest.raises(JobFailed):
                await job


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_leaving_the_client_ends_an_iteration(tmp_path: Path, kind: str) -> None:
    """An iteration in another asyncio task ends when the client is left by an exception."""
    source, seen = Source(pause=1), []

    async def iterate(client: FakeClient) -> None:
        wanted = source if kind == "sync" else source.stream()
        seen.extend([job async for job in client.as_completed(wanted, max_pending=10)])

    async with left_by_error(FakeClient(Server(duration=1000), tmp_path)) as client:
        await asyncio.sleep(1)
        task = asyncio.create_task(iterate(client))
        await asyncio.sleep(60)
    async with asyncio.timeout(20):
        try:
            await task
        except ClientClosed:  # a plain source is read by the iterating task, whose submit raises
            assert kind == "sync"
    assert not left_over()


async def test_an_async_source_is_closed_with_the_client(tmp_path: Path) -> None:
    """The `finally` of an async generator has run when the client is closed."""
    source = Source(pause=0.1)
    async with left_by_error(FakeClient(Server(duration=1000), tmp_path)) as client:
        await asyncio.sleep(1)
        iterator = client.as_completed(source.stream(), max_pending=3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(iterator), 30)
    assert source.is_closed


@pytest.mark.parametrize("waits", [False, True], ids=["between two items", "for an item"])
async def test_an_async_source_may_clean_up_when_the_client_is_closed(tmp_path: Path, waits: bool) -> None:
    """A generator that holds a connection, for example, can await its end: it is cancelled once."""
    steps: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            for number in range(9):
                yield f"p{number}"
                if waits:
                    await asyncio.sleep(1e6)
        finally:
            steps.append("closing")
            await asyncio.sleep(0.5)
            await asyncio.sleep(0.5)
            steps.append("closed")

    async with FakeClient(Server(), tmp_path) as client:
        async for _ in client.as_completed(source(), max_pending=2):
            break
    assert steps == ["closing", "closed"]
    assert not left_over()


async def test_an_async_source_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Its cleanup has two seconds."""
    server = Server()

    async def source() -> AsyncIterator[str]:
        try:
            yield "p"
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(1e6)

    client = await FakeClient(server, tmp_path).open()
    async for _ in client.as_completed(source()):
        break
    began = server.now()
    await client.aclose()
    assert 2 <= server.now() - began < 4
    await asyncio.sleep(0)
    assert not left_over()


async def test_every_job_after_a_402_raises_payment_required(tmp_path: Path) -> None:
    """Each further item is yielded as a job that raises, without another POST."""
    server = Server(latency=0.01)
    server.on_submit = lambda _: refusal(402) if len(server.tasks) >= 10 else None
    paid = refused = 0
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=5)) as client:
        async for job in client.as_completed(Source(100), max_pending=20):
            try:
                await job
                paid += 1
            except PaymentRequired:
                refused += 1
    assert (paid, refused) == (10, 90)
    assert len(server.posts) <= 15


@pytest.mark.parametrize("max_pending", [0, -1])
async def test_max_pending_must_be_at_least_one(tmp_path: Path, max_pending: int) -> None:
    """A smaller value raises immediately."""
    async with FakeClient(Server(), tmp_path) as client:
        with pytest.raises(ValueError, match="max_pending must be at least 1"):
            client.as_completed(["p"], max_pending=max_pending)
