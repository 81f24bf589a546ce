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
    TransportError,
)
from omni_async.ledger import MemoryJobStore
from omni_async.submission.submitter import MAX_CONCURRENT
from tests.support.fakes import (
    HTML,
    FakeClient,
    Server,
    SlowLedger,
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
async def test_a_first_request_that_stops_is_the_only_one(tmp_path: Path, status: int) -> None:
    """With a wrong key or no credit, 500 jobs make exactly one POST, and each waiter gets the error."""
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


async def test_when_the_credit_ends_only_what_is_on_the_wire_is_refused(tmp_path: Path) -> None:
    """402 after 50 jobs: at most 50 + WIDTH POSTs; the 50 are delivered; the rest stay waiting; then all go on."""
    server = Server(latency=0.5)
    server.on_submit = lambda post: refusal(402) if len(server.tasks) >= 50 else None
    ledger = MemoryJobStore()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        jobs = [client.submit(f"p{number}") for number in range(300)]
        results = await outcomes(jobs)
        assert sum(isinstance(result, PaymentRequired) for result in results) == 250
        assert sum(not isinstance(result, BaseException) for result in results) == 50
        assert len(server.posts) <= 50 + MAX_CONCURRENT
        server.on_submit = None
        again = await resumed(client)
        assert len(again) == 250
        assert client.stop_error is None
        assert not [result for result in await outcomes(again) if isinstance(result, BaseException)]
    assert len(server.tasks) == 300
    assert len({post.key for post in server.posts}) == 300
    assert not server.concurrent_submits


async def test_another_client_takes_up_what_a_stop_left(tmp_path: Path) -> None:
    """After a stop, a new client with the same ledger resumes the waiting jobs under their old idempotency keys."""
    server, ledger = Server(on_submit=lambda _: refusal(401)), MemoryJobStore()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await outcomes([client.submit(f"p{number}") for number in range(20)])
    server.on_submit = None
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await outcomes(await resumed(client))
    assert len(server.tasks) == 20
    assert len({post.key for post in server.posts}) == 20


async def test_a_slow_ambiguous_answer_after_stop_and_resume_harms_nobody(tmp_path: Path) -> None:
    """A POST on the wire during a stop and a resume may still end in doubt: it rests, is resent, and gets done."""
    server = Server()
    server.delay_submit = lambda post: 30.0 if post.body["prompt"] == "slow" else 0.1
    answers = {"slow": HTML, "poor": refusal(402)}
    server.on_submit = lambda post: answers.pop(post.body["prompt"], None)
    async with FakeClient(server, tmp_path) as client:
        await client.submit("first").accepted()
        slow, poor = client.submit("slow"), client.submit("poor")
        with pytest.raises(PaymentRequired):
            await poor
        client.resume()
        assert (await slow).is_file()


async def test_network_down_stops_after_the_budget_and_resumes_later(tmp_path: Path) -> None:
    """With no way to the server, waiting ends with the budget, nothing is lost, and resume goes on later."""
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


async def test_a_short_outage_is_sat_out(tmp_path: Path) -> None:
    """A network that comes back within the budget costs nothing but time."""
    server = Server()
    server.on_submit = lambda post: not_sent() if 1005 < server.now() < 1200 else None
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=5)) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(50)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert len(server.tasks) == 50


async def test_one_failed_connection_after_a_long_closing_stops_nobody(tmp_path: Path) -> None:
    """A gate long closed by 429 (a full account) is no network outage: one connection that fails is tried again."""
    server = Server(capacity=3, duration=900, retry_after=None)
    server.on_submit = lambda post: not_sent() if 1500 < server.now() < 1520 else None
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(9)])
        assert client.stop_error is None
    assert not [result for result in results if isinstance(result, BaseException)]


async def test_idle_time_is_no_outage(tmp_path: Path) -> None:
    """Two failed connections with a quiet quarter of an hour between them are two short troubles, not a long one."""
    server = Server(submit_script=script([not_sent()]))
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        await asyncio.sleep(0.1)
        job.cancel()
        await asyncio.sleep(900)
        server.submit_script.append(not_sent())
        assert (await client.submit("q")).is_file()
        assert client.stop_error is None


async def test_resume_after_an_outage_is_patient_anew(tmp_path: Path) -> None:
    """Whoever resumes after a stop gives the way to the server a new budget; one more failure does not stop at once."""
    server = Server(on_submit=lambda _: not_sent())
    async with FakeClient(server, tmp_path, retry=Retry(timeout=60)) as client:
        await outcomes([client.submit("p")])
        server.on_submit = None
        server.submit_script.append(not_sent())
        assert (await (await resumed(client))[0]).is_file()


async def test_resuming_twice_gives_the_same_jobs(tmp_path: Path) -> None:
    """A second resume finds the jobs of the first, and nothing is sent twice."""
    server = Server(on_submit=lambda _: refusal(401))
    async with FakeClient(server, tmp_path) as client:
        await outcomes([client.submit(f"p{number}") for number in range(10)])
        server.on_submit = None
        first = await resumed(client)
        assert await resumed(client) == first
        await outcomes(first)
    assert len(server.tasks) == 10
    assert len(server.posts) == 11


async def test_cancelled_while_it_is_being_recorded_is_not_sent(tmp_path: Path) -> None:
    """A job cancelled while the ledger still makes sure of it is not sent: nothing has left, nothing need be paid."""
    server = Server()
    async with FakeClient(server, tmp_path, ledger=SlowLedger(1.0)) as client:
        job = client.submit("p")
        await asyncio.sleep(1.5)
        assert job.status is JobStatus.SUBMITTING
        assert job.cancel()
        assert isinstance((await outcomes([job]))[0], JobCancelled)
        assert (await client.submit("q")).is_file()
    assert [post.body["prompt"] for post in server.posts] == ["q"]


async def test_nothing_leaves_after_a_stop_that_is_still_being_recorded(tmp_path: Path) -> None:
    """After a 402 not one more submit leaves, also not those that the ledger was just making sure of."""
    server = Server(latency=0.02)
    server.on_submit = lambda _: refusal(402) if server.now() > 1060 else None
    async with FakeClient(server, tmp_path, ledger=SlowLedger(0.5)) as client:
        await outcomes([client.submit(f"p{number}") for number in range(400)])
        stopped = [post.at for post in server.posts if getattr(post.outcome, "status", 0) == 402]
        assert all(post.at <= stopped[0] + 0.05 for post in server.posts)
        statuses = {record.status for record in await unfinished(client.memory)}
        assert statuses == {JobStatus.WAITING}


async def test_a_stop_spares_what_is_finished_already(tmp_path: Path) -> None:
    """Jobs whose row says completed resolve to their files, also if the line stops before their row is read."""
    server, ledger = Server(), SlowLedger(0.05)
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await outcomes([client.submit(f"p{number}", key=f"k{number}") for number in range(30)])
    server.on_submit = lambda _: refusal(401)
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        new = client.submit("new")
        results = await outcomes([client.submit(f"p{number}", key=f"k{number}") for number in range(30)])
        assert not [result for result in results if isinstance(result, BaseException)]
        assert isinstance((await outcomes([new]))[0], AuthenticationError)


async def test_a_long_429_with_jobs_in_flight_is_waited_for(tmp_path: Path) -> None:
    """A full account whose jobs take half an hour loses no job, however long that takes."""
    server = Server(capacity=2, duration=1700, retry_after=None)
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(8)])
    assert not [result for result in results if isinstance(result, BaseException)]
