"""Jobs of a fleet that are submitted again on request: not paid again where the server recognizes the request."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("psycopg", reason="needs the extra `fleet`")
pytest.importorskip("av", reason="the sandbox renders clips with the extra `media`")

from omni_async import JobStatus, Retry
from omni_async.fleet import Fleet, FleetWorker
from omni_async.fleet.postgres.lease import can_lead
from omni_async.sandbox import Sandbox
from tests.support.fleet_rows import execute
from tests.support.postgres import needs_postgres

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    needs_postgres,
    pytest.mark.skipif(not can_lead(), reason="this machine has no clock that runs while it sleeps"),
]

DAY = 86_400.0


@pytest.mark.parametrize(
    ("facts", "is_kept"),
    [
        ("status = 'unknown'", True),
        ("status = 'unknown', idempotency_key = ''", False),
        (f"status = 'unknown', submitted_at = submitted_at - {DAY}", False),
        ("status = 'cancelled'", True),
        ("status = 'cancelled', ambiguous_submits = 0", False),
        ("status = 'failed'", False),
        ("status = 'failed', task_id = 'task'", False),
    ],
)
async def test_a_job_that_may_be_accepted_keeps_its_key_for_a_day(fleet_url: str, facts: str, is_kept: bool) -> None:
    """And with it what its body contained. Any other job gets a new key."""
    async with Fleet(fleet_url) as fleet:
        await fleet.enqueue({"fox": "a fox"})
        submitted = "submits = 1, ambiguous_submits = 1, submitted_at = %s, sent_references = '[\"https://x/1.png\"]'"
        await execute(fleet_url, f"UPDATE omni_jobs SET {submitted}, idempotency_key = 'old'", time.time() - 60)
        await execute(fleet_url, f"UPDATE omni_jobs SET {facts}")
        assert await fleet.retry(failed=True, unknown=True) == 1
        job = await fleet.find("fox")
    assert job is not None
    assert (job.status, job.task_id, job.submits) == (JobStatus.WAITING, None, 1)
    assert (job.idempotency_key == "old") is is_kept
    assert job.idempotency_key
    assert (job.sent_references != ()) is is_kept
    assert (job.submitted_at is not None) is is_kept


@pytest.mark.slow
async def test_an_unknown_job_is_not_paid_again_by_a_server_that_honours_its_key(
    fleet_url: str, tmp_path: Path
) -> None:
    """It was accepted, and the reply was lost. Retried, it gets the task and the clip of the first submit."""
    async with Sandbox(median=0.3, seconds=3, prerendered=True) as sandbox, Fleet(fleet_url) as fleet:
        sandbox.script("submit", ["drop_after"])
        await fleet.enqueue({"fox": "a fox"})
        worker = FleetWorker(
            fleet_url,
            store=tmp_path,
            api_keys={"default": "sk-sandbox"},
            base_url=sandbox.base_url,
            retry=Retry(ambiguous="hold"),
        )
        task = asyncio.create_task(worker.run())
        async with asyncio.timeout(30):
            assert (await fleet.job("fox").ended()).status is JobStatus.UNKNOWN
            assert await fleet.retry(unknown=True) == 1
            await fleet.job("fox")
        task.cancel()
        await asyncio.wait({task})
        job = await fleet.find("fox")
    assert len(sandbox.record.tasks) == 1
    assert job is not None
    assert (job.ambiguous_submits, job.submits) == (0, 2)
