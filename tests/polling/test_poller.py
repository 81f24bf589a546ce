"""The poller on virtual time: many jobs, its rate limits, and when it checks."""

from __future__ import annotations

import asyncio
import math
import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from omni_async import JobTimedOut, Limits, NotFound, Polling, Retry, TransportError
from omni_async.polling.poller import PROBE_TIMEOUT
from tests.support.check_replies import shown
from tests.support.fakes import EPOCH, HTML, FakeClient, Fault, Server, left_by_error, not_sent, refusal
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.api.parsing import Response


pytestmark = pytest.mark.timeout(60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "others"), [("hang", 1000), ("404", 200), ("html", 200), ("reset", 200), ("refused", 200)]
)
async def test_one_bad_job_does_not_delay_a_thousand_others(tmp_path: Path, fault: str, others: int) -> None:
    """Whatever the checks of one job return, a thousand (or two hundred) others are noticed as early as without it."""
    faults: dict[str, Fault] = {
        "hang": "hang", "404": refusal(404, "invalid_request_error", 404), "html": HTML,
        "reset": TransportError("reset"), "refused": not_sent(),
    }  # fmt: skip
    server = Server(duration=60, latency=0.02)
    async with FakeClient(server, tmp_path, retry=Retry(timeout=100)) as client:
        bad = client.submit("bad")
        bad_id = await bad.accepted()
        server.on_check = lambda task_id: faults[fault] if task_id == bad_id else None
        jobs = [client.submit(f"p{number}") for number in range(others)]
        done_at = [server.now() async for _ in client.as_completed(jobs)]
        assert max(done_at) < 1000 + 60 + 60, "at most 20 s late, the bad job excepted"
        with pytest.raises((JobTimedOut, NotFound)):
            await bad


async def test_status_requests_keep_their_own_limit(tmp_path: Path) -> None:
    """checks_per_second=5 is never exceeded with 200 jobs in flight, no job starves, and submits do not wait for it."""
    server = Server(duration=90)
    async with FakeClient(server, tmp_path, limits=Limits(checks_per_second=5)) as client:
        jobs = [client.submit(f"p{number}") for number in range(200)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        assert server.now() < 1010
        await asyncio.gather(*jobs)
    assert min(b - a for (a, _), (b, _) in pairwise(server.checks)) >= 0.2 - 1e-6
    assert server.now() < 1000 + 90 + 200 / 5 * 3


async def test_a_429_on_a_check_pauses_all_checks(tmp_path: Path) -> None:
    """After a 429 no status request leaves until Retry-After; then one probe is sent. No job is lost by it."""
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


async def test_an_unanswered_probe_delays_the_others_for_seconds_only(tmp_path: Path) -> None:
    """A probe that hangs after a 429 is given up early, and the others are checked. Its own job is not lost."""
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
    """Status requests have a rate limiter of their own."""
    server = Server(duration=5)
    server.on_check = lambda _: refusal(429, retry_after="60") if server.now() < 1050 else None
    async with FakeClient(server, tmp_path) as client:
        await client.submit("first").accepted()
        await asyncio.sleep(20)
        began = server.now()
        await asyncio.gather(*(client.submit(f"p{number}").accepted() for number in range(50)))
        assert server.now() - began < 10


async def test_checks_are_few_and_finished_jobs_are_noticed_soon(tmp_path: Path) -> None:
    """Jobs of a minute need few checks each, and are noticed at most some seconds late."""
    server, late = Server(duration=60), list[float]()
    async with FakeClient(server, tmp_path) as client:
        async for job in client.as_completed([client.submit(f"p{number}") for number in range(100)]):
            late.append(server.now() - server.tasks[job.task_id or ""].ready_at)
    assert len(server.checks) / 100 < 15
    assert sum(late) / 100 < 8
    assert max(late) < 16


@pytest.mark.slow
async def test_checks_are_grouped_into_ticks(tmp_path: Path) -> None:
    """Jobs that are due at about the same time share a wake-up of the loop, and no job is checked twice in a second."""
    jitter = random.Random(3)
    server = Server(duration=lambda: jitter.lognormvariate(math.log(30), 0.35), latency=0.0)
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*[client.submit(f"p{number}") for number in range(500)])
    assert len({round(at, 3) for at, _ in server.checks}) < len(server.checks) / 4
    checks: dict[str, list[float]] = {}
    for at, task_id in server.checks:
        checks.setdefault(task_id, []).append(at)
    assert (
        min(after - before for times in checks.values() for before, after in pairwise(times)) >= Polling().min_interval
    )


async def test_a_new_job_is_not_checked_immediately(tmp_path: Path) -> None:
    """No check is made in the first second after acceptance."""
    server = Server(duration=60)
    async with FakeClient(server, tmp_path) as client:
        await client.submit("p")
    assert server.checks[0][0] >= server.tasks[server.checks[0][1]].accepted_at + 1


async def test_a_job_shows_the_progress_of_its_last_check(tmp_path: Path) -> None:
    """`Job.progress` and `Job.task` follow the checks."""
    server = Server(duration=60)
    server.on_check = lambda task_id: shown(server, task_id, progress="37%") if server.now() < 1050 else None
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        await asyncio.sleep(45)
        assert job.progress == 37
        assert job.task is not None
        assert job.task.estimated_time == 60


async def test_an_old_job_is_checked_before_it_times_out(tmp_path: Path) -> None:
    """A job that was accepted eleven hours ago, and finished since, is downloaded on resume without a POST."""
    server = Server(duration=50)
    async with left_by_error(FakeClient(server, tmp_path)) as client:
        await client.submit("p").accepted()
    await asyncio.sleep(40_000)
    async with FakeClient(server, tmp_path, ledger=client.memory) as again:
        assert (await (await resumed(again))[0]).is_file()
    assert len(server.posts) == 1
    assert EPOCH > 0


@pytest.mark.slow
async def test_jobs_are_noticed_sooner_while_others_wait_for_their_slot(tmp_path: Path) -> None:
    """With a queue before five slots, finished jobs are noticed sooner than if no job waited."""

    async def lateness(name: str, *, counts: bool) -> float:
        jitter = random.Random(7)
        server = Server(duration=lambda: 60 * jitter.lognormvariate(0, 0.35))
        async with FakeClient(server, tmp_path / name, limits=Limits(max_in_flight=5)) as client:
            if not counts:
                client._lifetime.opened().poller.schedule.pressure = float
            await asyncio.gather(*(client.submit(f"p{number}") for number in range(100)))
        noticed = {task_id: at for at, task_id in server.checks}
        return sum(noticed[task.task_id] - task.ready_at for task in server.tasks.values()) / 100

    assert await lateness("counted", counts=True) < 0.6 * await lateness("ignored", counts=False)


@pytest.mark.slow
async def test_truthful_progress_needs_fewer_checks(tmp_path: Path) -> None:
    """If the percentage is the share of its time, fewer checks notice earlier that a job is done."""

    async def followed(name: str, *, is_true: bool) -> tuple[int, float]:
        jitter = random.Random(7)
        server = Server(duration=lambda: 60 * jitter.lognormvariate(0, 0.35))

        def share(task_id: str) -> int:
            task = server.tasks[task_id]
            return int(100 * (server.now() - task.accepted_at) / (task.ready_at - task.accepted_at))

        def show(task_id: str) -> Response | None:
            return shown(server, task_id, progress=share(task_id)) if is_true and share(task_id) < 100 else None

        server.on_check = show
        async with FakeClient(server, tmp_path / name, limits=Limits(submits_per_minute=60)) as client:
            await asyncio.gather(*(client.submit(f"p{number}") for number in range(200)))
        noticed = {task_id: at for at, task_id in server.checks}
        return len(server.checks), sum(noticed[task.task_id] - task.ready_at for task in server.tasks.values())

    checks, late = await followed("silent", is_true=False)
    fewer, sooner = await followed("true", is_true=True)
    assert fewer < 0.9 * checks
    assert sooner < 0.6 * late
