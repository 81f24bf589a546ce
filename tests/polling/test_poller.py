"""The poller on virtual time: what every kind of look makes of a job, and that no job suffers for another."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    AuthenticationError,
    JobFailed,
    JobStatus,
    JobTimedOut,
    Limits,
    NotFound,
    PermissionDenied,
    Polling,
    Retry,
    TransportError,
)
from omni_async.api.parsing import Response
from omni_async.polling.poller import PROBE_TIMEOUT
from tests.support.fakes import EPOCH, HTML, FakeClient, Fault, Server, left_by_error, not_sent, refusal, response
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def seen_as(server: Server, task_id: str, **changes: object) -> Response:
    """Give what a check shows, with some fields changed; None leaves a field out."""
    view = server.view(server.tasks[task_id]) | changes
    return response(200, {"code": 200, "data": {name: value for name, value in view.items() if value is not None}})


# What a look shows


@pytest.mark.parametrize(
    "word", ["submitted", "pending", "QUEUED", "Processing", "in_progress", "warming_up", "NOT_START", "?"]
)
async def test_any_word_that_is_not_an_end_means_running(tmp_path: Path, word: str) -> None:
    """The words of the page, in any case, and words never heard of keep a job running until it is done."""
    server = Server(duration=60)
    server.on_check = lambda task_id: seen_as(server, task_id, status=word) if server.now() < 1060 else None
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()
    assert len(server.posts) == 1


@pytest.mark.parametrize("word", ["completed", "succeeded", "SUCCESS"])
async def test_every_word_for_done_is_understood(tmp_path: Path, word: str) -> None:
    """Whatever the word for done, the clip is fetched."""
    server = Server()
    server.on_check = lambda task_id: seen_as(server, task_id, status=word) if server.now() > 1020 else None
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()


@pytest.mark.parametrize("word", ["failed", "failure", "error", "cancelled", "canceled", "expired", "TimeOut"])
async def test_every_word_for_failed_ends_the_job_with_the_servers_reason(tmp_path: Path, word: str) -> None:
    """A task that failed raises `JobFailed` at once, with the server's words and the task, and is not sent again."""
    server = Server(duration=5)
    broken = {"code": "content_rejected", "message": "the prompt shows a goose"}
    server.on_check = lambda task_id: seen_as(server, task_id, status=word, error=broken, result=None)
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        with pytest.raises(JobFailed, match="goose") as caught:
            await job
        assert caught.value.task is job.task
        assert caught.value.task_id == job.task_id
        assert job.key in str(caught.value)
        assert "content_rejected" in str(caught.value)
        assert job.status is JobStatus.FAILED
        assert not job.cancel()
    assert len(server.posts) == 1
    assert server.now() < 1020


@pytest.mark.parametrize(
    "miss",
    [
        HTML,
        response(200, b""),
        response(200, b"{"),
        response(500),
        response(503, b"busy"),
        TransportError("reset"),
        "hang",
        response(200, {"code": 500, "message": "try later"}),
        response(404, b"<html>nginx</html>"),
        response(200, b"[]"),
    ],
    ids=["502", "empty", "cut json", "500", "503", "reset", "hang", "500 under 200", "gateway 404", "list"],
)
async def test_a_look_that_shows_nothing_is_no_failed_job(tmp_path: Path, miss: Fault) -> None:
    """Six missed looks in a row, of whatever kind, cost a job nothing but time."""
    server, looks = Server(), Counter[str]()

    def on_check(task_id: str) -> Fault:
        looks[task_id] += 1
        return miss if looks[task_id] <= 6 else None

    server.on_check = on_check
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()
    assert len(server.posts) == 1


async def test_a_storm_of_5xx_within_the_budget_loses_no_job(tmp_path: Path) -> None:
    """Four minutes in which every check is a 502 lose none of 200 jobs, and each looks more and more seldom."""
    server = Server(duration=30)
    server.on_check = lambda _: HTML if server.now() < 1240 else None
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(200)))
    looks = Counter(task_id for at, task_id in server.checks if at < 1240)
    assert max(looks.values()) < 25
    assert sum(at > 1180 for at, _ in server.checks if at < 1240) < 200 * 5
    assert len(server.tasks) == 200


async def test_looks_that_fail_for_longer_than_the_budget_end_the_following(tmp_path: Path) -> None:
    """After the budget the job is timed_out; the error says that it may still run, with its id; resume fetches it."""
    server = Server(on_check=lambda _: HTML)
    async with FakeClient(server, tmp_path, retry=Retry(timeout=60)) as client:
        job = client.submit("p")
        with pytest.raises(JobTimedOut, match="may still be running") as caught:
            await job
        assert isinstance(caught.value, TimeoutError)
        assert str(job.task_id) in str(caught.value)
        assert job.status is JobStatus.TIMED_OUT
        assert 1060 < server.now() < 1300
        server.on_check = None
        assert (await (await resumed(client))[0]).is_file()
    assert len(server.posts) == 1


async def test_looks_that_fail_now_and_then_are_forgotten(tmp_path: Path) -> None:
    """Only misses in a row count: a job of which every fourth look shows something is followed far past the budget."""
    server, looks = Server(duration=600), Counter[str]()

    def on_check(task_id: str) -> Fault:
        looks[task_id] += 1
        return HTML if looks[task_id] % 4 else None

    server.on_check = on_check
    async with FakeClient(server, tmp_path, retry=Retry(timeout=20)) as client:
        assert (await client.submit("p")).is_file()
    assert looks.total() > 12


async def test_a_task_not_found_just_after_acceptance_is_a_missed_look(tmp_path: Path) -> None:
    """A status page that lags half a minute behind loses no job."""
    server = Server()
    server.on_check = lambda _: refusal(404, "invalid_request_error", 404) if server.now() < 1030 else None
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()
        assert client.stop_error is None


async def test_a_task_not_found_for_long_is_believed(tmp_path: Path) -> None:
    """After a minute and several looks a 404 is the truth: the job ends, is not sent again, and names its id."""
    server = Server(on_check=lambda _: refusal(404, "invalid_request_error", 404, "no such task"))
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        with pytest.raises(NotFound, match="task_"):
            await job
    assert 1060 < server.now() < 1200
    assert len(server.posts) == 1


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (403, PermissionDenied)])
async def test_a_key_that_may_not_look_ends_the_following_at_once(
    tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    """401 and 403 end it with an error that says that the task may still be running, and its id; resume goes on."""
    server = Server(on_check=lambda _: refusal(status))
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        with pytest.raises(kind, match="may still be running") as caught:
            await job
        assert str(job.task_id) in str(caught.value)
        assert job.status is JobStatus.TIMED_OUT
        server.on_check = None
        assert (await (await resumed(client))[0]).is_file()
    assert len(server.posts) == 1


async def test_done_without_a_link_is_looked_at_again(tmp_path: Path) -> None:
    """A finished task whose link comes a few looks later is fetched."""
    server, looks = Server(duration=1), Counter[str]()

    def on_check(task_id: str) -> Fault:
        looks[task_id] += 1
        return seen_as(server, task_id, result={"videos": []}) if looks[task_id] < 4 else None

    server.on_check = on_check
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()


async def test_a_completed_task_that_never_has_a_link_fails(tmp_path: Path) -> None:
    """A completed task whose reply never has a link fails after a few checks, not after half an hour."""
    server = Server(duration=1)
    server.on_check = lambda task_id: seen_as(server, task_id, result=None)
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        with pytest.raises(JobFailed, match="no video"):
            await job
        assert client.statistics().cost == 0.5
    assert 3 <= len(server.checks) < 12
    assert server.now() < 1120


async def test_a_job_that_never_ends_is_timed_out_on_time(tmp_path: Path) -> None:
    """polling.timeout after acceptance the job is timed_out: one last look at that very time, and no more after it."""
    server = Server(duration=10_000)
    async with FakeClient(server, tmp_path, polling=Polling(timeout=100)) as client:
        job = client.submit("p")
        with pytest.raises(JobTimedOut):
            await job
        assert server.now() == pytest.approx(1100, abs=1)
        looks = len(server.checks)
        await asyncio.sleep(1000)
        assert len(server.checks) == looks
        again = client.attach(str(job.task_id), key=job.key)
        await asyncio.sleep(5)
        server.finish()
        assert (await again).is_file()


async def test_a_job_that_finishes_just_in_time_is_fetched(tmp_path: Path) -> None:
    """The last look is when the time is up, not before: a job done a second earlier is not given up."""
    server = Server(duration=99)
    async with FakeClient(server, tmp_path, polling=Polling(timeout=100)) as client:
        assert (await client.submit("p")).is_file()


async def test_a_job_whose_checks_hang_is_timed_out_on_time(tmp_path: Path) -> None:
    """Time is measured by the clock, not by counting looks: checks that hang do not stretch polling.timeout."""
    server = Server(on_check=lambda _: "hang")
    async with FakeClient(server, tmp_path, polling=Polling(timeout=200), retry=Retry(timeout=1000)) as client:
        with pytest.raises(JobTimedOut):
            await client.submit("p")
    assert server.now() < 1000 + 200 + 90


# Many jobs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "others"), [("hang", 1000), ("404", 200), ("html", 200), ("reset", 200), ("refused", 200)]
)
async def test_one_bad_job_does_not_disturb_a_thousand_others(tmp_path: Path, trouble: str, others: int) -> None:
    """Whatever the checks of one job meet, a thousand (or two hundred) others are noticed as soon as ever."""
    faults: dict[str, Fault] = {
        "hang": "hang", "404": refusal(404, "invalid_request_error", 404), "html": HTML,
        "reset": TransportError("reset"), "refused": not_sent(),
    }  # fmt: skip
    server = Server(duration=60, latency=0.02)
    async with FakeClient(server, tmp_path, retry=Retry(timeout=100)) as client:
        bad = client.submit("bad")
        bad_id = await bad.accepted()
        server.on_check = lambda task_id: faults[trouble] if task_id == bad_id else None
        jobs = [client.submit(f"p{number}") for number in range(others)]
        done_at = [server.now() async for _ in client.as_completed(jobs)]
        assert max(done_at) < 1000 + 60 + 60, "20 s late at most but for the bad one"
        with pytest.raises((JobTimedOut, NotFound)):
            await bad


async def test_status_requests_keep_their_own_limit(tmp_path: Path) -> None:
    """checks_per_second=5 is never exceeded with 200 jobs in flight, nobody starves, and submits do not wait for it."""
    server = Server(duration=90)
    async with FakeClient(server, tmp_path, limits=Limits(checks_per_second=5)) as client:
        jobs = [client.submit(f"p{number}") for number in range(200)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        assert server.now() < 1010
        await asyncio.gather(*jobs)
    assert min(b - a for (a, _), (b, _) in pairwise(server.checks)) >= 0.2 - 1e-6
    assert server.now() < 1000 + 90 + 200 / 5 * 3


async def test_a_429_on_a_check_pauses_all_checks(tmp_path: Path) -> None:
    """After a 429 with Retry-After no status request leaves until then; then one probe; no job is lost for it."""
    server, hit = Server(duration=100), list[float]()

    def on_check(_: str) -> Fault:
        if not hit and server.now() > 1080:
            hit.append(server.now())
            return refusal(429, "rate_limit_error", 429, retry_after="30")
        return None

    server.on_check = on_check
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(100)))
    after = [at for at, _ in server.checks if at > hit[0] + 0.001]
    assert after[0] >= hit[0] + 30
    assert after[1] >= after[0] + server.latency


async def test_a_probe_that_is_not_answered_holds_the_others_up_for_seconds_only(tmp_path: Path) -> None:
    """After a 429 the probe hangs: it is given up long before a status request would be, and the others are looked at.

    Its own job is not lost.
    """
    server, hit, after = Server(duration=100), list[float](), list[float]()

    def on_check(_: str) -> Fault:
        now = server.now()
        if not hit and now > 1080:
            hit.append(now)
            return refusal(429, "rate_limit_error", 429, retry_after="10")
        if not hit or now < hit[0] + 10:
            return None
        after.append(now)
        return "hang" if len(after) == 1 else None

    server.on_check = on_check
    async with FakeClient(server, tmp_path) as client:
        paths = await asyncio.gather(*(client.submit(f"p{number}") for number in range(20)))
    assert len(set(paths)) == 20
    assert after[1] - after[0] <= PROBE_TIMEOUT + 0.1


async def test_a_429_on_checks_does_not_stop_submits(tmp_path: Path) -> None:
    """Status requests have a gate of their own."""
    server = Server(duration=5)
    server.on_check = lambda _: refusal(429, retry_after="60") if server.now() < 1050 else None
    async with FakeClient(server, tmp_path) as client:
        await client.submit("first").accepted()
        await asyncio.sleep(20)
        began = server.now()
        await asyncio.gather(*(client.submit(f"p{number}").accepted() for number in range(50)))
        assert server.now() - began < 10


async def test_checks_are_few_and_finishing_is_noticed_soon(tmp_path: Path) -> None:
    """Jobs of a minute need few looks each, and are noticed at most some seconds late."""
    server, late = Server(duration=60), list[float]()
    async with FakeClient(server, tmp_path) as client:
        async for job in client.as_completed([client.submit(f"p{number}") for number in range(100)]):
            late.append(server.now() - server.tasks[job.task_id or ""].ready_at)
    assert len(server.checks) / 100 < 15
    assert sum(late) / 100 < 8
    assert max(late) < 16


@pytest.mark.slow
async def test_jobs_are_looked_at_in_turns(tmp_path: Path) -> None:
    """Those that are due at about the same time share a turn of the loop, and no job is looked at twice in a second."""
    jitter = random.Random(3)
    server = Server(duration=lambda: jitter.lognormvariate(math.log(30), 0.35), latency=0.0)
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*[client.submit(f"p{number}") for number in range(500)])
    assert len({round(at, 3) for at, _ in server.checks}) < len(server.checks) / 4
    looks: dict[str, list[float]] = {}
    for at, task_id in server.checks:
        looks.setdefault(task_id, []).append(at)
    assert (
        min(after - before for times in looks.values() for before, after in pairwise(times)) >= Polling().min_interval
    )


async def test_no_look_before_anything_can_be_done(tmp_path: Path) -> None:
    """Nobody asks in the very second of acceptance."""
    server = Server(duration=60)
    async with FakeClient(server, tmp_path) as client:
        await client.submit("p")
    assert server.checks[0][0] >= server.tasks[server.checks[0][1]].accepted_at + 1


async def test_progress_is_seen_and_told(tmp_path: Path) -> None:
    """The job's progress follows the checks."""
    server = Server(duration=60)
    server.on_check = lambda task_id: seen_as(server, task_id, progress="37%") if server.now() < 1050 else None
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        await asyncio.sleep(45)
        assert job.progress == 37
        assert job.task is not None
        assert job.task.estimated_time == 60


async def test_a_row_left_running_for_long_is_looked_at_before_it_is_given_up(tmp_path: Path) -> None:
    """A job accepted before last night, and finished since, is fetched on resume, without a POST."""
    server = Server(duration=50)
    async with left_by_error(FakeClient(server, tmp_path)) as client:
        await client.submit("p").accepted()
    await asyncio.sleep(40_000)
    async with FakeClient(server, tmp_path, ledger=client.memory) as again:
        assert (await (await resumed(again))[0]).is_file()
    assert len(server.posts) == 1
    assert EPOCH > 0


@pytest.mark.slow
async def test_where_others_wait_for_its_place_a_job_is_noticed_sooner(tmp_path: Path) -> None:
    """With a line before five places, jobs that finish are noticed sooner than if nobody waited."""

    async def lateness(name: str, *, counts: bool) -> float:
        jitter = random.Random(7)
        server = Server(duration=lambda: 60 * jitter.lognormvariate(0, 0.35))
        async with FakeClient(server, tmp_path / name, limits=Limits(max_in_flight=5)) as client:
            if not counts:
                client._open().poller.schedule.pressure = float
            await asyncio.gather(*(client.submit(f"p{number}") for number in range(100)))
        noticed = {task_id: at for at, task_id in server.checks}
        return sum(noticed[task.task_id] - task.ready_at for task in server.tasks.values()) / 100

    assert await lateness("counted", counts=True) < 0.6 * await lateness("ignored", counts=False)


@pytest.mark.slow
async def test_progress_that_proves_true_tells_when_to_look(tmp_path: Path) -> None:
    """Where the percentage is the share of its time, fewer looks find out sooner that a job is done."""

    async def followed(name: str, *, is_true: bool) -> tuple[int, float]:
        jitter = random.Random(7)
        server = Server(duration=lambda: 60 * jitter.lognormvariate(0, 0.35))

        def share(task_id: str) -> int:
            task = server.tasks[task_id]
            return int(100 * (server.now() - task.accepted_at) / (task.ready_at - task.accepted_at))

        def show(task_id: str) -> Response | None:
            return seen_as(server, task_id, progress=share(task_id)) if is_true and share(task_id) < 100 else None

        server.on_check = show
        async with FakeClient(server, tmp_path / name, limits=Limits(submits_per_minute=60)) as client:
            await asyncio.gather(*(client.submit(f"p{number}") for number in range(200)))
        noticed = {task_id: at for at, task_id in server.checks}
        return len(server.checks), sum(noticed[task.task_id] - task.ready_at for task in server.tasks.values())

    checks, late = await followed("silent", is_true=False)
    fewer, sooner = await followed("true", is_true=True)
    assert fewer < 0.9 * checks
    assert sooner < 0.6 * late
