"""The submitter keeps order, submit rate and the number of unfinished tasks, on virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    InvalidRequest,
    Limits,
    OmniError,
    Retry,
)
from omni_async.ledger import MemoryJobStore
from omni_async.submission.submitter import MAX_CONCURRENT
from tests.support.fakes import (
    HTML,
    FakeClient,
    Fault,
    Post,
    Server,
    left_by_error,
    not_sent,
    refusal,
    script,
)
from tests.support.resuming import resumed
from tests.support.submitting import gaps, outcomes, prompts

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(30)


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


async def test_rows_in_flight_count_against_the_ceiling(tmp_path: Path) -> None:
    """Jobs resumed as running fill max_in_flight like any other."""
    server, ledger = Server(duration=100), MemoryJobStore()
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        await asyncio.gather(*(client.submit(f"p{number}").accepted() for number in range(3)))
    async with FakeClient(server, tmp_path, ledger=ledger, limits=Limits(max_in_flight=3)) as client:
        jobs = [*await resumed(client), *(client.submit(f"q{number}") for number in range(6))]
        assert not [result for result in await outcomes(jobs) if isinstance(result, BaseException)]
    assert server.most_in_flight == 3
