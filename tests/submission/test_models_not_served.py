"""The jobs of a model that the server does not serve stop, and those of other models continue, on virtual time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from omni_async import JobStatus, NotFound, OmniError, PaymentRequired, Retry
from omni_async.ledger import MemoryJobStore
from tests.support.fakes import FakeClient, Post, Server, response, script
from tests.support.replies import NO_CHANNEL_500, NO_MODEL_503
from tests.support.submitting import outcomes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(30)

GONE = response(503, NO_MODEL_503)
BUSY = response(500, NO_CHANNEL_500)
OTHER = "gemini-omni-1.1-flash"


def is_default_model(post: Post) -> bool:
    """Return whether a POST is for the default model."""
    return bool(post.body["model"] != OTHER)


@pytest.mark.parametrize("count", [1, 50])
async def test_a_model_that_is_not_served_stops_after_two_confirmations(tmp_path: Path, count: int) -> None:
    """Three POSTs show it, however many jobs wait. The error names model and remedy, and the jobs stay resumable."""
    server, ledger = Server(), MemoryJobStore()
    server.on_submit = lambda _: GONE
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        jobs = [client.submit(f"p{number}", key=f"k{number}") for number in range(count)]
        results = await outcomes(jobs)
    assert all(isinstance(result, OmniError) for result in results)
    assert "omni-async models" in str(results[0])
    assert "gemini-omni" in str(results[0])
    assert len(server.posts) == 3
    assert server.posts[-1].at - server.posts[0].at < 5
    records = [await ledger.find(f"k{number}") for number in range(count)]
    assert {record.status for record in records if record} == {JobStatus.WAITING}


async def test_jobs_of_other_models_continue(tmp_path: Path) -> None:
    """They are neither delayed nor stopped."""
    server = Server(duration=1)
    server.on_submit = lambda post: GONE if is_default_model(post) else None
    async with FakeClient(server, tmp_path) as client:
        gone = [client.submit(f"a{number}") for number in range(10)]
        fine = [client.submit(f"b{number}", model=OTHER) for number in range(10)]
        results = await outcomes([*gone, *fine])
        later = await outcomes([client.submit("c"), client.submit("d", model=OTHER)])
        assert client.stop_error is None
    assert [isinstance(result, OmniError) for result in results] == [True] * 10 + [False] * 10
    assert [isinstance(result, OmniError) for result in later] == [True, False]
    assert sum(map(is_default_model, server.posts)) == 3


async def test_a_model_that_is_missing_for_a_moment_is_submitted(tmp_path: Path) -> None:
    """The confirmations find it again."""
    server = Server(submit_script=script([GONE, GONE]), duration=1)
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(20)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert len(server.tasks) == 20


async def test_a_model_without_a_channel_is_retried_and_completed(tmp_path: Path) -> None:
    """One job at a time tries again, nothing becomes unknown, and no limit is learned from it."""
    server = Server(duration=1)
    server.on_submit = lambda post: BUSY if post.at < 1060 else None
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(50)])
        stats = client.statistics()
    assert not [result for result in results if isinstance(result, BaseException)]
    assert (len(server.tasks), stats.ambiguous_submits, stats.learned_submits_per_minute) == (50, 0, None)
    assert sum(post.at < 1060 for post in server.posts) < 15


async def test_a_model_without_a_channel_stops_after_the_retry_timeout(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its jobs stay waiting, and the user was told before that submits fail."""
    server, ledger = Server(), MemoryJobStore()
    server.on_submit = lambda _: BUSY
    with caplog.at_level(logging.WARNING, "omni_async"):
        async with FakeClient(server, tmp_path, ledger=ledger, retry=Retry(timeout=60)) as client:
            results = await outcomes([client.submit(f"p{number}", key=f"k{number}") for number in range(10)])
    assert all(isinstance(result, OmniError) for result in results)
    record = await ledger.find("k0")
    assert record is not None
    assert (record.status, record.ambiguous_submits) == (JobStatus.WAITING, 0)
    assert 60 <= server.posts[-1].at - server.posts[0].at <= 60 + 31
    assert "no channel" in caplog.records[0].getMessage()


async def test_cancelling_the_job_that_tries_again_lets_another_one_try(tmp_path: Path) -> None:
    """The jobs that are held are not forgotten."""
    server = Server(submit_script=script([BUSY]), duration=1)
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(5)]
        while not server.posts or jobs[0].status is not JobStatus.WAITING:
            await asyncio.sleep(0.01)
        jobs[0].cancel()
        results = await outcomes(jobs)
    assert [isinstance(result, BaseException) for result in results] == [True, False, False, False, False]


@pytest.mark.parametrize("ending", ["cancelled", "one that alone cannot be sent"])
async def test_a_probe_that_ends_while_it_is_sent_lets_another_one_try(tmp_path: Path, ending: str) -> None:
    """However the probe ends, the jobs behind it are not forgotten."""
    server = Server(duration=1)

    def end_probe(post: Post) -> float:
        if post.number == 2 and ending == "cancelled":
            jobs[0].cancel()
        elif post.number == 2:
            raise ValueError("this one cannot be encoded")
        return 0.1

    server.on_submit = lambda post: BUSY if post.number <= 2 else None
    server.delay_submit = end_probe
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}", key=f"k{number}") for number in range(5)]
        results = await outcomes(jobs)
    assert [post.body["prompt"] for post in server.posts][:2] == ["p0", "p0"]
    assert [isinstance(result, BaseException) for result in results] == [True, False, False, False, False]


async def test_resume_submits_the_jobs_of_a_stopped_model_again(tmp_path: Path) -> None:
    """The server may offer it again."""
    server, ledger = Server(submit_script=script([GONE] * 3), duration=1), MemoryJobStore()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        with pytest.raises(NotFound):
            await client.submit("p", key="k")
        paths = [await job async for job in client.resume()]
    assert [path.name for path in paths] == ["k.mp4"]


async def test_a_quota_that_is_used_up_stops_all_submits_after_one_post(tmp_path: Path) -> None:
    """`msg` is read as well as `message`."""
    server = Server()
    server.on_submit = lambda _: response(200, {"code": 605, "msg": "NOT_ENOUGH_BALANCE"})
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(10)])
    assert {type(result) for result in results} == {PaymentRequired}
    assert "NOT_ENOUGH_BALANCE" in str(results[0])
    assert len(server.posts) == 1
