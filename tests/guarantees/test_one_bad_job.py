"""Whatever is raised on behalf of one job ends that job, and no other: each seam, each kind of exception."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omni_async import InvalidReference, JobStatus, Limits, OmniError, Polling, Retry
from omni_async.testing.memory_client import MemoryClient
from tests.support.fakes import left_over
from tests.support.reference_files import png
from tests.support.sabotage import BAD, BAD_MODEL, ERRORS, SEAMS, Sabotage

if TYPE_CHECKING:
    from omni_async import Job

pytestmark = pytest.mark.timeout(60)

# Statuses from which `resume`, or `resubmit` for an unknown one, continues a job.
RESUMABLE = {
    JobStatus.WAITING,
    JobStatus.SUBMITTING,
    JobStatus.RUNNING,
    JobStatus.UNKNOWN,
    JobStatus.TIMED_OUT,
    JobStatus.DOWNLOADING,
    JobStatus.DOWNLOAD_FAILED,
}
# What few jobs reach; the others are in the slow test.
COMMON_ERRORS = ("UnicodeEncodeError", "OSError", "RecursionError", "CancelledError")
# What is not awaited cannot raise that somebody cancelled something.
NOT_AWAITED = ("planner", "webhook", "parsing", "clock")


def _client(run: Sabotage, folder: Path) -> MemoryClient:
    return MemoryClient(
        run.server,
        ledger=run.store,
        clip_store=run.clips,
        output_dir=folder,
        on_event=run.on_event,
        # A rate makes checks scarce, so that their priorities are asked for.
        limits=Limits(checks_per_second=2),
        retry=Retry(timeout=60),
        polling=Polling(timeout=300),
    )


def _submit(client: MemoryClient, picture: Path) -> list[Job]:
    return [
        client.submit("first", key="first"),
        client.submit(BAD, key=BAD, model=BAD_MODEL, images=[picture]),
        client.submit("last", key="last"),
    ]


async def _check(seam: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Run three jobs, then check what the bad one has become, and that the others and the client are well."""
    if name == "CancelledError" and seam.startswith(NOT_AWAITED):
        return
    caplog.clear()
    with pytest.MonkeyPatch.context() as monkeypatch:
        run = Sabotage(ERRORS[name], monkeypatch)
        SEAMS[seam](run)
        picture = png(tmp_path, BAD)
        async with _client(run, tmp_path) as client:
            jobs = _submit(client, picture)
            first, outcome, last = await asyncio.gather(*jobs, return_exceptions=True)
            task_id, status = jobs[1].task_id, jobs[1].status
    assert run.raised, "the seam was never reached"
    assert isinstance(first, Path), first
    assert isinstance(last, Path), last
    assert not left_over()
    if isinstance(outcome, BaseException):
        assert isinstance(outcome, OmniError)
        assert repr(BAD) in str(outcome)
        assert task_id is None or task_id in str(outcome)
        is_refused = isinstance(outcome, InvalidReference)  # its file cannot be read, so it was not sent
        assert status in RESUMABLE or is_refused
    else:
        assert status is JobStatus.COMPLETED
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) <= 2, [record.getMessage() for record in tracebacks]
    if status in RESUMABLE:
        await _check_resumed(run, tmp_path, status)
    assert sum(task.body["prompt"] == BAD for task in run.server.tasks.values()) <= 1
    assert len(run.server.concurrent_submits) == 0


async def _check_resumed(run: Sabotage, folder: Path, status: JobStatus) -> None:
    """Check that a later run, without the fault, gets the clip."""
    run.is_active = False
    async with _client(run, folder) as client:
        if status is JobStatus.UNKNOWN:
            await client.resubmit(BAD)
        else:
            jobs = [job async for job in client.resume()]
            await asyncio.gather(*jobs)
    record = await run.store.find(BAD)
    if record is not None:  # else it was never recorded: the program submits it again
        assert record.status is JobStatus.COMPLETED


@pytest.mark.parametrize("seam", SEAMS)
async def test_what_is_raised_for_one_job_ends_no_other(
    tmp_path: Path, seam: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The others finish, the client closes cleanly, and the job gets an error that names it, or its clip."""
    caplog.set_level(logging.ERROR)
    for number, name in enumerate(COMMON_ERRORS):
        folder = tmp_path / str(number)
        folder.mkdir()
        await _check(seam, name, folder, caplog)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ERRORS) - set(COMMON_ERRORS)))
async def test_every_kind_of_exception_at_every_seam(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same with the exceptions that are rarer."""
    caplog.set_level(logging.ERROR)
    for number, seam in enumerate(SEAMS):
        folder = tmp_path / str(number)
        folder.mkdir()
        await _check(seam, name, folder, caplog)
