"""Counting from events alone agrees with what the client itself counts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from omni_async import EventKind, JobEvent, JobStatus, OmniError
from omni_async.ledger import MemoryJobStore
from omni_async.progress.tally import EventTally
from tests.support.fakes import FakeClient, Server, refusal


def event(key: str, status: JobStatus, cost: float | None = None, kind: EventKind = EventKind.STATUS) -> JobEvent:
    """Return an event."""
    return JobEvent(timestamp=0.0, key=key, task_id=None, status=status, cost=cost, kind=kind)


@pytest.mark.parametrize("seed", range(4))
async def test_it_agrees_with_the_statistics(tmp_path: Path, seed: int) -> None:
    """After any mixture of clips, refusals and cancellations, counts and cost are those of the client."""
    jitter, tally = random.Random(seed), EventTally()
    server = Server(duration=20, cost=0.7)
    server.on_submit = lambda post: jitter.choices([None, refusal(400), "lost"], [8, 2, 1])[0]
    async with FakeClient(server, tmp_path, on_event=tally.add) as client:
        jobs = [client.submit(f"p{number}") for number in range(40)]
        for job in jobs[:5]:
            job.cancel()
        for job in jobs:
            try:
                await job
            except OmniError:
                assert job.done()
        statistics = client.statistics()
    assert (tally.total, tally.completed) == (40, statistics.completed)
    assert tally.failed == statistics.failed + statistics.unresolved
    assert (tally.running, tally.downloading, tally.is_active) == (0, 0, False)
    assert tally.cost == pytest.approx(statistics.cost)


async def test_a_job_that_was_complete_before_costs_nothing_again(tmp_path: Path) -> None:
    """It counts as completed, and neither its cost nor the rate includes it."""
    server, ledger = Server(cost=0.7), MemoryJobStore()
    async with FakeClient(server, tmp_path, ledger=ledger) as client:
        await client.submit("p", key="k")
    tally = EventTally()
    async with FakeClient(server, tmp_path, ledger=ledger, on_event=tally.add) as client:
        await client.submit("p", key="k")
        await client.submit("q", key="l")
    assert (tally.completed, tally.already_complete) == (2, 1)
    assert tally.cost == pytest.approx(0.7)


def test_a_job_that_is_submitted_again_is_charged_twice() -> None:
    """The cost of the first time stays in the sum."""
    tally = EventTally()
    for status, cost in [("waiting", None), ("failed", 0.5), ("waiting", None), ("running", None), ("completed", 0.6)]:
        tally.add(event("k", JobStatus(status), cost))
    assert (tally.total, tally.completed, tally.failed) == (1, 1, 0)
    assert tally.cost == pytest.approx(1.1)


def test_an_abandoned_job_is_not_active() -> None:
    """It is until the client gives it up, and again if it is taken up."""
    tally = EventTally()
    tally.add(event("k", JobStatus.RUNNING))
    assert (tally.is_active, tally.has_abandoned) == (True, False)
    tally.add(event("k", JobStatus.RUNNING, kind=EventKind.ABANDONED))
    assert (tally.is_active, tally.has_abandoned) == (False, True)
    tally.add(event("k", JobStatus.RUNNING, kind=EventKind.CHECK))
    assert (tally.is_active, tally.has_abandoned) == (True, False)
