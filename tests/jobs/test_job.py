"""What a job is to those who wait for it, on virtual time: waiters, cancelling, extending, keys, attaching, events."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from omni_async import (
    DownloadError,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    JobStatus,
    KeyReused,
    Limits,
    NotFound,
    OmniError,
    ParentFailed,
    Retry,
    ServerError,
    SubmitOutcomeUnknown,
    TransportError,
)
from tests.support.fakes import HTML, FakeClient, Fault, Server, not_sent, refusal
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import Job, JobEvent

pytestmark = pytest.mark.timeout(30)


async def until(job: Job, status: JobStatus) -> None:
    """Wait until a job stands there."""
    async with asyncio.timeout(5000):
        while job.status is not status:
            await asyncio.sleep(0.001)


# Waiters


async def test_a_job_may_be_awaited_by_many_and_often(tmp_path: Path) -> None:
    """A thousand waiters, before and after, all get the same path."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("p", key="mine")
        paths = await asyncio.gather(*(asyncio.ensure_future(job) for _ in range(1000)))
        paths += [await job, await job]
        assert set(paths) == {tmp_path / "mine.mp4"}
        assert job.paths == (tmp_path / "mine.mp4",)
        assert job.done()
        assert job.progress == 100
        assert job.cost == 0.5
        assert job.task is not None
        assert job.task.status == "completed"
        assert not job.cancel()


async def test_a_cancelled_waiter_harms_nothing(tmp_path: Path) -> None:
    """wait_for, a cancelled task and an anyio timeout give up waiting; the job and other waiters go on."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("p")
        patient = asyncio.ensure_future(job)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job, 1)
        with anyio.move_on_after(1):
            await job
        waiter = asyncio.create_task(job.accepted())
        other = asyncio.ensure_future(job)
        await asyncio.sleep(0)
        other.cancel()
        waiter.cancel()
        assert (await patient).is_file()
        assert not job.cancel()


@pytest.mark.parametrize(
    "way", ["gather", "as_completed", "wait_for", "TaskGroup", "anyio", "shield", "wait", "timeout"]
)
async def test_jobs_work_with_what_asyncio_and_anyio_offer(tmp_path: Path, way: str) -> None:  # noqa: C901 - a table
    """A job is an awaitable like any other."""
    async with FakeClient(Server(), tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(5)]
        paths: list[Any] = []

        async def wait(job: Job) -> None:
            paths.append(await job)

        match way:
            case "gather":
                paths += await asyncio.gather(*jobs)
            case "as_completed":
                paths += [await each for each in asyncio.as_completed(jobs)]
            case "wait_for":
                paths += [await asyncio.wait_for(job, 1000) for job in jobs]
            case "shield":
                paths += [await asyncio.shield(job) for job in jobs]
            case "wait":
                done, _ = await asyncio.wait([asyncio.ensure_future(job) for job in jobs])
                paths += [each.result() for each in done]
            case "TaskGroup":
                async with asyncio.TaskGroup() as group:
                    for job in jobs:
                        group.create_task(wait(job))
            case "anyio":
                async with anyio.create_task_group() as tasks:
                    for job in jobs:
                        tasks.start_soon(wait, job)
            case "timeout":
                async with asyncio.timeout(1000):
                    for job in jobs:
                        await wait(job)
        assert {path.name for path in paths} == {f"{job.key}.mp4" for job in jobs}


async def test_an_error_is_raised_to_each_waiter_alike(tmp_path: Path) -> None:
    """Each waiter gets the error, also those who come later, and its traceback does not grow."""
    async with FakeClient(Server(on_submit=lambda _: refusal(400)), tmp_path) as client:
        job = client.submit("p")
        results = await asyncio.gather(*(asyncio.ensure_future(job) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(result, OmniError) for result in results)
        depths = []
        for _ in range(5):
            with pytest.raises(OmniError) as caught:
                await job
            depths.append(len(caught.traceback))
        assert depths[-1] <= depths[0]


async def test_accepted_gives_the_task_id_long_before_the_end(tmp_path: Path) -> None:
    """accepted() waits for the task_id alone; a second call gives it at once, also after the end."""
    server = Server(duration=500)
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        assert job.task_id is None
        both = await asyncio.gather(job.accepted(), job.accepted())
        assert set(both) == {job.task_id}
        assert job.status is JobStatus.RUNNING
        assert server.now() < 1010
        server.finish()
        await job
        assert await job.accepted() == job.task_id


async def test_accepted_raises_what_went_wrong_before(tmp_path: Path) -> None:
    """A job that is refused, or cancelled before it was sent, raises from accepted() too."""
    async with FakeClient(Server(on_submit=lambda _: refusal(400)), tmp_path) as client:
        job = client.submit("p")
        with pytest.raises(OmniError, match="400"):
            await job.accepted()
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("p")
        job.cancel()
        with pytest.raises(JobCancelled):
            await job.accepted()


# Cancelling


async def test_cancel_before_it_is_sent_costs_nothing(tmp_path: Path) -> None:
    """A waiting job that is cancelled is never sent."""
    server = Server(duration=100)
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=1)) as client:
        first, second, third = (client.submit(f"p{number}") for number in range(3))
        await first.accepted()
        assert second.cancel()
        assert not second.cancel()
        with pytest.raises(JobCancelled) as caught:
            await second
        assert caught.value.key == second.key
        assert caught.value.task_id is None
        assert second.status is JobStatus.CANCELLED
        await asyncio.gather(first, third)
    assert len(server.posts) == 2


async def test_cancel_on_the_wire_keeps_the_task_id(tmp_path: Path) -> None:
    """A job cancelled while its POST is out ends when the answer is recorded, and names the task that is billed."""
    server = Server(latency=5, duration=100)
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        await asyncio.sleep(1)
        assert job.cancel()
        with pytest.raises(JobCancelled) as caught:
            await job
        assert caught.value.task_id == next(iter(server.tasks))
        assert client.memory._records[job.key].task_id == caught.value.task_id
    assert not server.downloads


async def test_cancel_while_in_doubt_resends_nothing(tmp_path: Path) -> None:
    """A job in doubt that is cancelled is not sent again, and the error does not claim that it costs nothing."""
    server = Server(on_submit=lambda _: HTML)
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        await asyncio.sleep(0.2)
        job.cancel()
        with pytest.raises(JobCancelled, match=r"bill|may|unknown|doubt"):
            await job
        sent = len(server.posts)
        server.on_submit = None
        await client.submit("q")
    assert len(server.posts) == sent + 1


@pytest.mark.parametrize("answer", ["refused", "lost", "not sent", "never", "stop"])
async def test_cancel_on_the_wire_whatever_comes_back(tmp_path: Path, answer: str) -> None:
    """A job cancelled while its POST is out ends as cancelled, or as what the answer said, and others go on."""
    faults: dict[str, Fault] = {"refused": refusal(429), "lost": "lost", "not sent": not_sent(), "never": refusal(400)}
    server = Server(latency=5)
    server.on_submit = lambda post: faults.get(answer, refusal(402)) if post.number == 1 else None
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        await asyncio.sleep(1)
        job.cancel()
        with pytest.raises(OmniError):
            await asyncio.wait_for(job, 20)
        client.resume()
        assert (await client.submit("q")).is_file()
    assert sum(post.body["prompt"] == "p" for post in server.posts) == 1


async def test_cancel_while_running_and_attach_again(tmp_path: Path) -> None:
    """A running job that is cancelled says that it is billed; attach follows it again to its clip, without a POST."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        task_id = await job.accepted()
        assert job.cancel()
        with pytest.raises(JobCancelled, match="bill"):
            await job
        await asyncio.sleep(100)
        again = client.attach(task_id, key="k")
        assert await again == tmp_path / "k.mp4"
    assert len(server.posts) == 1


async def test_cancel_while_downloading_harms_no_other_job(tmp_path: Path) -> None:
    """A job cancelled at any moment of its download ends cancelled; its neighbours and the client go on."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        for moment in range(40):
            job = client.submit("p", key=f"k{moment}")
            await job.accepted()
            server.finish()
            await until(job, JobStatus.DOWNLOADING)
            await asyncio.sleep(moment * 0.005)
            if job.cancel():
                with pytest.raises(JobCancelled):
                    await job
            other = client.submit("q")
            await other.accepted()
            server.finish()
            assert (await other).is_file()
        assert client.statistics().downloading == 0
    for record in client.memory._records.values():
        is_there = (tmp_path / f"{record.key}.mp4").exists()
        assert is_there or record.status is JobStatus.CANCELLED


async def test_cancel_while_a_download_rests_harms_no_other_job(tmp_path: Path) -> None:
    """A job cancelled between two attempts of a download that fails ends cancelled, and gives its place free soon."""
    server = Server()
    server.on_download = lambda url: TransportError("reset") if "01.mp4" in url else None
    async with FakeClient(server, tmp_path, limits=Limits(max_downloads=1), retry=Retry(timeout=200)) as client:
        job = client.submit("p")
        await until(job, JobStatus.DOWNLOADING)
        await asyncio.sleep(3)
        job.cancel()
        began = server.now()
        other = client.submit("q")
        assert (await other).is_file()
        assert server.now() - began < 20 + 60, "the cancelled job held the only place"
        await asyncio.sleep(1000)
        assert (await client.submit("r")).is_file()


async def test_cancel_while_a_download_stalls_frees_its_place(tmp_path: Path) -> None:
    """A cancelled job whose transfer has stalled does not hold its place among the downloads for long."""
    server = Server()
    server.on_download = lambda url: "stall" if "01.mp4" in url else None
    async with FakeClient(server, tmp_path, limits=Limits(max_downloads=1)) as client:
        job = client.submit("p")
        await until(job, JobStatus.DOWNLOADING)
        await asyncio.sleep(1)
        job.cancel()
        began = server.now()
        assert (await client.submit("q")).is_file()
        assert server.now() - began < 90
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


async def test_cancel_a_finished_job_does_nothing(tmp_path: Path) -> None:
    """A job that has ended cannot be cancelled."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("p")
        path = await job
        assert not job.cancel()
        assert await job == path
        assert job.status is JobStatus.COMPLETED


async def test_cancelling_all_of_many_jobs_at_any_moment(tmp_path: Path) -> None:
    """A hundred jobs, cancelled at a hundred moments, all end, and the client is left normally."""
    server = Server(latency=0.3, duration=15)
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(100)]

        async def cancel(job: Job, after: float) -> None:
            await asyncio.sleep(after)
            job.cancel()

        async with asyncio.TaskGroup() as group:
            for number, job in enumerate(jobs):
                group.create_task(cancel(job, number * 0.31))
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert all(isinstance(result, JobCancelled) or not isinstance(result, BaseException) for result in results)
        stats = client.statistics()
        assert stats.waiting == stats.in_flight == stats.downloading == 0
        assert stats.completed + stats.unresolved == 100


# Extending


async def test_a_chain_of_turns_goes_one_by_one(tmp_path: Path) -> None:
    """Each job of a chain is sent when its parent is finished on the server, naming the parent's task."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        first = client.submit("a", aspect_ratio="9:16", model="gemini-omni-1.1-flash")
        chain = [first, first.extend("b"), first.extend("b2")]
        chain += [chain[1].extend("c"), chain[1].extend("d", aspect_ratio="16:9")]
        await asyncio.gather(*chain)
    bodies = {post.body["prompt"]: post.body for post in server.posts}
    assert "extend_from_task_id" not in bodies["a"]
    assert bodies["b"]["extend_from_task_id"] == bodies["b2"]["extend_from_task_id"] == chain[0].task_id
    assert bodies["c"]["extend_from_task_id"] == chain[1].task_id
    assert bodies["c"]["aspect_ratio"] == "9:16"
    assert bodies["c"]["model"] == "gemini-omni-1.1-flash"
    assert bodies["d"]["aspect_ratio"] == "16:9"
    for parent, child in ((0, 1), (0, 2), (1, 3), (1, 4)):
        before, after = server.tasks[chain[parent].task_id or ""], server.tasks[chain[child].task_id or ""]
        assert after.accepted_at >= before.ready_at


async def test_extending_a_job_that_is_done(tmp_path: Path) -> None:
    """A child of a completed job is sent at once."""
    async with FakeClient(Server(), tmp_path) as client:
        first = client.submit("a")
        await first
        assert (await first.extend("b")).is_file()


@pytest.mark.parametrize("how", ["refused", "failed", "cancelled", "cancelled running", "unknown"])
async def test_the_children_of_a_failed_parent_fail_unsent(tmp_path: Path, how: str) -> None:
    """Whatever becomes of the parent, its children and grandchildren raise `ParentFailed`, and nothing is sent."""
    server = Server()
    server.on_submit = lambda _: {"refused": refusal(400), "unknown": refusal(409, code="idempotency_result_indeterminate")}.get(how)  # fmt: skip  # noqa: E501
    async with FakeClient(server, tmp_path) as client:
        parent = client.submit("a")
        child = parent.extend("b")
        grandchild = child.extend("c")
        if how == "cancelled":
            parent.cancel()
        elif how == "cancelled running":
            await parent.accepted()
            parent.cancel()
        elif how == "failed":
            server.tasks[await parent.accepted()].fails = True
        for job in (child, grandchild, parent.extend("late")):
            with pytest.raises(ParentFailed) as caught:
                await job
            assert caught.value.key == job.key
            assert job.status is JobStatus.FAILED
    assert len(server.posts) <= 1


async def test_an_download_failed_parent_can_be_extended(tmp_path: Path) -> None:
    """A parent that is finished on the server but could not be stored still serves its children."""
    server = Server()
    server.on_download = lambda url: TransportError("reset") if "01.mp4" in url else None
    async with FakeClient(server, tmp_path, retry=Retry(timeout=5)) as client:
        parent = client.submit("a")
        child = parent.extend("b")
        with pytest.raises(DownloadError):
            await parent
        assert (await child).is_file()
        assert (await parent.extend("c")).is_file()


async def test_cancelling_a_waiting_child_leaves_its_parent_alone(tmp_path: Path) -> None:
    """A child that is cancelled while it waits is never sent; parent and siblings go on."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        parent = client.submit("a")
        child, sibling = parent.extend("b"), parent.extend("c")
        await parent.accepted()
        child.cancel()
        await asyncio.gather(parent, sibling)
        with pytest.raises(JobCancelled):
            await child
    assert [post.body["prompt"] for post in server.posts] == ["a", "c"]


async def test_a_stop_reaches_waiting_children_and_resume_revives_the_chain(tmp_path: Path) -> None:
    """After a 401, a whole chain gets the error; resume takes the chain up again, in order."""
    server = Server(on_submit=lambda _: refusal(401))
    async with FakeClient(server, tmp_path) as client:
        parent = client.submit("a", key="a")
        child = parent.extend("b", key="b")
        grandchild = child.extend("c", key="c")
        results = await asyncio.gather(parent, child, grandchild, return_exceptions=True)
        assert all(isinstance(result, OmniError) for result in results)
        server.on_submit = None
        jobs = await resumed(client)
        assert [job.key for job in jobs] == ["a", "b", "c"]
        await asyncio.gather(*jobs)
    assert [post.body["prompt"] for post in server.posts] == ["a", "a", "b", "c"]
    assert server.posts[2].body["extend_from_task_id"] == server.posts[1].task_id


# Keys


async def test_the_same_key_with_the_same_request_is_the_same_job(tmp_path: Path) -> None:
    """While it runs it is the very same object; afterwards it resolves at once to its file; it is paid once."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        assert client.submit("p", key="k") is job
        path = await job
        began = server.now()
        again = client.submit("p", key="k")
        assert await again == path
        assert server.now() - began < 1
        assert again.status is JobStatus.COMPLETED
        assert again.task_id == job.task_id
    assert len(server.posts) == 1
    assert len(server.downloads) == 1


async def test_a_vanished_or_broken_file_is_fetched_again_unpaid(tmp_path: Path) -> None:
    """Where the file of a completed job is gone, or no longer whole, it is fetched again without a POST."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        path = await client.submit("p", key="k")
        whole = path.read_bytes()
        path.unlink()
        assert (await client.submit("p", key="k")).read_bytes() == whole
        path.write_bytes(whole[:-5])
        assert (await client.submit("p", key="k")).read_bytes() == whole
    assert len(server.posts) == 1
    assert len(server.downloads) == 3


@pytest.mark.parametrize("when", ["running", "completed"])
async def test_a_key_with_another_request_is_refused(tmp_path: Path, when: str) -> None:
    """The same key with another request raises `KeyReused` when awaited, sends nothing, and harms the first nothing."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        await (job.accepted() if when == "running" else job)
        other = client.submit("q", key="k")
        with pytest.raises(KeyReused):
            await other
        with pytest.raises(KeyReused):
            await other.accepted()
        assert not other.cancel()
        assert (await job).is_file()
        assert client.submit("p", key="k").key == "k"
    assert len(server.posts) == 1
    assert client.memory._records["k"].status is JobStatus.COMPLETED


async def test_cancelling_a_second_handle_at_once_does_not_harm_the_row(tmp_path: Path) -> None:
    """A handle for a key that is completed already, cancelled in the same breath, leaves what was paid for alone."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        path = await job
        client.submit("p", key="k").cancel()
        await asyncio.sleep(1)
        assert client.memory._records["k"].task_id == job.task_id
        assert await client.submit("p", key="k") == path
    assert len(server.posts) == 1


async def test_a_key_of_a_failed_job_tells_how_it_ended(tmp_path: Path) -> None:
    """Asking again under the key of a job that failed raises what it failed with, and buys nothing."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        server.tasks[await job.accepted()].fails = True
        with pytest.raises(JobFailed, match="moderated"):
            await job
        with pytest.raises(JobFailed, match="moderated"):
            await client.submit("p", key="k")
        server.on_submit = lambda _: refusal(409, code="idempotency_result_indeterminate")
        for _ in range(2):
            with pytest.raises(SubmitOutcomeUnknown):
                await client.submit("p", key="u")
    assert len(server.posts) == 2


async def test_accepted_of_a_job_taken_up_again_does_not_wait_for_its_end(tmp_path: Path) -> None:
    """A handle made for a row that is already accepted gives its task_id as soon as the row is read."""
    server = Server(duration=500)
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p", key="k")
        task_id = await job.accepted()
        job.cancel()
        again = client.submit("p", key="k")
        assert await asyncio.wait_for(again.accepted(), 5) == task_id
        server.finish()
        assert (await again).is_file()
    assert len(server.posts) == 1


# Attaching


async def test_attach_follows_a_foreign_task(tmp_path: Path) -> None:
    """A task submitted elsewhere is followed to its clip, named by the key or by its id."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        ids = [await client.submit(f"p{number}").accepted() for number in range(2)]
    async with FakeClient(server, tmp_path / "b") as client:
        one, two = client.attach(ids[0]), client.attach(ids[1], key="mine")
        assert client.attach(ids[0]) is one
        assert await one.accepted() == ids[0]
        assert await one == tmp_path / "b" / f"{ids[0]}.mp4"
        assert await two == tmp_path / "b" / "mine.mp4"
        assert one.request is None
    assert len(server.posts) == 2


async def test_attach_to_a_task_that_does_not_exist(tmp_path: Path) -> None:
    """An id that the server does not know raises `NotFound` soon."""
    async with FakeClient(Server(), tmp_path) as client:
        with pytest.raises(NotFound):
            await asyncio.wait_for(client.attach("task_nonsense"), 30)


@pytest.mark.parametrize("task_id", ["", "a\nb", "\0"])
async def test_attach_refuses_what_is_no_id(tmp_path: Path, task_id: str) -> None:
    """An empty or unprintable id is refused at once."""
    async with FakeClient(Server(), tmp_path) as client:
        with pytest.raises(ValueError, match="task_id"):
            client.attach(task_id)


# Being told


async def test_events_tell_the_whole_life(tmp_path: Path) -> None:
    """on_event gets each change in order, with previous and next fitting together."""
    events: list[JobEvent] = []
    async with FakeClient(Server(), tmp_path, on_event=events.append) as client:
        job = client.submit("p")
        await job
    moves = [event.status for event in events if event.previous != event.status]
    assert moves == ["waiting", "submitting", "running", "downloading", "completed"]
    assert events[-1].path == tmp_path / f"{job.key}.mp4"
    assert events[-1].cost == 0.5
    previous = None
    for event in events:
        assert event.previous in {previous, event.status}
        previous = event.status


@pytest.mark.parametrize("kind", [ZeroDivisionError, asyncio.CancelledError])
async def test_what_on_event_raises_harms_nothing(
    tmp_path: Path, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """An on_event that always raises is logged, and every job is done."""

    def broken(_: JobEvent) -> None:
        raise kind("display")

    async with FakeClient(Server(), tmp_path, on_event=broken) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(5)))
    assert "display" in caplog.text


@pytest.mark.parametrize("status", ["waiting", "submitting", "running", "downloading", "completed"])
async def test_on_event_may_cancel_the_job_it_is_told_of(tmp_path: Path, status: str) -> None:
    """Cancelling from within on_event, at any status, ends that job, and the ledger says the same as the job."""
    jobs: dict[str, Job] = {}

    def cancel(event: JobEvent) -> None:
        if event.status == status and event.key in jobs:
            jobs[event.key].cancel()

    server = Server()
    async with FakeClient(server, tmp_path, on_event=cancel) as client:
        job = client.submit("p", key="k")
        jobs["k"] = job
        await asyncio.gather(job, return_exceptions=True)
        await asyncio.sleep(100)
        assert client.memory._records["k"].status is job.status
        jobs.clear()
        assert (await client.submit("q")).is_file()


async def test_on_event_may_submit(tmp_path: Path) -> None:
    """Submitting from within on_event works."""
    more: list[Job] = []

    def submit(event: JobEvent) -> None:
        if event.key.startswith("first") and event.status == "running" and not more:
            more.append(client.submit("second"))

    client = FakeClient(Server(), tmp_path, on_event=submit)
    async with client:
        await client.submit("first", key="first")
    assert more[0].status is JobStatus.COMPLETED


async def test_statistics_count_each_job_once(tmp_path: Path) -> None:
    """A job asked for again under its key is still one job in the sums, and so is its cost."""
    async with FakeClient(Server(), tmp_path) as client:
        for _ in range(3):
            await client.submit("p", key="k")
        job = client.submit("q", key="c")
        await job.accepted()
        job.cancel()
        with pytest.raises(KeyReused):
            await client.submit("other", key="k")
        await client.submit("q", key="c")
        stats = client.statistics()
    assert stats.completed == 2
    assert stats.unresolved == 0
    assert stats.cost == pytest.approx(1.0)
    assert stats.submits == 2
    assert stats.bytes_downloaded > 0


async def test_single_questions_are_answered_and_repeated(tmp_path: Path) -> None:
    """task() and balance() answer, live through a 502 and a 429, and raise a clear no at once."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        task_id = await client.submit("p").accepted()
        server.check_script.extend([HTML, refusal(429, retry_after="2")])
        assert (await client.task(task_id)).id == task_id
        assert (await client.balance()).remaining == 12.5
        with pytest.raises(NotFound):
            await client.task("task_nonsense")


async def test_a_single_question_is_given_up_after_a_minute(tmp_path: Path) -> None:
    """Somebody sits and waits: where the server is in trouble, its error comes within a minute, whatever the budget."""
    server = Server()
    async with FakeClient(server, tmp_path, retry=Retry(timeout=3000)) as client:
        with pytest.raises(ServerError):  # this server has nothing but trouble to tell of its models
            await client.models()
    assert 20 < server.now() - 1000 <= 61


async def test_a_picture_that_is_too_large_is_not_sent(tmp_path: Path) -> None:
    """One byte above 20 MiB is refused here, with its size; 20 MiB go up."""
    picture = tmp_path / "large.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    async with FakeClient(Server(), tmp_path) as client:
        os.truncate(picture, 20 * 1024 * 1024)
        assert await client.upload_image(picture) == "https://upload.test/1/large.png"
        os.truncate(picture, 20 * 1024 * 1024 + 1)
        with pytest.raises(InvalidRequest, match="20971521"):
            await client.upload_image(picture)


async def test_a_finished_task_denied_for_a_moment_keeps_its_clip(tmp_path: Path) -> None:
    """Where a link is dead and the server twice knows no such task, it is asked a third time: the clip is paid."""
    server = Server()
    server.download_script.append(refusal(403))
    unknown = [refusal(404, "invalid_request_error", 404) for _ in range(2)]
    server.on_check = lambda _: unknown.pop() if server.downloads and unknown else None
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()
    assert not unknown


async def test_where_no_clip_can_be_stored_nothing_is_sent(tmp_path: Path) -> None:
    """A folder that cannot be made stops the line before the first POST; the error names it and what to do."""
    (tmp_path / "taken").write_text("a file")
    async with FakeClient(server := Server(), tmp_path / "taken" / "clips") as client:
        job = client.submit("p")
        with pytest.raises(DownloadError, match=r"taken.*Nothing was sent; choose another folder"):
            await job
        assert job.status is JobStatus.WAITING
    assert server.posts == []


async def test_wait_is_the_coroutine_that_asyncio_asks_for(tmp_path: Path) -> None:
    """`create_task`, `TaskGroup.create_task` and `asyncio.wait` take `job.wait()`, also of a job that is done."""
    async with FakeClient(Server(), tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(3)]
        async with asyncio.TaskGroup() as group:
            first = group.create_task(jobs[0].wait())
        done, pending = await asyncio.wait([asyncio.create_task(job.wait()) for job in jobs])
        assert first.result() == await jobs[0]
        assert ({task.result() for task in done}, pending) == ({await job for job in jobs}, set())


async def test_cancelling_a_waiting_coroutine_leaves_the_job_alone(tmp_path: Path) -> None:
    """An asyncio task that waits for a job may be cancelled; the job continues and raises in nobody else."""
    async with FakeClient(Server(), tmp_path) as client:
        job = client.submit("p")
        waiter = asyncio.create_task(job.wait())
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert (await job).is_file()


async def test_wait_raises_what_the_job_raises(tmp_path: Path) -> None:
    """A refused job raises its error from `wait` as from `await`."""
    async with FakeClient(Server(submit_script=deque([refusal(400)])), tmp_path) as client:
        job = client.submit("p")
        with pytest.raises(OmniError):
            await asyncio.create_task(job.wait())
