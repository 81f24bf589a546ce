"""A bad key, no credit or no connection stops all submits until the user resumes, on virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    AuthenticationError,
    JobCancelled,
    JobStatus,
    Limits,
    OmniError,
    PaymentRequired,
    Retry,
    SubmitWithheld,
    TransportError,
)
from omni_async.ledger import MemoryJobStore
from tests.support.fakes import (
    HTML,
    FakeClient,
    Server,
    SlowLedger,
    left_by_error,
    not_sent,
    refusal,
    script,
)
from tests.support.ledgers import unfinished
from tests.support.resuming import resumed
from tests.support.submitting import outcomes

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(30)


@pytest.mark.parametrize("status", [401, 402])
async def test_a_bad_key_makes_a_single_post(tmp_path: Path, status: int) -> None:
    """With a bad key or no credit, 500 jobs make one POST, and each waiter gets the error."""
    server = Server(on_submit=lambda _: refusal(status))
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(500)]
        results = await outcomes(jobs)
        assert isinstance(client.stop_error, AuthenticationError if status == 401 else PaymentRequired)
        assert all(type(result) is type(client.stop_error) for result in results)
        late = client.submit("late")
        assert isinstance((await outcomes([late]))[0], OmniError)
        assert all(record.status is JobStatus.WAITING for record in await unfinished(client.memory))
        assert len(await unfinished(client.memory)) == 501
    assert len(server.posts) == 1


async def test_a_402_stops_all_later_submits(tmp_path: Path) -> None:
    """Only concurrent POSTs are refused too; paid jobs are completed, and the rest can be resumed."""
    server = Server(latency=0.5)
    server.on_submit = lambda post: refusal(402) if len(server.tasks) >= 50 else None
    ledger = MemoryJobStore()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        jobs = [client.submit(f"p{number}") for number in range(300)]
        results = await outcomes(jobs)
        assert sum(isinstance(result, PaymentRequired) for result in results) == 250
        assert sum(not isinstance(result, BaseException) for result in results) == 50
        assert len(server.posts) <= 50 + 16
        server.on_submit = None
        again = await resumed(client)
        assert len(again) == 250
        assert client.stop_error is None
        assert not [result for result in await outcomes(again) if isinstance(result, BaseException)]
    assert len(server.tasks) == 300
    assert len({post.key for post in server.posts}) == 300
    assert not server.concurrent_submits


async def test_another_client_resumes_jobs_after_a_stop(tmp_path: Path) -> None:
    """It sends the waiting jobs of the same ledger under their old idempotency keys."""
    server, ledger = Server(on_submit=lambda _: refusal(401)), MemoryJobStore()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await outcomes([client.submit(f"p{number}") for number in range(20)])
    server.on_submit = None
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await outcomes(await resumed(client))
    assert len(server.tasks) == 20
    assert len({post.key for post in server.posts}) == 20


async def test_a_slow_ambiguous_submit_survives_stop_and_resume(tmp_path: Path) -> None:
    """A POST that is outstanding during both may end as ambiguous; it is resent and completed."""
    server = Server()
    server.delay_submit = lambda post: 30.0 if post.body["prompt"] == "slow" else 0.1
    responses = {"slow": HTML, "poor": refusal(402)}
    server.on_submit = lambda post: responses.pop(post.body["prompt"], None)
    async with FakeClient(server, tmp_path) as client:
        await client.submit("first").accepted()
        slow, poor = client.submit("slow"), client.submit("poor")
        with pytest.raises(PaymentRequired):
            await poor
        client.resume()
        assert (await slow).is_file()


async def test_a_withheld_submit_stops_all_and_changes_no_job(tmp_path: Path) -> None:
    """Submits that another process's turn keeps back leave their jobs `waiting`, pause nothing and are not reported."""
    server, ledger = Server(), MemoryJobStore()
    server.on_submit = lambda post: SubmitWithheld("not ours any more") if len(server.tasks) >= 5 else None
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        jobs = [client.submit(f"p{number}") for number in range(50)]
        results = await outcomes(jobs)
        assert isinstance(client.stop_error, SubmitWithheld)
        assert sum(isinstance(result, SubmitWithheld) for result in results) == 45
        assert not client.statistics().rate_limited
        unsent = [record for record in await unfinished(ledger) if record.task_id is None]
        assert {(record.status, record.ambiguous_submits) for record in unsent} == {(JobStatus.WAITING, 0)}
        assert len(unsent) == 45
        server.on_submit = None
        assert not [result for result in await outcomes(await resumed(client)) if isinstance(result, BaseException)]
    assert len(server.tasks) == 50


async def test_an_outage_stops_submits_after_the_retry_timeout(tmp_path: Path) -> None:
    """Every waiter gets the error, no job is lost, and `resume` continues them."""
    server = Server(on_submit=lambda _: not_sent())
    async with FakeClient(server, tmp_path, retry=Retry(timeout=60)) as client:
        began = server.now()
        jobs = [client.submit(f"p{number}") for number in range(50)]
        results = await outcomes(jobs)
        assert all(isinstance(result, TransportError) for result in results)
        assert 60 <= server.now() - began < 120
        assert isinstance(client.stop_error, TransportError)
        server.on_submit = None
        assert not [result for result in await outcomes(await resumed(client)) if isinstance(result, BaseException)]
    assert len(server.tasks) == 50


async def test_a_short_outage_loses_no_job(tmp_path: Path) -> None:
    """If the network returns within the retry timeout, every job is completed."""
    server = Server()
    server.on_submit = lambda post: not_sent() if 1005 < server.now() < 1200 else None
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=5)) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(50)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert len(server.tasks) == 50


async def test_a_failed_connection_after_a_long_pause_does_not_stop_submits(tmp_path: Path) -> None:
    """A long pause after 429s is not a network outage: the failed connection is retried."""
    server = Server(capacity=3, duration=900, retry_after=None)
    server.on_submit = lambda post: not_sent() if 1500 < server.now() < 1520 else None
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(9)])
        assert client.stop_error is None
    assert not [result for result in results if isinstance(result, BaseException)]


async def test_idle_time_does_not_count_as_an_outage(tmp_path: Path) -> None:
    """Two failed connections with 15 idle minutes between them do not stop submits."""
    server = Server(submit_script=script([not_sent()]))
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        await asyncio.sleep(0.1)
        job.cancel()
        await asyncio.sleep(900)
        server.submit_script.append(not_sent())
        assert (await client.submit("q")).is_file()
        assert client.stop_error is None


async def test_resume_starts_a_new_retry_timeout(tmp_path: Path) -> None:
    """One more failure after `resume` does not stop submits again."""
    server = Server(on_submit=lambda _: not_sent())
    async with FakeClient(server, tmp_path, retry=Retry(timeout=60)) as client:
        await outcomes([client.submit("p")])
        server.on_submit = None
        server.submit_script.append(not_sent())
        assert (await (await resumed(client))[0]).is_file()


async def test_resuming_twice_returns_the_same_jobs(tmp_path: Path) -> None:
    """A second resume returns the jobs of the first, and nothing is sent twice."""
    server = Server(on_submit=lambda _: refusal(401))
    async with FakeClient(server, tmp_path) as client:
        await outcomes([client.submit(f"p{number}") for number in range(10)])
        server.on_submit = None
        first = await resumed(client)
        assert await resumed(client) == first
        await outcomes(first)
    assert len(server.tasks) == 10
    assert len(server.posts) == 11


async def test_a_job_cancelled_while_it_is_recorded_is_not_sent(tmp_path: Path) -> None:
    """Nothing was sent, so nothing need be paid."""
    server = Server()
    async with FakeClient(server, tmp_path, ledger=SlowLedger(1.0)) as client:
        job = client.submit("p")
        await asyncio.sleep(1.5)
        assert job.status is JobStatus.SUBMITTING
        assert job.cancel()
        assert isinstance((await outcomes([job]))[0], JobCancelled)
        assert (await client.submit("q")).is_file()
    assert [post.body["prompt"] for post in server.posts] == ["q"]


async def test_a_job_being_recorded_during_a_stop_is_not_sent(tmp_path: Path) -> None:
    """After a 402 no submit is sent, not even one that the ledger was recording."""
    server = Server(latency=0.02)
    server.on_submit = lambda _: refusal(402) if server.now() > 1060 else None
    async with FakeClient(server, tmp_path, ledger=SlowLedger(0.5)) as client:
        await outcomes([client.submit(f"p{number}") for number in range(400)])
        stopped = [post.at for post in server.posts if getattr(post.outcome, "status", 0) == 402]
        assert all(post.at <= stopped[0] + 0.05 for post in server.posts)
        statuses = {record.status for record in await unfinished(client.memory)}
        assert statuses == {JobStatus.WAITING}


async def test_a_stop_does_not_affect_completed_jobs(tmp_path: Path) -> None:
    """They resolve to their files, even if submits stop before their rows are read."""
    server, ledger = Server(), SlowLedger(0.05)
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await outcomes([client.submit(f"p{number}", key=f"k{number}") for number in range(30)])
    server.on_submit = lambda _: refusal(401)
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        new = client.submit("new")
        results = await outcomes([client.submit(f"p{number}", key=f"k{number}") for number in range(30)])
        assert not [result for result in results if isinstance(result, BaseException)]
        assert isinstance((await outcomes([new]))[0], AuthenticationError)


async def test_a_full_account_loses_no_job(tmp_path: Path) -> None:
    """Jobs wait for as long as the tasks of the account run, here half an hour."""
    server = Server(capacity=2, duration=1700, retry_after=None)
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(8)])
    assert not [result for result in results if isinstance(result, BaseException)]
