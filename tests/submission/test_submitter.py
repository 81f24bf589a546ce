"""The submitter on virtual time: order, gate, pace, capacity, doubt, and the stop of the line."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    AuthenticationError,
    InvalidRequest,
    JobCancelled,
    JobStatus,
    Limits,
    OmniError,
    PaymentRequired,
    Retry,
    SubmitOutcomeUnknown,
    TransportError,
    VideoRequest,
)
from omni_async.jobs.records import JobRecord
from omni_async.ledger import MemoryJobStore
from omni_async.submission.submitter import MAX_CONCURRENT
from tests.support.fakes import (
    EPOCH,
    HTML,
    FakeClient,
    Fault,
    Post,
    Server,
    SlowLedger,
    left_by_error,
    not_sent,
    refusal,
    response,
    script,
)
from tests.support.ledgers import unfinished
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import Job

pytestmark = pytest.mark.timeout(30)


def prompts(server: Server) -> list[str]:
    """Give the prompts in the order in which they were first sent."""
    return list(dict.fromkeys(post.body["prompt"] for post in server.posts))


async def outcomes(jobs: list[Job]) -> list[object]:
    """Give what came of each job, at last."""
    async with asyncio.timeout(100_000):
        return await asyncio.gather(*jobs, return_exceptions=True)


def gaps(posts: list[Post]) -> list[float]:
    """Give the seconds between POSTs that follow each other."""
    return [after.at - before.at for before, after in pairwise(posts)]


# Order, keys


async def test_jobs_leave_in_the_order_in_which_they_were_submitted(tmp_path: Path) -> None:
    """First come, first sent."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        await outcomes([client.submit(f"p{number}") for number in range(200)])
    assert prompts(server) == [f"p{number}" for number in range(200)]
    assert len(server.posts) == 200


async def test_refused_jobs_keep_their_place(tmp_path: Path) -> None:
    """Whoever was refused by a 429 goes before those behind: accepted in order of submission."""
    server = Server(per_second=2, duration=1000)
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(40)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        accepted = [task.body["prompt"] for task in server.tasks.values()]
        late = [abs(accepted.index(f"p{number}") - number) for number in range(40)]
        assert max(late) <= MAX_CONCURRENT
        assert sorted(accepted, key=lambda prompt: int(prompt[1:]))[:10] == accepted[:10]


async def test_every_resend_of_a_job_carries_its_own_one_idempotency_key(tmp_path: Path) -> None:
    """The key is the same on each resend of a job, different between jobs, and of 1 to 191 visible ASCII characters."""
    server = Server()
    seen: Counter[str] = Counter()

    def twice_lost(post: Post) -> Fault:
        seen[post.key] += 1
        return ("lost", HTML, refusal(429), not_sent(), None)[min(seen[post.key] - 1, 4)]

    server.on_submit = twice_lost
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit("the same prompt") for _ in range(20)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert len(seen) == 20
    assert all(number == 5 for number in seen.values())
    assert all(0 < len(key) <= 191 and key.isascii() and key.isprintable() and " " not in key for key in seen)
    assert len(server.tasks) == 20
    assert not server.concurrent_submits


async def test_resends_have_the_very_same_body(tmp_path: Path) -> None:
    """A resend under the same idempotency key is equal to the first in every byte of its content."""
    server = Server(submit_script=script(["lost", HTML, None]))
    async with FakeClient(server, tmp_path) as client:
        await client.submit("one", aspect_ratio="9:16", extra={"b": 1, "a": [2]})
    assert len(server.posts) == 3
    assert server.posts[0].body == server.posts[1].body == server.posts[2].body


# The gate


async def test_a_429_closes_for_everybody_and_one_probe_opens(tmp_path: Path) -> None:
    """Nothing leaves until the time that the 429 named, and then one POST alone until it is answered."""
    server = Server(duration=5000, latency=1.0)
    server.on_submit = lambda post: refusal(429, retry_after="40") if post.number == 30 else None
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(80)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        refused = next(post for post in server.posts if getattr(post.outcome, "status", 0) == 429)
        closed_at = refused.at + 1.0
        after = [post for post in server.posts if post.at >= closed_at]
        assert after[0].at - closed_at == pytest.approx(40, rel=0.06)
        assert after[0].at >= closed_at + 40
        assert after[1].at >= after[0].at + 1.0, "a second POST left before the probe was answered"
        assert after[0].body == refused.body, "the refused job was at the head of the line"
        assert len(server.posts) == 81
        server.finish()


async def test_a_failed_probe_waits_longer_each_time(tmp_path: Path) -> None:
    """Without advice, the pauses between probes grow, are jittered, and stay within the maximum."""
    server = Server(duration=5000, retry_after=None)
    server.on_submit = lambda post: refusal(429) if post.number < 10 else None
    async with FakeClient(server, tmp_path, retry=Retry(wait_initial=1, wait_max=20)) as client:
        await asyncio.gather(*(client.submit(f"p{number}").accepted() for number in range(20)))
        probes = [post for post in server.posts if getattr(post.outcome, "status", 0) == 429]
        pauses = gaps(probes)
        assert pauses[4] > pauses[0] * 3
        assert max(pauses) <= 20.1
        server.finish()


@pytest.mark.parametrize("advice", ["seconds", "date", "none", "wrong", "huge"])
async def test_every_kind_of_retry_after_is_lived_with(tmp_path: Path, advice: str) -> None:
    """Whatever a 429 says about when to come back, all jobs get through, and nobody comes before a sensible time."""
    server = Server(window=(10, 30.0), retry_after=advice, duration=4000)
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(35)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        if advice in {"seconds", "date"}:
            assert len(server.posts) <= 35 + 3 * MAX_CONCURRENT
            assert client.statistics().rate_limited == len(server.posts) - 35
        if advice == "huge":
            assert server.now() < 1000 + 4 * 330, "an absurd Retry-After must not be waited for"
        server.finish()
    assert len(server.tasks) == 35


async def test_a_retry_after_of_zero_is_no_licence_to_hammer(tmp_path: Path) -> None:
    """Retry-After: 0, again and again, is answered with a growing backoff."""
    server = Server(duration=5000)
    server.on_submit = lambda post: refusal(429, retry_after="0") if server.now() < 1060 else None
    async with FakeClient(server, tmp_path) as client:
        await client.submit("p").accepted()
        assert len(server.posts) < 15
        server.finish()


async def test_a_finished_job_opens_the_gate_early(tmp_path: Path) -> None:
    """Where the account is full, the next submit leaves when a job finishes, not at the far end of Retry-After."""
    server = Server(capacity=3, retry_after="huge", duration=50)
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(12)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert server.now() < 1000 + 4 * 50 * 1.6, "four rounds of 50 s"
    assert server.most_in_flight == 3


@pytest.mark.parametrize("kind", ["rate", "window", "capacity"])
async def test_all_jobs_get_through_each_kind_of_limit(tmp_path: Path, kind: str) -> None:
    """An account limited by rate, by window or by tasks at once gets all jobs done, each paid once."""
    limits = {"rate": {"per_second": 2.0}, "window": {"window": (20, 60.0)}, "capacity": {"capacity": 5}}[kind]
    server = Server(**limits)  # type: ignore[arg-type]
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(60)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert len(server.tasks) == 60


# Pace and capacity


async def test_the_pace_is_kept_evenly(tmp_path: Path) -> None:
    """At 60 a minute, no two POSTs are closer than a second."""
    server = Server()
    async with FakeClient(server, tmp_path, limits=Limits(submits_per_minute=60)) as client:
        await outcomes([client.submit(f"p{number}") for number in range(90)])
    assert min(gaps(server.posts)) >= 1 - 1e-6
    assert server.posts[-1].at - server.posts[0].at == pytest.approx(89, abs=1.5)


async def test_the_pace_is_kept_after_idle_times(tmp_path: Path) -> None:
    """What was not used is not saved up: after a rest there is no burst."""
    server = Server()
    async with FakeClient(server, tmp_path, limits=Limits(submits_per_minute=60)) as client:
        await outcomes([client.submit(f"p{number}") for number in range(5)])
        await asyncio.sleep(300)
        await outcomes([client.submit(f"q{number}") for number in range(20)])
    assert min(gaps(server.posts)) >= 1 - 1e-6


@pytest.mark.parametrize("latency", [0.05, 1.3, 4.7])
async def test_the_pace_is_kept_across_refusals_and_resends(tmp_path: Path, latency: float) -> None:
    """Probes and resends keep the pace like everybody: never two POSTs closer than a second at 60 a minute."""
    server = Server(latency=latency, duration=5000)
    faults: list[Fault] = [refusal(429, retry_after="5"), HTML, "lost", None, None, None, None]
    server.on_submit = lambda post: faults[post.number * 5 % 7] if post.number < 60 else None
    async with FakeClient(server, tmp_path, limits=Limits(submits_per_minute=60)) as client:
        jobs = [client.submit(f"p{number}") for number in range(40)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        server.finish()
    assert len(server.tasks) == 40
    assert min(gaps(server.posts)) >= 1 - 1e-6


async def test_no_more_in_flight_than_the_user_allows(tmp_path: Path) -> None:
    """With max_in_flight=4 the server never has more than 4 unfinished tasks of ours, nor a reason for a 429."""
    server = Server(capacity=4)
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=4)) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(40)])
        assert client.statistics().rate_limited == 0
    assert not [result for result in results if isinstance(result, BaseException)]
    assert server.most_in_flight == 4


async def test_no_more_in_flight_even_if_answers_get_lost(tmp_path: Path) -> None:
    """A submit whose answer was lost may be running: it counts against max_in_flight until that is known."""
    server = Server(duration=60)
    server.on_submit = lambda post: "lost" if post.number % 3 == 0 else None
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=4)) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(30)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert server.most_in_flight <= 4


@pytest.mark.parametrize("ceiling", [1, 3])
async def test_a_job_in_doubt_does_not_bar_its_own_way(tmp_path: Path, ceiling: int) -> None:
    """Where as many jobs are in doubt as max_in_flight allows, they are still resent, and all get done."""
    server, lost = Server(), set[str]()

    def lose_once(post: Post) -> Fault:
        if post.key in lost:
            return None
        lost.add(post.key)
        return HTML

    server.on_submit = lose_once
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=ceiling)) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(9)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert server.most_in_flight <= ceiling


@pytest.mark.parametrize("end", ["cancel", "unknown", "never", "stop"])
async def test_a_place_held_by_doubt_is_given_free(tmp_path: Path, end: str) -> None:
    """However a doubt ends without an acceptance, its place under max_in_flight is free again."""
    server = Server(submit_script=script([HTML]))
    server.on_submit = lambda post: {"never": refusal(400), "stop": refusal(401), "unknown": HTML}.get(end) if post.body["prompt"] == "p" else None  # fmt: skip  # noqa: E501
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=1), retry=Retry(timeout=20)) as client:
        job = client.submit("p")
        await asyncio.sleep(0.2)
        if end == "cancel":
            job.cancel()
        with pytest.raises(OmniError):
            await job
        server.on_submit = None
        if end == "stop":
            client.resume()
        async with asyncio.timeout(2000):
            await client.submit("q")
            await client.submit("r")


async def test_failed_jobs_free_their_place(tmp_path: Path) -> None:
    """A job that the server gives up, or refuses, frees its place under max_in_flight."""
    server = Server()
    server.on_submit = lambda post: refusal(400, "invalid_request_error") if "bad" in post.body["prompt"] else None
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=2)) as client:
        jobs = [client.submit(f"{'bad' if number % 2 else 'good'} {number}") for number in range(20)]
        await jobs[0].accepted()
        for task in server.tasks.values():
            task.fails = True
        results = await outcomes(jobs)
    assert sum(isinstance(result, InvalidRequest) for result in results) == 10


# Doubt


async def test_a_lost_answer_is_asked_for_again_and_paid_once(tmp_path: Path) -> None:
    """ambiguous="retry": the resend carries the same key, the server replays, and nothing counts as paid twice."""
    server = Server(submit_script=script(["lost", "hang", "lost 502", None]))
    async with FakeClient(server, tmp_path) as client:
        job = client.submit("p")
        assert (await job).is_file()
        assert client.memory.find(job.key)._value.ambiguous_submits == 0  # type: ignore[union-attr]  # cleared by the replay
    assert len(server.posts) == 4
    assert len(server.tasks) == 1


async def test_hold_never_resends_what_may_have_been_taken(tmp_path: Path) -> None:
    """retry.ambiguous="hold": one POST, and the job is unknown at once."""
    server = Server(submit_script=script([None, "lost", None]))
    async with FakeClient(server, tmp_path, retry=Retry(ambiguous="hold")) as client:
        await client.submit("first").accepted()
        job, other = client.submit("second"), client.submit("third")
        with pytest.raises(SubmitOutcomeUnknown, match="second"):
            await job
        assert job.status is JobStatus.UNKNOWN
        await other
    assert [post.body["prompt"] for post in server.posts] == ["first", "second", "third"]


async def test_hold_resends_what_was_certainly_not_sent(tmp_path: Path) -> None:
    """Where no byte left there is no doubt, and nothing to hold."""
    server = Server(submit_script=script([not_sent(), not_sent()]))
    async with FakeClient(server, tmp_path, retry=Retry(ambiguous="hold")) as client:
        await client.submit("p")
    assert len(server.tasks) == 1


async def test_doubt_ends_with_the_budget(tmp_path: Path) -> None:
    """A submit whose outcome stays unclear for the budget ends as unknown, and says how often it was sent."""
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
async def test_what_may_have_been_taken_stays_submitting_in_the_ledger(tmp_path: Path, answer: Fault) -> None:
    """A refusal of a resend says nothing of the first POST: the row stays `submitting`, so that a restart knows."""
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


async def test_a_job_in_doubt_goes_before_those_that_wait_for_its_place(tmp_path: Path) -> None:
    """With one place, a job that may hold it is resent first, although another one came before it: else both hang."""
    server, ledger = Server(), MemoryJobStore()
    rows = [
        JobRecord(key="first", request=VideoRequest(prompt="first").to_json(), idempotency_key="k1"),
        JobRecord(
            key="in doubt",
            request=VideoRequest(prompt="in doubt").to_json(),
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
    assert prompts(server) == ["in doubt", "first"]


async def test_409_in_progress_is_waited_for_under_the_same_key(tmp_path: Path) -> None:
    """409 idempotency_in_progress: only this job waits, as long as the server says, others go on."""
    busy = refusal(409, "idempotency_error", "idempotency_in_progress", retry_after="7")
    server = Server(submit_script=script([None, "lost", busy, None]))
    async with FakeClient(server, tmp_path) as client:
        await client.submit("first").accepted()
        await client.submit("p")
    mine = [post for post in server.posts if post.body["prompt"] == "p"]
    assert len(mine) == 3
    assert mine[2].at - mine[1].at >= 7
    assert len(server.tasks) == 2


async def test_409_indeterminate_is_unknown_at_once(tmp_path: Path) -> None:
    """The server itself does not know: never resent, whatever the settings."""
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
async def test_a_refusal_for_good_fails_one_job_with_one_post(tmp_path: Path, answer: Fault) -> None:
    """The job fails with the server's words; it is not sent again, and its neighbours go on."""
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
    "answer",
    [
        HTML,
        response(200, b""),
        response(200, b"<html>"),
        response(200, {"code": 200}),
        response(500, {}),
        response(504, b"x"),
        "hang",
    ],
    ids=["502", "empty", "html under 200", "no id", "500", "504", "timeout"],
)
async def test_an_unclear_answer_is_resent_with_the_same_key(tmp_path: Path, answer: Fault) -> None:
    """What does not prove "not taken" is sent again under its key, and the job gets done."""
    server = Server(submit_script=script([answer, answer]))
    async with FakeClient(server, tmp_path) as client:
        await client.submit("p")
        assert client.statistics().ambiguous_submits == 2
    assert len({post.key for post in server.posts}) == 1
    assert len(server.posts) == 3


async def test_a_storm_of_5xx_slows_everybody_down(tmp_path: Path) -> None:
    """While every POST ends in a 502, no crowd hammers the server, and afterwards all jobs get done, paid once."""
    server = Server()
    server.on_submit = lambda post: "lost 502" if server.now() < 1120 else None
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(100)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert sum(post.at < 1120 for post in server.posts) < 60
    assert len(server.tasks) == 100


# The stop of the line


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


# What a ledger left


def row(status: JobStatus, age: float, key: str = "k") -> JobRecord:
    """Give a row as a crash may have left it."""
    at = EPOCH + 1000 - age
    request = f'{{"prompt":"{key}"}}'
    return JobRecord(
        key=key, idempotency_key=f"omni-old-{key}", request=request, status=status, created_at=at, submitted_at=at,
        submits=1,
    )  # fmt: skip


async def test_a_row_left_submitting_is_resent_under_its_old_key(tmp_path: Path) -> None:
    """A crash's `submitting` row is ambiguous: within 24 hours it is asked for again under its old key."""
    server, ledger = Server(), MemoryJobStore()
    ledger.insert(row(JobStatus.SUBMITTING, 3600))
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        assert (await (await resumed(client))[0]).is_file()
    assert [post.key for post in server.posts] == ["omni-old-k"]


async def test_a_row_left_submitting_is_unknown_after_a_day(tmp_path: Path) -> None:
    """After 24 hours the server has forgotten the idempotency key: resending would pay twice, so nothing is sent."""
    server, ledger = Server(), MemoryJobStore()
    ledger.insert(row(JobStatus.SUBMITTING, 25 * 3600))
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        with pytest.raises(SubmitOutcomeUnknown):
            await (await resumed(client))[0]
    assert not server.posts


async def test_a_row_left_submitting_is_held_where_the_user_says_hold(tmp_path: Path) -> None:
    """With ambiguous="hold" a crash's `submitting` row is unknown at once: nothing in doubt is ever resent."""
    server, ledger = Server(), MemoryJobStore()
    ledger.insert(row(JobStatus.SUBMITTING, 60))
    async with FakeClient(server, tmp_path, ledger=ledger, retry=Retry(ambiguous="hold")) as client:
        with pytest.raises(SubmitOutcomeUnknown):
            await (await resumed(client))[0]
    assert not server.posts


async def test_rows_in_flight_count_against_the_ceiling(tmp_path: Path) -> None:
    """Jobs resumed as running fill max_in_flight like any other."""
    server, ledger = Server(duration=100), MemoryJobStore()
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        await asyncio.gather(*(client.submit(f"p{number}").accepted() for number in range(3)))
    async with FakeClient(server, tmp_path, ledger=ledger, limits=Limits(max_in_flight=3)) as client:
        jobs = [*await resumed(client), *(client.submit(f"q{number}") for number in range(6))]
        assert not [result for result in await outcomes(jobs) if isinstance(result, BaseException)]
    assert server.most_in_flight == 3
