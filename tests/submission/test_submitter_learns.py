"""The submitter learns the limits of an account on virtual time, and the client reports them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import anyio
import pytest

from omni_async import Limits, Retry, VideoRequest
from omni_async.api.idempotency import KeySupport
from omni_async.jobs.job import JobState
from omni_async.jobs.lifecycle import JobStatus
from omni_async.jobs.records import JobRecord
from omni_async.jobs.registry import JobRegistry
from omni_async.ledger import MemoryJobStore
from omni_async.submission.key_support import ServerKeySupport
from omni_async.submission.references import ReferencePreparer
from omni_async.submission.sender import Sender
from omni_async.submission.submitter import Submitter
from omni_async.submission.uploads import ImageUploader
from omni_async.testing.memory_client import MemoryClock
from tests.support.accounts import (
    Account,
    FixedWindow,
    InFlightLimit,
    Limit,
    SlidingWindow,
    TokenBucket,
    least_makespan,
    lognormal,
)
from tests.support.fakes import FakeClient, FakeTransport, Post, Server, refusal, response
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async.api.parsing import Response
    from omni_async.ratelimit.learned import LearnedLimits

pytestmark = pytest.mark.timeout(60)

SEEDS = range(10)
JOBS = 100


class AccountServer(Server):
    """A server with the limits of an account, whose Retry-After is in whole seconds or a date."""

    def __init__(self, account: Account, durations: list[float], *, retry_after: str) -> None:
        super().__init__(latency=0.1, retry_after=retry_after)
        self.account = account
        self.durations = durations
        self.refused = 0

    def _refuse(self) -> Response | None:
        wait = self.account.submit(self.now())
        if not wait:
            return None
        self.refused += 1
        if self.retry_after == "seconds":
            return refusal(429, "rate_limit_error", 429, retry_after=str(max(1, int(-(-wait // 1)))))
        return self.rate_limited(wait)


class Outcome(NamedTuple):
    """The outcome of one run of 100 jobs."""

    makespan: float  # over the least possible
    refused: float  # for each accepted
    learned: LearnedLimits


class Follower:
    """A stand-in for the poller that notices the end of a task immediately, so only the submitter is measured."""

    def __init__(self, server: AccountServer) -> None:
        self.server = server
        self.submitter: Submitter
        self.count = 0
        self.ended_at = 0.0
        self.all_ended = asyncio.Event()

    def follow(self, job: JobState) -> None:
        """Wait for the end of a job's task, half a latency after the server has accepted it."""
        loop = asyncio.get_running_loop()
        remaining = self.server.durations[self.count] - self.server.latency / 2
        self.count += 1
        loop.call_later(max(0.0, remaining), self._end, self.count == len(self.server.durations))

    def _end(self, was_last_accepted: bool) -> None:
        now = self.server.now()
        self.server.account.job_finished(now)
        self.submitter.job_finished()
        self.ended_at = now
        if was_last_accepted or self.submitter.limiter.in_flight == 0:
            self.all_ended.set()


def sender_of(transport: FakeTransport, registry: JobRegistry) -> Sender:
    """Return a sender for jobs without local files."""

    def not_needed(*_: object) -> None:
        raise AssertionError("no job here has files")

    uploads = ImageUploader(transport, registry, "", retry=Retry())
    references = ReferencePreparer(uploads, registry, on_ready=not_needed, on_failed=not_needed, on_stop=not_needed)
    return Sender(transport, registry, references, lambda _: None)


async def never_declares(model: str) -> KeySupport:
    """Return that the server declares nothing."""
    return KeySupport()


async def run(
    make: Callable[[], list[Limit]], typical: float, seed: int, *, retry_after: str, limits: Limits
) -> Outcome:
    """Send 100 jobs through a submitter to an account."""
    draw = lognormal(random.Random(seed), typical)
    durations = [draw() for _ in range(JOBS)]
    began = asyncio.get_running_loop().time()
    account_limits = make()
    for limit in account_limits:
        if isinstance(limit, FixedWindow):
            limit.start = began
    server = AccountServer(Account(*account_limits), durations, retry_after=retry_after)
    registry, follower = JobRegistry(MemoryJobStore(), None, MemoryClock(), Path), Follower(server)
    jitter = random.Random(seed).random
    submitter = follower.submitter = Submitter(
        sender_of(FakeTransport(server), registry),
        registry,
        ServerKeySupport(registry.store, "", never_declares),
        limits=limits,
        retry=Retry(),
        on_accepted=follower.follow,
        jitter=jitter,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(submitter.run)
        for number in range(JOBS):
            request = VideoRequest(prompt=f"p{number}").to_json()
            job = JobState(JobRecord(key=f"p{number}", idempotency_key=f"k{number}", request=request))
            registry.add(job)
            job.is_admitted = True
            submitter.add(job)
        while len(server.tasks) < JOBS or submitter.limiter.in_flight:
            await anyio.sleep(1)
        group.cancel_scope.cancel()
    assert all(job.status is JobStatus.RUNNING for job in registry.live())
    least = least_makespan(make(), durations)
    return Outcome((follower.ended_at - began) / least, server.refused / JOBS, submitter.limiter.learned())


class Kind(NamedTuple):
    """An account, its typical duration, and what the submitter must reach on it."""

    limits: Callable[[], list[Limit]]
    typical: float
    makespan: float  # the median of the seeds
    refused: float  # the mean of the seeds


_KINDS = {
    "4/s": Kind(lambda: [TokenBucket(4)], 8, 1.10, 0.05),
    "30 in 10 s, fixed": Kind(lambda: [FixedWindow(30, 10)], 8, 1.15, 0.05),
    "30 in 10 s, sliding": Kind(lambda: [SlidingWindow(30, 10)], 8, 1.15, 0.05),
    "12 in flight": Kind(lambda: [InFlightLimit(12)], 5, 1.15, 0.10),
    "2/s and 10 in flight": Kind(lambda: [TokenBucket(2), InFlightLimit(10)], 8, 1.20, 0.16),
}


@pytest.mark.parametrize("kind", slow_after(2, _KINDS))
async def test_limits_are_learned(kind: str) -> None:
    """Without configured limits, 100 jobs take little more than the least time, with few refusals."""
    expected = _KINDS[kind]
    outcomes = [
        await run(expected.limits, expected.typical, seed, retry_after="seconds", limits=Limits()) for seed in SEEDS
    ]
    assert median(outcome.makespan for outcome in outcomes) <= expected.makespan
    assert sum(outcome.refused for outcome in outcomes) / len(outcomes) <= expected.refused


@pytest.mark.parametrize("retry_after", slow_after(2, ["date", "wrong", "huge", "none"]))
async def test_a_limit_is_learned_with_any_retry_after(retry_after: str) -> None:
    """Retry-After may be a date, wrong, or absent: the limit of 4 per second is learned."""
    outcomes = [await run(_KINDS["4/s"].limits, 8, seed, retry_after=retry_after, limits=Limits()) for seed in SEEDS]
    assert median(outcome.makespan for outcome in outcomes) <= 1.15
    assert sum(outcome.refused for outcome in outcomes) / len(outcomes) <= 0.05


@pytest.mark.parametrize(
    ("kind", "limits"), [("4/s", Limits(submits_per_minute=240)), ("12 in flight", Limits(max_in_flight=12))]
)
async def test_configured_limits_prevent_every_refusal(kind: str, limits: Limits) -> None:
    """There is no refusal, and almost no time is lost."""
    for seed in SEEDS:
        outcome = await run(_KINDS[kind].limits, _KINDS[kind].typical, seed, retry_after="seconds", limits=limits)
        assert outcome.refused == 0
        assert outcome.makespan <= 1.05


async def test_statistics_report_the_learned_rate(tmp_path: Path) -> None:
    """`learned_submits_per_minute` is None until a rate is known, and then close to the truth."""
    server = Server(per_second=2.0, duration=5)
    async with FakeClient(server, tmp_path) as client:
        assert client.statistics().learned_submits_per_minute is None
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(60)))
        assert client.statistics().learned_submits_per_minute == pytest.approx(120, rel=0.12)


async def test_a_concurrency_limit_is_learned_with_late_checks(tmp_path: Path) -> None:
    """The poller notices the end of a task seconds late, and a limit of 12 tasks is still learned."""
    server = Server(capacity=12, duration=20)
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(96)))
        refused = client.statistics().rate_limited
    assert server.now() - 1000 <= 8 * 20 * 1.5
    assert refused <= 15


async def test_an_outage_is_not_learned_as_a_limit(tmp_path: Path) -> None:
    """Afterwards jobs are submitted as fast as before."""
    server = Server(duration=5)
    server.on_submit = lambda post: response(502, b"<html>") if 1001 < server.now() < 1030 else None
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(60)))
        assert client.statistics().learned_submits_per_minute is None
    last: Post = server.posts[-1]
    assert last.at < 1080
