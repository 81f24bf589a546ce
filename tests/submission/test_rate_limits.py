"""The submitter pauses after a 429 and resumes with one probe, on virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    Retry,
)
from tests.support.fakes import (
    FakeClient,
    Server,
    refusal,
)
from tests.support.submitting import gaps, outcomes

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(30)


async def test_a_429_pauses_every_submit_until_a_probe_succeeds(tmp_path: Path) -> None:
    """Nothing is sent until Retry-After has passed, and then a single POST until its response."""
    server = Server(duration=5000, latency=1.0)
    server.on_submit = lambda post: refusal(429, retry_after="40") if post.number == 30 else None
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(80)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        refused = next(post for post in server.posts if getattr(post.outcome, "status", 0) == 429)
        paused_at = refused.at + 1.0
        after = [post for post in server.posts if post.at >= paused_at]
        assert after[0].at - paused_at == pytest.approx(40, rel=0.06)
        assert after[0].at >= paused_at + 40
        assert after[1].at >= after[0].at + 1.0, "a second POST left before the probe was answered"
        assert after[0].body == refused.body, "the refused job was at the head of the queue"
        assert len(server.posts) == 81
        server.finish()


async def test_pauses_between_failed_probes_grow(tmp_path: Path) -> None:
    """Without Retry-After they grow up to the maximum, with jitter."""
    server = Server(duration=5000, retry_after=None)
    server.on_submit = lambda post: refusal(429) if post.number < 10 else None
    async with FakeClient(server, tmp_path, retry=Retry(wait_initial=1, wait_max=20)) as client:
        await asyncio.gather(*(client.submit(f"p{number}").accepted() for number in range(20)))
        probes = [post for post in server.posts if getattr(post.outcome, "status", 0) == 429]
        pauses = gaps(probes)
        assert pauses[4] > pauses[0] * 3
        assert max(pauses) <= 20.1
        server.finish()


@pytest.mark.parametrize("retry_after", ["seconds", "date", "none", "wrong", "huge"])
async def test_all_jobs_are_accepted_with_any_retry_after(tmp_path: Path, retry_after: str) -> None:
    """Whatever a 429 says, no submit is sent too early, and an absurd wait is not obeyed."""
    server = Server(window=(10, 30.0), retry_after=retry_after, duration=4000)
    async with FakeClient(server, tmp_path) as client:
        jobs = [client.submit(f"p{number}") for number in range(35)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        if retry_after in {"seconds", "date"}:
            assert len(server.posts) <= 35 + 3 * 16
            assert client.statistics().rate_limited == len(server.posts) - 35
        if retry_after == "huge":
            assert server.now() < 1000 + 4 * 330, "an absurd Retry-After must not be waited for"
        server.finish()
    assert len(server.tasks) == 35


async def test_a_retry_after_of_zero_still_backs_off(tmp_path: Path) -> None:
    """Repeated `Retry-After: 0` is answered with a growing backoff."""
    server = Server(duration=5000)
    server.on_submit = lambda post: refusal(429, retry_after="0") if server.now() < 1060 else None
    async with FakeClient(server, tmp_path) as client:
        await client.submit("p").accepted()
        assert len(server.posts) < 15
        server.finish()


async def test_a_finished_job_resumes_submits_early(tmp_path: Path) -> None:
    """At the concurrency limit the next submit is sent when a job finishes, not after Retry-After."""
    server = Server(capacity=3, retry_after="huge", duration=50)
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(12)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert server.now() < 1000 + 4 * 50 * 1.6, "four rounds of 50 s"
    assert server.most_in_flight == 3


@pytest.mark.parametrize("kind", ["rate", "window", "capacity"])
async def test_all_jobs_are_completed_under_each_kind_of_limit(tmp_path: Path, kind: str) -> None:
    """With a limit of rate, window or concurrency, each job is completed and paid for once."""
    limits = {"rate": {"per_second": 2.0}, "window": {"window": (20, 60.0)}, "capacity": {"capacity": 5}}[kind]
    server = Server(**limits)  # type: ignore[arg-type]
    async with FakeClient(server, tmp_path) as client:
        results = await outcomes([client.submit(f"p{number}") for number in range(60)])
    assert not [result for result in results if isinstance(result, BaseException)]
    assert len(server.tasks) == 60
