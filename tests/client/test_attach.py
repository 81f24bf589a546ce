"""`attach` follows a task that a ledger already knows, against the sandbox."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from omni_async import (
    JobCancelled,
)
from omni_async.ledger import LedgerReader
from tests.support.restarts import set_duration

if TYPE_CHECKING:
    from tests.support.restarts import Service

pytest.importorskip("av", reason="the sandbox renders with the extra `media`")


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


async def test_attach_finds_the_job_of_a_recorded_task(service: Service) -> None:
    """Under another key in a later run it is the same job, with its own key, file and row."""
    set_duration(service, 0.6)
    async with service.interrupted() as client:
        task_id = await client.submit("a fox", key="fox").accepted()
    async with service.client() as client:
        job = client.attach(task_id, key="other")
        assert await job == service.folder / "fox.mp4"
        assert job.key == "fox"
        assert client.statistics().completed == 1
    async with service.client() as client:
        assert await client.attach(task_id) == service.folder / "fox.mp4"
    with closing(LedgerReader(service.folder)) as reader:
        assert reader.totals().jobs == 1
    assert (service.submits, service.sandbox.record.downloads) == (1, 1)


@pytest.mark.slow
async def test_attach_of_a_running_job_shares_its_outcome(service: Service) -> None:
    """The second handle resolves to the same path, and can be extended."""
    set_duration(service, 0.5)
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        second = client.attach(await job.accepted(), key="second")
        snow = second.extend("snow", key="snow")
        async with asyncio.timeout(20):
            assert await second == await job == service.folder / "fox.mp4"
            assert (await snow).is_file()
        stats = client.statistics()
        assert (stats.completed, stats.in_flight, stats.waiting) == (2, 0, 0)
    assert [task.body.get("extend_from_task_id") for task in service.sandbox.record.tasks.values()] == [
        None,
        job.task_id,
    ]
    with closing(LedgerReader(service.folder)) as reader:
        assert [(each.key, each.parent) for each in reader.jobs()] == [("fox", None), ("snow", "fox")]


async def test_attach_continues_a_cancelled_job(service: Service) -> None:
    """A job cancelled after it was accepted is paid for; attaching its task returns the clip."""
    set_duration(service, 0.4)
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        task_id = await job.accepted()
        job.cancel()
        with pytest.raises(JobCancelled, match="bills it"):
            await job
    async with service.client() as client:
        assert await client.attach(task_id) == service.folder / "fox.mp4"
    assert service.submits == 1
