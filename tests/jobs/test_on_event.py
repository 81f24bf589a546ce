"""`on_event` receives every change of a job, and may call the client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    JobStatus,
)
from tests.support.fakes import FakeClient, Server

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async import Job, JobEvent

pytestmark = pytest.mark.timeout(30)


async def test_events_report_every_change_of_status(tmp_path: Path) -> None:
    """on_event gets each change in order, and each previous status is that of the event before."""
    events: list[JobEvent] = []
    async with FakeClient(Server(), tmp_path, on_event=events.append) as client:
        job = client.submit("p")
        await job
    moves = [event.status for event in events if event.previous != event.status]
    assert moves == ["waiting", "submitting", "running", "downloading", "completed"]
    assert events[-1].path == tmp_path / f"{job.key}.mp4"
    assert events[-1].cost == 0.5
    previous = None
    for event in events:
        assert event.previous in {previous, event.status}
        previous = event.status


@pytest.mark.parametrize("kind", [ZeroDivisionError, asyncio.CancelledError])
async def test_an_exception_in_on_event_is_logged(
    tmp_path: Path, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Every job is completed although on_event always raises."""

    def broken(_: JobEvent) -> None:
        raise kind("display")

    async with FakeClient(Server(), tmp_path, on_event=broken) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(5)))
    assert "display" in caplog.text


async def test_a_listener_that_always_raises_is_logged_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Five jobs, some sixty events: one traceback, and how often it was by the end."""
    events = 0

    def broken(_: JobEvent) -> None:
        nonlocal events
        events += 1
        raise ZeroDivisionError

    async with FakeClient(Server(), tmp_path, on_event=broken) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(5)))
    records = [record for record in caplog.records if "on_event" in record.getMessage()]
    assert sum(record.exc_info is not None for record in records) == 1
    assert len(records) == 3
    assert f"{events} times" in records[-1].getMessage()


@pytest.mark.parametrize("status", ["waiting", "submitting", "running", "downloading", "completed"])
async def test_on_event_can_cancel_the_job_of_the_event(tmp_path: Path, status: str) -> None:
    """Cancelling at any status ends the job, and the ledger has the same status as the job."""
    jobs: dict[str, Job] = {}

    def cancel(event: JobEvent) -> None:
        if event.status == status and event.key in jobs:
            jobs[event.key].cancel()

    server = Server()
    async with FakeClient(server, tmp_path, on_event=cancel) as client:
        job = client.submit("p", key="k")
        jobs["k"] = job
        await asyncio.gather(job, return_exceptions=True)
        await asyncio.sleep(100)
        assert client.memory._records["k"].status is job.status
        jobs.clear()
        assert (await client.submit("q")).is_file()


async def test_on_event_can_submit_a_job(tmp_path: Path) -> None:
    """Submitting from within on_event works."""
    more: list[Job] = []

    def submit(event: JobEvent) -> None:
        if event.key.startswith("first") and event.status == "running" and not more:
            more.append(client.submit("second"))

    client = FakeClient(Server(), tmp_path, on_event=submit)
    async with client:
        await client.submit("first", key="first")
    assert more[0].status is JobStatus.COMPLETED
