"""Under random faults and latencies, by seed, every job ends and is paid for once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

import pytest

from omni_async import JobStatus, Limits, Polling, Retry, TransportError
from omni_async.api.parsing import Response
from tests.support.fakes import (
    HTML,
    FakeClient,
    Fault,
    Server,
    SlowLedger,
    left_by_error,
    left_over,
    not_sent,
    refusal,
    response,
)
from tests.support.markers import slow_after
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

PATIENT = Retry(timeout=3000, wait_initial=0.5, wait_max=30)


class Chaos:
    """Random faults; each seed has its own mixture."""

    def __init__(self, seed: int) -> None:
        self.jitter = random.Random(seed)
        self.share = self.jitter.uniform(0, 0.5)
        self.slowness = self.jitter.choice([0.01, 0.3, 3.0])

    def fault(self, *faults: Fault) -> Fault:
        """Return one of these faults or None at random."""
        return self.jitter.choice(faults) if self.jitter.random() < self.share else None

    def server(self) -> Server:
        """Return a server that has these faults."""
        jitter = self.jitter
        server = Server(duration=jitter.uniform(1, 120), latency=self.slowness)
        server.retry_after = jitter.choice(["seconds", "date", None, "wrong"])
        match jitter.randrange(4):
            case 0:
                server.per_second = jitter.uniform(0.3, 5)
            case 1:
                server.window = (jitter.randint(3, 30), jitter.uniform(5, 60))
            case 2:
                server.capacity = jitter.randint(1, 12)
        pages = count()  # the same page twice in a row would end a download
        busy = refusal(409, "conflict", "idempotency_in_progress", retry_after="2")
        server.on_submit = lambda _: self.fault(
            "lost", "lost 502", "hang", not_sent(), HTML, refusal(429), busy,
            refusal(503, code="idempotency_unavailable"), TransportError("reset"),
        )  # fmt: skip
        server.on_check = lambda _: self.fault(
            HTML, "hang", not_sent(), TransportError("reset"), response(200, b""), refusal(429, retry_after="3"),
            response(404, b"<html>"), response(500),
        )  # fmt: skip
        server.on_download = lambda _: self.fault(
            "cut", "stall", TransportError("reset"), Response(403), Response(500),
            Response(200, {}, b"<html>%d" % next(pages)), Response(416),
            Response(206, {"content-range": "bytes 1-2/3"}, b"xx"),
        )  # fmt: skip
        server.delay_submit = lambda _: jitter.expovariate(1 / self.slowness)
        server.delay_check = lambda _: jitter.expovariate(1 / self.slowness)
        return server


@pytest.mark.parametrize("seed", slow_after(5, range(30)))
async def test_every_job_is_completed_and_paid_once(tmp_path: Path, seed: int) -> None:
    """Sixty jobs make sixty tasks and sixty clips, and no asyncio task remains."""
    chaos = Chaos(seed)
    server = chaos.server()
    limits = Limits(
        max_in_flight=chaos.jitter.choice([None, 1, 7]),
        submits_per_minute=chaos.jitter.choice([None, None, 120]),
        checks_per_second=chaos.jitter.choice([None, None, 4]),
    )
    polling, ledger = Polling(timeout=50_000), SlowLedger(chaos.jitter.choice([0.0, 0.02, 1.0]))
    async with FakeClient(server, tmp_path, retry=PATIENT, limits=limits, polling=polling, ledger=ledger) as client:
        jobs = [client.submit(f"p{number}", key=f"k{number}") for number in range(50)]
        jobs += [jobs[number].extend(f"more {number}", key=f"e{number}") for number in range(10)]
        async with asyncio.timeout(500_000):
            paths = await asyncio.gather(*jobs)
        stats = client.statistics()
    assert len(server.tasks) == 60
    assert not server.concurrent_submits
    assert len({post.key for post in server.posts}) == 60
    assert {path.name for path in paths} == {f"{job.key}.mp4" for job in jobs}
    assert all(job.status is JobStatus.COMPLETED for job in jobs)
    assert (stats.completed, stats.waiting, stats.in_flight, stats.downloading, stats.failed, stats.unresolved) == (
        60,
        *[0] * 5,
    )
    assert stats.cost == pytest.approx(30.0)
    assert stats.submits == len(server.posts)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".mp4"] * 60
    assert not left_over()


@pytest.mark.parametrize("seed", slow_after(3, range(10)))
async def test_every_job_is_completed_after_repeated_interruptions(tmp_path: Path, seed: int) -> None:
    """The client is left by an error several times and resumed from its ledger."""
    chaos = Chaos(seed)
    server, ledger = chaos.server(), SlowLedger(chaos.jitter.choice([0.0, 0.02, 1.0]))
    async with left_by_error(FakeClient(server, tmp_path, retry=PATIENT, ledger=ledger)) as client:
        for number in range(40):
            client.submit(f"p{number}", key=f"k{number}")
        await asyncio.sleep(chaos.jitter.uniform(0, 30))
    for _ in range(5):
        async with left_by_error(FakeClient(server, tmp_path, retry=PATIENT, ledger=ledger)) as client:
            client.resume()
            await asyncio.sleep(chaos.jitter.expovariate(1 / 30))
    async with FakeClient(server, tmp_path, retry=PATIENT, ledger=ledger) as client:
        await asyncio.gather(*await resumed(client))
    assert len(server.tasks) == 40
    assert len({post.key for post in server.posts}) == 40
    assert not server.concurrent_submits
    assert all((tmp_path / f"k{number}.mp4").is_file() for number in range(40))


@pytest.mark.parametrize("seed", slow_after(4, range(20)))
async def test_nothing_is_paid_twice_by_a_server_that_ignores_idempotency_keys(tmp_path: Path, seed: int) -> None:
    """Each job is completed, or unknown and named, through faults and interruptions. Nothing is sent after that."""
    chaos = Chaos(seed)
    server, ledger = chaos.server(), SlowLedger(chaos.jitter.choice([0.0, 0.02, 1.0]))
    server.idempotency = False
    async with left_by_error(FakeClient(server, tmp_path, retry=PATIENT, ledger=ledger)) as client:
        for number in range(40):
            client.submit(f"p{number}", key=f"k{number}")
        await asyncio.sleep(chaos.jitter.uniform(0, 30))
    for _ in range(3):
        async with left_by_error(FakeClient(server, tmp_path, retry=PATIENT, ledger=ledger)) as client:
            client.resume()
            await asyncio.sleep(chaos.jitter.expovariate(1 / 30))
    async with FakeClient(server, tmp_path, retry=PATIENT, ledger=ledger) as client:
        await asyncio.gather(*await resumed(client), return_exceptions=True)
    paid = Counter(task.body["prompt"] for task in server.tasks.values())
    records = {f"p{number}": ledger._records[f"k{number}"] for number in range(40)}
    assert max(paid.values()) == 1
    assert {record.status for record in records.values()} <= {JobStatus.COMPLETED, JobStatus.UNKNOWN}
    assert all(prompt in paid for prompt, record in records.items() if record.status is JobStatus.COMPLETED)
    unknown = [record for record in records.values() if record.status is JobStatus.UNKNOWN]
    assert unknown or not chaos.share
    assert all(repr(record.key) in record.error and "--retry-unknown" in record.error for record in unknown)
    sent = len(server.posts)
    async with FakeClient(server, tmp_path, retry=PATIENT, ledger=ledger) as client:
        assert not await resumed(client)
    assert len(server.posts) == sent


@pytest.mark.parametrize("seed", slow_after(3, range(10)))
async def test_every_job_ends_with_failures_and_cancellations(tmp_path: Path, seed: int) -> None:
    """Tasks fail and jobs are cancelled at random moments, and the counts are right."""
    chaos = Chaos(seed)
    server, jitter = chaos.server(), chaos.jitter
    random_fault = server.on_submit
    assert random_fault is not None
    server.on_submit = lambda post: refusal(400) if jitter.random() < 0.05 else random_fault(post)
    ledger = SlowLedger(jitter.choice([0.0, 0.02, 1.0]))
    async with FakeClient(server, tmp_path, retry=PATIENT, ledger=ledger) as client:
        jobs = [client.submit(f"p{number}") for number in range(50)]
        jobs += [jitter.choice(jobs).extend(f"more {number}") for number in range(20)]

        async def interfere() -> None:
            for _ in range(30):
                await asyncio.sleep(jitter.expovariate(1 / 5))
                jitter.choice(jobs).cancel()
                for task in list(server.tasks.values())[-1:]:
                    task.fails = jitter.random() < 0.5

        interference = asyncio.create_task(interfere())
        async with asyncio.timeout(500_000):
            await asyncio.gather(*jobs, return_exceptions=True)
        await interference
        stats = client.statistics()
    assert stats.waiting == stats.in_flight == stats.downloading == 0
    assert stats.completed + stats.failed + stats.unresolved == 70
    assert sum(job.status is JobStatus.COMPLETED for job in jobs) == stats.completed
    assert len(server.tasks) <= 70
    for job in jobs:
        assert client.memory._records[job.key].status is job.status
    assert not left_over()
