"""What each kind of check result means for its job, with the poller on virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    AuthenticationError,
    JobFailed,
    JobStatus,
    JobTimedOut,
    NotFound,
    PermissionDenied,
    Polling,
    Retry,
    TransportError,
)
from tests.support.check_replies import shown
from tests.support.fakes import HTML, FakeClient, Fault, Server, refusal, response
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(
    "status", ["submitted", "pending", "QUEUED", "Processing", "in_progress", "warming_up", "NOT_START", "?"]
)
async def test_a_status_that_is_not_final_means_running(tmp_path: Path, status: str) -> None:
    """The documented status strings, in any case, and unknown ones keep a job running until it is done."""
    server = Server(duration=60)
    server.on_check = lambda task_id: shown(server, task_id, status=status) if server.now() < 1060 else None
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()
    assert len(server.posts) == 1


@pytest.mark.parametrize("status", ["completed", "succeeded", "SUCCESS"])
async def test_every_status_for_finished_is_understood(tmp_path: Path, status: str) -> None:
    """Whatever the status string for finished, the clip is downloaded."""
    server = Server()
    server.on_check = lambda task_id: shown(server, task_id, status=status) if server.now() > 1020 else None
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()


@pytest.mark.parametrize("status", ["failed", "failure", "error", "cancelled", "canceled", "expired", "TimeOut"])
async def test_every_status_for_failed_ends_the_job_with_the_servers_reason(tmp_path: Path, status: str) -> None:
    """A failed task raises `JobFailed` immediately, with the server's message, and is not submitted again."""
    server = Server(duration=5)
    broken = {"code": "content_rejected", "message": "the prompt shows a goose"}
    server.on_check = lambda task_id: shown(server, task_id, status=status, error=broken, result=None)
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
    "inconclusive",
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
async def test_an_inconclusive_check_is_not_a_failed_job(tmp_path: Path, inconclusive: Fault) -> None:
    """Six inconclusive checks in a row, of any kind, cost a job nothing but time."""
    server, checks = Server(), Counter[str]()

    def on_check(task_id: str) -> Fault:
        checks[task_id] += 1
        return inconclusive if checks[task_id] <= 6 else None

    server.on_check = on_check
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()
    assert len(server.posts) == 1


async def test_5xx_responses_within_the_timeout_lose_no_job(tmp_path: Path) -> None:
    """Four minutes in which every check is a 502 lose none of 200 jobs, and each is checked less and less often."""
    server = Server(duration=30)
    server.on_check = lambda _: HTML if server.now() < 1240 else None
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(200)))
    checks = Counter(task_id for at, task_id in server.checks if at < 1240)
    assert max(checks.values()) < 25
    assert sum(at > 1180 for at, _ in server.checks if at < 1240) < 200 * 5
    assert len(server.tasks) == 200


async def test_checks_that_fail_for_longer_than_the_timeout_stop_the_polling(tmp_path: Path) -> None:
    """After `Retry.timeout` the job is timed_out, and the error says that the task may still run. Resume continues."""
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


async def test_only_failed_checks_in_a_row_count(tmp_path: Path) -> None:
    """A job whose every fourth check is conclusive is checked far beyond `Retry.timeout`."""
    server, checks = Server(duration=600), Counter[str]()

    def on_check(task_id: str) -> Fault:
        checks[task_id] += 1
        return HTML if checks[task_id] % 4 else None

    server.on_check = on_check
    async with FakeClient(server, tmp_path, retry=Retry(timeout=20)) as client:
        assert (await client.submit("p")).is_file()
    assert checks.total() > 12


async def test_a_task_not_found_just_after_acceptance_is_inconclusive(tmp_path: Path) -> None:
    """A status endpoint that lags half a minute behind loses no job."""
    server = Server()
    server.on_check = lambda _: refusal(404, "invalid_request_error", 404) if server.now() < 1030 else None
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()
        assert client.stop_error is None


async def test_a_task_not_found_for_long_ends_the_job(tmp_path: Path) -> None:
    """After a minute and several checks a 404 is final: the error names the task, and nothing is submitted again."""
    server = Server(on_check=lambda _: refusal(404, "invalid_request_error", 404, "no such task"))
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        with pytest.raises(NotFound, match="task_"):
            await job
    assert 1060 < server.now() < 1200
    assert len(server.posts) == 1


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (403, PermissionDenied)])
async def test_a_key_that_may_not_read_the_task_stops_the_polling(
    tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    """After a 401 or 403 the error says that the task may still be running and names it; resume continues."""
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


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_denied_for_a_moment_is_asked_again(tmp_path: Path, status: int) -> None:
    """A gateway whose database is away calls a good key invalid: paid tasks are followed all the same."""
    server, checks = Server(), Counter[str]()

    def on_check(task_id: str) -> Fault:
        checks[task_id] += 1
        return refusal(status) if checks[task_id] <= 3 or 5 <= checks[task_id] <= 7 else None

    server.on_check = on_check
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()


async def test_a_key_that_stays_denied_is_not_tried_for_long(tmp_path: Path) -> None:
    """The error comes after four checks, not after `Retry.timeout`."""
    server = Server(on_check=lambda _: refusal(401))
    async with FakeClient(server, tmp_path) as client:
        with pytest.raises(AuthenticationError):
            await client.submit("p")
    assert len(server.checks) == 4
    assert server.now() < 1060


async def test_a_finished_task_without_a_url_is_checked_again(tmp_path: Path) -> None:
    """A finished task whose URL appears a few checks later is downloaded."""
    server, checks = Server(duration=1), Counter[str]()

    def on_check(task_id: str) -> Fault:
        checks[task_id] += 1
        return shown(server, task_id, result={"videos": []}) if checks[task_id] < 4 else None

    server.on_check = on_check
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()


async def test_a_finished_task_that_says_why_it_has_no_url_fails(tmp_path: Path) -> None:
    """A finished task that gives a reason for having no URL fails after a few checks, not after half an hour."""
    server = Server(duration=1)
    server.on_check = lambda task_id: shown(server, task_id, result=None, error={"message": "filtered"})
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        with pytest.raises(JobFailed, match=r"no video URL.*filtered"):
            await job
        assert client.statistics().cost == 0.5
    assert 3 <= len(server.checks) < 12
    assert server.now() < 1120


@pytest.mark.parametrize("seconds", [100, 280])
async def test_a_url_that_comes_minutes_after_the_end_is_waited_for(tmp_path: Path, seconds: float) -> None:
    """A paid task may name its video late: within `Retry.timeout` it is downloaded in the same run."""
    server = Server(duration=1)
    server.on_check = lambda task_id: shown(server, task_id, result=None) if server.now() < 1000 + seconds else None
    async with FakeClient(server, tmp_path) as client:
        assert (await client.submit("p")).is_file()
    assert server.now() < 1000 + seconds + 20
    assert len(server.checks) < 30


async def test_a_finished_task_that_never_names_its_video_can_be_resumed(tmp_path: Path) -> None:
    """After `Retry.timeout` it is timed_out, not failed: it was paid for, so a later check must still get its clip."""
    server = Server(duration=1)
    server.on_check = lambda task_id: shown(server, task_id, result=None)
    async with FakeClient(server, tmp_path, retry=Retry(timeout=60)) as client:
        job = client.submit("p")
        with pytest.raises(JobTimedOut, match=r"no video URL\. It may be charged.*without paying"):
            await job
        assert job.status is JobStatus.TIMED_OUT
        assert client.statistics().cost == 0.5
        assert 1060 < server.now() < 1090
        server.on_check = None
        assert (await (await resumed(client))[0]).is_file()
        assert client.statistics().cost == 0.5
    assert len(server.posts) == 1


async def test_a_job_that_never_ends_times_out_after_one_last_check(tmp_path: Path) -> None:
    """`Polling.timeout` after acceptance the job is timed_out: one last check at that very time, and none after it."""
    server = Server(duration=10_000)
    async with FakeClient(server, tmp_path, polling=Polling(timeout=100)) as client:
        job = client.submit("p")
        with pytest.raises(JobTimedOut):
            await job
        assert server.now() == pytest.approx(1100, abs=1)
        checks = len(server.checks)
        await asyncio.sleep(1000)
        assert len(server.checks) == checks
        again = client.attach(str(job.task_id), key=job.key)
        await asyncio.sleep(5)
        server.finish()
        assert (await again).is_file()


async def test_a_job_that_finishes_just_in_time_is_downloaded(tmp_path: Path) -> None:
    """The last check is at the end of `Polling.timeout`, not before: a job done a second earlier is not given up."""
    server = Server(duration=99)
    async with FakeClient(server, tmp_path, polling=Polling(timeout=100)) as client:
        assert (await client.submit("p")).is_file()


async def test_checks_that_hang_do_not_delay_the_timeout(tmp_path: Path) -> None:
    """Time is measured by the clock, not by counting checks."""
    server = Server(on_check=lambda _: "hang")
    async with FakeClient(server, tmp_path, polling=Polling(timeout=200), retry=Retry(timeout=1000)) as client:
        with pytest.raises(JobTimedOut):
            await client.submit("p")
    assert server.now() < 1000 + 200 + 90
