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
from tests.support.markers import slow_after
from tests.support.resuming import resumed
from tests.support.submitting import gaps, outcomes, prompts

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(30)


async def test_jobs_are_sent_in_order_of_submission(tmp_path: Path) -> None:
    """The first job submitted is the first one sent."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        await outcomes([client.submit(f"p{number}") for number in range(200)])
    assert prompts(server) == [f"p{number}" for number in range(200)]
    assert len(server.posts) == 200


async def test_rate_limited_jobs_keep_their_position(tmp_path: Path) -> None:
    """A job that got a 429 is sent before the jobs behind it."""
    server = Server(per_second=2, duration=1000)
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(40)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        accepted = [task.body["prompt"] for task in server.tasks.values()]
        late = [abs(accepted.index(f"p{number}") - number) for number in range(40)]
        assert max(late) <= 16
        assert sorted(accepted, key=lambda prompt: int(prompt[1:]))[:10] == accepted[:10]


async def test_every_resend_has_the_idempotency_key_of_its_job(tmp_path: Path) -> None:
    """The key differs between jobs, and has 1 to 191 visible ASCII characters."""
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


async def test_a_resend_has_the_same_body(tmp_path: Path) -> None:
    """A resend under the same idempotency key is equal to the first request."""
    server = Server(submit_script=script(["lost", HTML, None]))
    async with FakeClient(server, tmp_path) as client:
        await client.submit("one", aspect_ratio="9:16", extra={"b": 1, "a": [2]})
    assert len(server.posts) == 3
    assert server.posts[0].body == server.posts[1].body == server.posts[2].body


async def test_posts_are_spaced_evenly(tmp_path: Path) -> None:
    """At 60 submits per minute, no two POSTs are closer than a second."""
    server = Server()
    async with FakeClient(server, tmp_path, limits=Limits(submits_per_minute=60)) as client:
        await outcomes([client.submit(f"p{number}") for number in range(90)])
    assert min(gaps(server.posts)) >= 1 - 1e-6
    assert server.posts[-1].at - server.posts[0].at == pytest.approx(89, abs=1.5)


async def test_idle_time_does_not_allow_a_burst(tmp_path: Path) -> None:
    """After a pause the POSTs are still a second apart."""
    server = Server()
    async with FakeClient(server, tmp_path, limits=Limits(submits_per_minute=60)) as client:
        await outcomes([client.submit(f"p{number}") for number in range(5)])
        await asyncio.sleep(300)
        await outcomes([client.submit(f"q{number}") for number in range(20)])
    assert min(gaps(server.posts)) >= 1 - 1e-6


@pytest.mark.parametrize("latency", slow_after(1, [1.3, 0.05, 4.7]))
async def test_probes_and_resends_keep_the_submit_rate(tmp_path: Path, latency: float) -> None:
    """No two POSTs are closer than a second at 60 submits per minute."""
    server = Server(latency=latency, duration=5000)
    faults: list[Fault] = [refusal(429, retry_after="5"), HTML, "lost", None, None, None, None]
    server.on_submit = lambda post: faults[post.number * 5 % 7] if post.number < 60 else None
    async with FakeClient(server, tmp_path, limits=Limits(submits_per_minute=60)) as client:
        jobs = [client.submit(f"p{number}") for number in range(40)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        server.finish()
    assert len(server.tasks) == 40
    assert min(gaps(server.posts)) >= 1 - 1e-6


async def test_max_in_flight_is_never_exceeded(tmp_path: Path) -> None:
    """With max_in_flight=4 the server never has more than 4 unfinished tasks, and returns no 429."""
    server = Server(capacity=4)
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=4)) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(40)])
        assert client.statistics().rate_limited == 0
    assert not [result for result in results if isinstance(result, BaseException)]
    assert server.most_in_flight == 4


async def test_a_lost_response_counts_as_in_flight(tmp_path: Path) -> None:
    """A submit whose response was lost counts against max_in_flight until its outcome is known."""
    server = Server(duration=60)
    server.on_submit = lambda post: "lost" if post.number % 3 == 0 else None
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=4)) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(30)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert server.most_in_flight <= 4


@pytest.mark.parametrize("ceiling", [1, 3])
async def test_an_ambiguous_job_can_use_its_own_slot(tmp_path: Path, ceiling: int) -> None:
    """If ambiguous jobs fill max_in_flight, they are still resent, and all jobs are completed."""
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
async def test_an_ambiguous_job_that_ends_frees_its_slot(tmp_path: Path, end: str) -> None:
    """However it ends without being accepted, its slot is free again."""
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


async def test_a_failed_job_frees_its_slot(tmp_path: Path) -> None:
    """A job that is rejected, or fails on the server, no longer counts against max_in_flight."""
    server = Server()
    server.on_submit = lambda post: refusal(400, "invalid_request_error") if "bad" in post.body["prompt"] else None
    async with FakeClient(server, tmp_path, limits=Limits(max_in_flight=2)) as client:
        jobs = [client.submit(f"{'bad' if number % 2 else 'good'} {number}") for number in range(20)]
        await jobs[0].accepted()
        for task in server.tasks.values():
            task.fails = True
        results = await outcomes(jobs)
    assert sum(isinstance(result, InvalidRequest) for result in results) == 10


async def test_resumed_jobs_count_as_in_flight(tmp_path: Path) -> None:
    """Jobs resumed as running fill max_in_flight like others."""
    server, ledger = Server(duration=100), MemoryJobStore()
    async with left_by_error(FakeClient(server, tmp_path, ledger=ledger)) as client:
        await asyncio.gather(*(client.submit(f"p{number}").accepted() for number in range(3)))
    async with FakeClient(server, tmp_path, ledger=ledger, limits=Limits(max_in_flight=3)) as client:
        jobs = [*await resumed(client), *(client.submit(f"q{number}") for number in range(6))]
        assert not [result for result in await outcomes(jobs) if isinstance(result, BaseException)]
    assert server.most_in_flight == 3
