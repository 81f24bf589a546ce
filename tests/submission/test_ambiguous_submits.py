"""A submit whose outcome is ambiguous is resent safely or not at all, on virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    JobStatus,
    Limits,
    OmniError,
    Retry,
    SubmitOutcomeUnknown,
    VideoRequest,
)
from omni_async.jobs.records import JobRecord
from omni_async.ledger import MemoryJobStore
from tests.support.fakes import (
    EPOCH,
    HTML,
    FakeClient,
    Fault,
    Server,
    left_by_error,
    not_sent,
    refusal,
    response,
    script,
)
from tests.support.ledgers import unfinished
from tests.support.resuming import resumed
from tests.support.submitting import outcomes, prompts

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(30)


def crashed_row(status: JobStatus, age: float, key: str = "k") -> JobRecord:
    """Return a row as a crash may have left it."""
    at = EPOCH + 1000 - age
    request = f'{{"prompt":"{key}"}}'
    return JobRecord(
        key=key, idempotency_key=f"omni-old-{key}", request=request, status=status, created_at=at, submitted_at=at,
        submits=1,
    )  # fmt: skip


async def test_a_lost_response_is_resent_and_paid_once(tmp_path: Path) -> None:
    """The resend carries the same key and the server replays the task. Nothing is counted as ambiguous."""
    server = Server(submit_script=script(["lost", "hang", "lost 502", None]))
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        assert (await job).is_file()
        assert client.memory.find(job.key)._value.ambiguous_submits == 0  # type: ignore[union-attr]  # cleared by the replay
    assert len(server.posts) == 4
    assert len(server.tasks) == 1


async def test_hold_never_resends_an_ambiguous_submit(tmp_path: Path) -> None:
    """With `ambiguous="hold"` there is one POST, and the job is unknown immediately."""
    server = Server(submit_script=script([None, "lost", None]))
    async with FakeClient(server, tmp_path, retry=Retry(ambiguous="hold")) as client:
        await client.submit("first").accepted()
        job, other = client.submit("second"), client.submit("third")
        with pytest.raises(SubmitOutcomeUnknown, match="second"):
            await job
        assert job.status is JobStatus.UNKNOWN
        await other
    assert [post.body["prompt"] for post in server.posts] == ["first", "second", "third"]


async def test_hold_resends_a_submit_that_was_not_sent(tmp_path: Path) -> None:
    """If no byte was sent, the outcome is not ambiguous."""
    server = Server(submit_script=script([not_sent(), not_sent()]))
    async with FakeClient(server, tmp_path, retry=Retry(ambiguous="hold")) as client:
        await client.submit("p")
    assert len(server.tasks) == 1


async def test_an_ambiguous_job_is_unknown_after_the_retry_timeout(tmp_path: Path) -> None:
    """It is resent within the timeout only, and other jobs are not affected."""
    server = Server()
    server.on_submit = lambda post: HTML if post.body["prompt"] == "p" else None
    async with FakeClient(server, tmp_path, retry=Retry(timeout=60)) as client:
        began = server.now()
        job = client.submit("p")
        fine = [client.submit(f"q{number}") for number in range(10)]
        with pytest.raises(SubmitOutcomeUnknown):
            await job
        assert 60 <= server.now() - began <= 60 + 31
        assert job.status is JobStatus.UNKNOWN
        assert not [result for result in await outcomes(fine) if isinstance(result, BaseException)]
    assert 3 < sum(post.body["prompt"] == "p" for post in server.posts) < 20


@pytest.mark.parametrize(
    "answer", [refusal(429, retry_after="30"), refusal(402), not_sent()], ids=["429", "402", "gone"]
)
async def test_a_refused_resend_stays_submitting_in_the_ledger(tmp_path: Path, answer: Fault) -> None:
    """The refusal of a resend says nothing about the first POST, so a restart must know of it."""
    server, ledger = Server(submit_script=script(["lost", *[answer] * 20])), MemoryJobStore()
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        client.submit("p")
        await asyncio.sleep(2)
    assert len(server.posts) >= 2
    assert (await unfinished(ledger))[0].status is JobStatus.SUBMITTING
    server.submit_script.clear()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await (await resumed(client))[0]
    assert len(server.tasks) == 1


async def test_an_ambiguous_job_is_sent_before_jobs_that_wait_for_its_slot(tmp_path: Path) -> None:
    """With one slot, the job that may hold it is resent before an older one; else both would hang."""
    server, ledger = Server(), MemoryJobStore()
    rows = [
        JobRecord(key="first", request=VideoRequest(prompt="first").to_json(), idempotency_key="k1"),
        JobRecord(
            key="ambiguous",
            request=VideoRequest(prompt="ambiguous").to_json(),
            idempotency_key="k2",
            status=JobStatus.SUBMITTING,
            submitted_at=EPOCH,
            submits=1,
        ),
    ]
    for row in rows:
        ledger.insert(row)
    async with FakeClient(server, tmp_path, ledger=ledger, limits=Limits(max_in_flight=1)) as client:
        results = await outcomes(await resumed(client))
    assert not [result for result in results if isinstance(result, BaseException)]
    assert prompts(server) == ["ambiguous", "first"]


async def test_409_in_progress_is_retried_under_the_same_key(tmp_path: Path) -> None:
    """Only this job waits, for as long as Retry-After says."""
    busy = refusal(409, "idempotency_error", "idempotency_in_progress", retry_after="7")
    server = Server(submit_script=script([None, "lost", busy, None]))
    async with FakeClient(server, tmp_path) as client:
        await client.submit("first").accepted()
        await client.submit("p")
    mine = [post for post in server.posts if post.body["prompt"] == "p"]
    assert len(mine) == 3
    assert mine[2].at - mine[1].at >= 7
    assert len(server.tasks) == 2


async def test_409_indeterminate_is_unknown_immediately(tmp_path: Path) -> None:
    """The server does not know the outcome either, so the job is never resent."""
    server = Server(submit_script=script([refusal(409, "conflict", "idempotency_result_indeterminate")]))
    async with FakeClient(server, tmp_path) as client:
        with pytest.raises(SubmitOutcomeUnknown):
            await client.submit("p")
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, "invalid_request_error", 400, "bad prompt"),
        refusal(403, "permission_error", 403),
        refusal(404),
        refusal(409, "conflict", "idempotency_key_reused"),
        refusal(413),
        refusal(422),
        refusal(500, "apimart_error", "build_request_failed", "build_request_failed: invalid size: x"),
        response(200, {"code": 400, "message": "bad prompt", "error": {"type": "invalid_request_error"}}),
    ],
    ids=["400", "403", "404", "409", "413", "422", "500 parameter", "400 in 200"],
)
async def test_a_definite_rejection_fails_one_job(tmp_path: Path, answer: Fault) -> None:
    """The job fails with the server's message and is not sent again; other jobs continue."""
    server = Server(on_submit=lambda post: answer if post.body["prompt"] == "bad" else None)
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(prompt) for prompt in ("a", "bad", "b")]
        results = await outcomes(jobs)
        assert jobs[1].status is JobStatus.FAILED
        assert client.statistics().failed == 1
    assert isinstance(results[1], OmniError)
    assert jobs[1].key in str(results[1])
    assert len(server.posts) == 3


@pytest.mark.parametrize(
    "answer", [HTML, response(500, {}), response(504, b"x"), "hang"], ids=["502", "500", "504", "timeout"]
)
async def test_an_ambiguous_response_is_resent_with_the_same_key(tmp_path: Path, answer: Fault) -> None:
    """Every response that does not prove a rejection is resent, and the job is completed."""
    server = Server(submit_script=script([answer, answer]))
    async with FakeClient(server, tmp_path) as client:
        await client.submit("p")
        assert client.statistics().ambiguous_submits == 2
    assert len({post.key for post in server.posts}) == 1
    assert len(server.posts) == 3


async def test_repeated_5xx_slow_down_all_submits(tmp_path: Path) -> None:
    """While every POST gets a 502, few are sent. Afterwards every job is completed and paid for once."""
    server = Server()
    server.on_submit = lambda post: "lost 502" if server.now() < 1120 else None
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(100)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert sum(post.at < 1120 for post in server.posts) < 60
    assert len(server.tasks) == 100


async def test_a_row_left_submitting_is_resent_under_its_old_key(tmp_path: Path) -> None:
    """A `submitting` row of a crashed run is resent under its key within 24 hours."""
    server, ledger = Server(), MemoryJobStore()
    ledger.insert(crashed_row(JobStatus.SUBMITTING, 3600))
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        assert (await (await resumed(client))[0]).is_file()
    assert [post.key for post in server.posts] == ["omni-old-k"]


async def test_a_row_left_submitting_is_unknown_after_a_day(tmp_path: Path) -> None:
    """After 24 hours the server has forgotten the key. A resend would pay twice, so nothing is sent."""
    server, ledger = Server(), MemoryJobStore()
    ledger.insert(crashed_row(JobStatus.SUBMITTING, 25 * 3600))
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        with pytest.raises(SubmitOutcomeUnknown):
            await (await resumed(client))[0]
    assert not server.posts


async def test_a_row_left_submitting_is_unknown_with_hold(tmp_path: Path) -> None:
    """With `ambiguous="hold"` a `submitting` row of a crashed run is never resent."""
    server, ledger = Server(), MemoryJobStore()
    ledger.insert(crashed_row(JobStatus.SUBMITTING, 60))
    async with FakeClient(server, tmp_path, ledger=ledger, retry=Retry(ambiguous="hold")) as client:
        with pytest.raises(SubmitOutcomeUnknown):
            await (await resumed(client))[0]
    assert not server.posts
