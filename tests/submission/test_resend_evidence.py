"""By default an ambiguous submit is resent only where the server honours idempotency keys, on virtual time."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

import anyio
import pytest

from omni_async import APIError, JobStatus, Retry, SubmitOutcomeUnknown, TransportError, VideoRequest
from omni_async.api.idempotency import DEFAULT_RETENTION, KeySupport, declared_support, reason_not_to_resend
from omni_async.jobs.records import JobRecord
from omni_async.ledger import MemoryJobStore
from omni_async.submission.key_support import ServerKeySupport
from tests.support.fakes import (
    EPOCH,
    HTML,
    FakeClient,
    Fault,
    Post,
    Server,
    left_by_error,
    not_sent,
    response,
    script,
)
from tests.support.resuming import resumed
from tests.support.submitting import outcomes

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.api.parsing import Response

pytestmark = pytest.mark.timeout(30)

AMBIGUOUS = ["lost", "lost 502", "hang", TransportError("reset")]
AMBIGUOUS_IDS = ["lost", "502", "no answer", "reset"]
NO_ID = response(200, {"code": 200, "data": {"taskId": "abc"}})


def interrupted_row(age: float) -> JobRecord:
    """Return the row of a job that an earlier run was sending `age` seconds ago."""
    return JobRecord(
        key="old", idempotency_key="omni-old", request=VideoRequest(prompt="p").to_json(), status=JobStatus.SUBMITTING,
        submits=1, created_at=EPOCH - age, submitted_at=EPOCH - age,
    )  # fmt: skip


# The decision


@pytest.mark.parametrize(
    ("schema", "support"),
    [
        ({}, KeySupport()),
        ({"idempotency": None}, KeySupport()),
        ({"idempotency": True}, KeySupport()),
        ({"idempotency": {"supported": True}}, KeySupport()),
        ({"idempotency": {"header": "X-Request-Key"}}, KeySupport()),
        ({"idempotency": {"header": "idempotency-key"}}, KeySupport(declared=True)),
        (
            {"idempotency": {"header": "Idempotency-Key", "retention_seconds": 60}},
            KeySupport(declared=True, retention=60),
        ),
        (
            {"idempotency": {"header": "Idempotency-Key", "retention_seconds": "60"}},
            KeySupport(declared=True, retention=60),
        ),
        ({"idempotency": {"header": "Idempotency-Key", "retention_seconds": -1}}, KeySupport(declared=True)),
    ],
)
def test_only_a_schema_with_the_header_declares_support(schema: dict[str, object], support: KeySupport) -> None:
    """What the schema declares, and for how long."""
    assert declared_support(schema) == support


@pytest.mark.parametrize(
    ("mode", "support", "age", "is_resent"),
    [
        ("auto", KeySupport(), 0, False),
        ("auto", KeySupport(declared=True), 0, True),
        ("auto", KeySupport(shown=True), 0, True),
        ("auto", KeySupport(declared=True, retention=60), 61, False),
        ("retry", KeySupport(), 0, True),
        ("retry", KeySupport(), DEFAULT_RETENTION, False),
        ("hold", KeySupport(declared=True, shown=True), 0, False),
    ],
)
def test_the_decision_to_resend(mode: str, support: KeySupport, age: float, is_resent: bool) -> None:
    """The mode, the evidence and the age of the key decide."""
    assert (reason_not_to_resend(mode, support, age) is None) is is_resent  # type: ignore[arg-type]


# In a run


@pytest.mark.parametrize("fault", AMBIGUOUS, ids=AMBIGUOUS_IDS)
@pytest.mark.parametrize("is_honoured", [False, True])
async def test_without_evidence_an_ambiguous_job_is_unknown_after_one_post(
    tmp_path: Path, fault: Fault, is_honoured: bool
) -> None:
    """Nothing shows that the server honours the key, so whether it does makes no difference. The others continue."""
    server = Server(submit_script=script([None, fault]), idempotency=is_honoured, declare_idempotency=False)
    async with FakeClient(server, tmp_path) as client:
        await client.submit("first").accepted()
        job, other = client.submit("second"), client.submit("third")
        with pytest.raises(SubmitOutcomeUnknown, match=r"second.*nothing shows.*--retry-unknown"):
            await job
        await other
    assert [post.body["prompt"] for post in server.posts] == ["first", "second", "third"]


@pytest.mark.parametrize("fault", AMBIGUOUS, ids=AMBIGUOUS_IDS)
async def test_where_support_is_declared_an_ambiguous_submit_is_resent(tmp_path: Path, fault: Fault) -> None:
    """The resend has the same key, and the task is paid once."""
    server = Server(submit_script=script([fault, fault]))
    async with FakeClient(server, tmp_path) as client:
        await client.submit("p")
    assert (len(server.posts), len(server.tasks), len({post.key for post in server.posts})) == (3, 1, 1)


async def test_where_support_was_shown_an_ambiguous_submit_is_resent(tmp_path: Path) -> None:
    """A replay in one run counts in the next, for the same server and model only."""
    server, ledger = Server(submit_script=script(["lost"]), declare_idempotency=False), MemoryJobStore()
    async with FakeClient(server, tmp_path, ledger=ledger, retry=Retry(ambiguous="retry")) as client:
        await client.submit("first")
    server.submit_script = script(["lost", "lost"])
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await client.submit("second")
        server.submit_script = script(["lost"])
        with pytest.raises(SubmitOutcomeUnknown):
            await client.submit("third", model="gemini-omni-1.1-flash")
    assert [post.body["prompt"] for post in server.posts] == [*["first"] * 2, *["second"] * 3, "third"]


async def test_the_retention_that_is_declared_ends_resends(tmp_path: Path) -> None:
    """After it, the server would take the key for a new one."""
    declared = {"model": "m", "idempotency": {"header": "Idempotency-Key", "retention_seconds": 20}}
    server = SchemaServer([response(200, declared)])
    server.on_submit = lambda _: HTML
    async with FakeClient(server, tmp_path) as client:
        with pytest.raises(SubmitOutcomeUnknown, match="no longer remembers"):
            await client.submit("p")
    assert server.posts[-1].at - server.posts[0].at < 20


@pytest.mark.parametrize(
    ("answers", "posts"),
    [
        ([HTML, HTML], 1),
        ([HTML, None], 2),
        ([response(404, {"error": {"message": "no page", "type": "x"}}), None], 1),
        ([response(200, b"<html>"), None], 1),
        ([TransportError("reset"), None], 2),
        ([response(402, {"error": {"message": "no credit", "type": "payment_required"}}), None], 2),
        ([response(429, b""), None], 2),
    ],
    ids=["never answered", "answered when asked again", "no such page", "another page", "reset", "402", "429"],
)
async def test_the_server_is_asked_again_once_if_it_could_not_answer(
    tmp_path: Path, answers: list[Fault], posts: int
) -> None:
    """It is asked when the first job is sent, and again when an outcome is ambiguous; then the job is decided on."""
    server = SchemaServer(answers, submit_script=script(["lost"]))
    async with FakeClient(server, tmp_path) as client:
        await outcomes([client.submit("p")])
    assert len(server.posts) == posts


class SchemaServer(Server):
    """A server whose first answers about the schema are scripted."""

    def __init__(self, answers: list[Fault], **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.schema_script = script(answers)

    async def get(self, path: str) -> Response:
        """Answer with what is scripted."""
        answer = self.schema_script.popleft() if "model-schema" in path and self.schema_script else None
        if isinstance(answer, Exception):
            raise answer
        return answer if answer is not None and not isinstance(answer, str) else await super().get(path)


@pytest.mark.parametrize("is_asked_early", [False, True])
async def test_all_who_ask_at_the_same_time_share_one_query(is_asked_early: bool) -> None:
    """A query that was in progress before may have begun in an outage: after it the server is asked once more."""
    queries = 0

    async def ask_server(_: str) -> KeySupport | None:
        nonlocal queries
        queries += 1
        await asyncio.sleep(1)
        return None

    keys = ServerKeySupport(MemoryJobStore(), "https://api.test", ask_server)
    async with anyio.create_task_group() as group:
        if is_asked_early:
            group.start_soon(keys.ask, "m")
            await asyncio.sleep(0.5)
        for _ in range(8):
            group.start_soon(keys.ask, "m")
    assert (queries, keys.must_ask("m")) == (2, True)


# After a crash


@pytest.mark.parametrize(("is_declared", "posts"), [(True, 1), (False, 0)])
async def test_a_row_left_submitting_is_resent_only_with_evidence(
    tmp_path: Path, is_declared: bool, posts: int
) -> None:
    """Otherwise it is unknown, with its reason and the command that decides."""
    server, ledger = Server(declare_idempotency=is_declared), MemoryJobStore()
    ledger.insert(interrupted_row(60))
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        [result] = await outcomes(await resumed(client))
    assert isinstance(result, SubmitOutcomeUnknown) is not is_declared
    assert is_declared or ("earlier run" in str(result) and "--retry-unknown" in str(result))
    assert len(server.posts) == posts


async def test_a_row_left_submitting_waits_until_the_server_can_be_asked(tmp_path: Path) -> None:
    """While it is unreachable, nothing is known; afterwards its declaration decides."""
    server, ledger = SchemaServer([not_sent()] * 5), MemoryJobStore()
    ledger.insert(interrupted_row(60))
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        [result] = await outcomes(await resumed(client))
    assert not isinstance(result, BaseException)
    assert not server.schema_script
    assert len(server.posts) == 1


async def test_a_row_left_submitting_stays_so_if_the_server_remains_unreachable(tmp_path: Path) -> None:
    """The next run may decide on it."""
    server, ledger = SchemaServer([not_sent()] * 1000), MemoryJobStore()
    ledger.insert(interrupted_row(60))
    async with FakeClient(server, tmp_path, ledger=ledger, retry=Retry(timeout=60)) as client:
        [result] = await outcomes(await resumed(client))
    assert isinstance(result, TransportError)
    record = await ledger.find("old")
    assert record is not None
    assert (record.status, record.submits, len(server.posts)) == (JobStatus.SUBMITTING, 1, 0)


async def test_an_unknown_job_is_resent_under_its_old_key_if_the_user_asks(tmp_path: Path) -> None:
    """The user decides, with or without evidence."""
    server, ledger = Server(submit_script=script(["lost"]), declare_idempotency=False), MemoryJobStore()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await outcomes([client.submit("p", key="k")])
        await client.resubmit("k")
    assert (len(server.posts), len(server.tasks), len({post.key for post in server.posts})) == (2, 1, 1)


# Responses that cannot be understood


@pytest.mark.parametrize(("mode", "posts"), [("auto", 2), ("retry", 2), ("hold", 1)])
@pytest.mark.parametrize(
    "answer",
    [NO_ID, response(200, b""), response(200, b"<html>"), response(200, b"{"), TransportError("odd", responded=True)],
    ids=["taskId", "empty", "html", "cut", "not http"],
)
async def test_a_response_that_cannot_be_understood_is_followed_by_one_resend_at_most(
    tmp_path: Path, answer: Response | TransportError, mode: str, posts: int
) -> None:
    """It would come again, and each time a task may have been paid for. One such job does not stop the others."""
    server = Server()
    server.on_submit = lambda post: answer if post.body["prompt"] == "odd" else None
    async with FakeClient(server, tmp_path, retry=Retry(ambiguous=mode)) as client:  # type: ignore[arg-type]
        await client.submit("first").accepted()
        odd, other = await outcomes([client.submit("odd"), client.submit("fine")])
    assert isinstance(odd, SubmitOutcomeUnknown)
    assert not isinstance(other, BaseException)
    assert sum(post.body["prompt"] == "odd" for post in server.posts) == posts


@pytest.mark.parametrize(("is_declared", "posts"), [(True, 4), (False, 2)])
async def test_two_jobs_whose_responses_cannot_be_understood_stop_all_submits(
    tmp_path: Path, is_declared: bool, posts: int
) -> None:
    """The error names what came; jobs that were not sent stay in the ledger."""
    server = Server(declare_idempotency=is_declared)
    server.on_submit = lambda _: NO_ID
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}", key=f"k{number}") for number in range(20)])
        assert client.stop_error is not None
        statuses = [client.memory.find(f"k{number}")._value.status for number in range(20)]  # type: ignore[union-attr]
    assert [type(result) for result in results] == [SubmitOutcomeUnknown] * 2 + [APIError] * 18
    assert statuses == [JobStatus.UNKNOWN] * 2 + [JobStatus.WAITING] * 18
    assert "taskId" in str(client.stop_error)
    assert len(server.posts) == posts


async def test_an_accepted_job_between_them_keeps_submits_going(tmp_path: Path) -> None:
    """Only jobs in a row stop all submits."""
    server = Server(declare_idempotency=False)
    server.on_submit = lambda post: NO_ID if post.number % 2 == 0 else None
    async with FakeClient(server, tmp_path) as client:
        results = []
        for number in range(8):
            results += await outcomes([client.submit(f"p{number}")])
        assert client.stop_error is None
    assert sum(isinstance(result, SubmitOutcomeUnknown) for result in results) == 4


# What the user is told


async def test_a_server_that_keeps_failing_is_reported_once_and_so_is_its_recovery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first failure is not reported, because one is common."""
    server = Server(submit_script=script(["lost 502"] * 6))
    with caplog.at_level(logging.WARNING, "omni_async"):
        async with FakeClient(server, tmp_path) as client:
            await client.submit("p")
    first, second = [record.getMessage() for record in caplog.records]
    assert "HTTP 502" in first
    assert "300 s" in first
    assert "again" in second

    caplog.clear()
    server.submit_script = script(["lost 502"])
    with caplog.at_level(logging.WARNING, "omni_async"):
        async with FakeClient(server, tmp_path) as client:
            await client.submit("q")
    assert not caplog.records


# A POST that is cut short here


@pytest.mark.parametrize(("is_sent", "status"), [(False, JobStatus.WAITING), (True, JobStatus.SUBMITTING)])
@pytest.mark.parametrize("mode", ["auto", "retry", "hold"])
async def test_a_post_that_had_not_left_when_the_client_closed_is_not_ambiguous(
    tmp_path: Path, mode: str, is_sent: bool, status: JobStatus
) -> None:
    """While the connection is still being made, nothing was sent, and the job is waiting."""

    class Stuck(Server):
        async def submit(self, body: bytes, key: str, *, on_sent: object = None, may_send: object = None) -> Response:
            self.posts.append(Post(self.now(), 1, key, json.loads(body)))
            if is_sent:
                on_sent()  # type: ignore[operator]
            await asyncio.sleep(1000)
            raise AssertionError

    ledger = MemoryJobStore()
    async with left_by_error(
        FakeClient(Stuck(), tmp_path, ledger=ledger, retry=Retry(ambiguous=mode))  # type: ignore[arg-type]
    ) as client:
        client.submit("p", key="k")
        await asyncio.sleep(1)
    record = await ledger.find("k")
    assert record is not None
    assert (record.status, record.submits) == (status, int(is_sent))
