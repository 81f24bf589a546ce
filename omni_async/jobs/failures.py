"""How a job ends for what the ledger says of it, and not the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import JobCancelled, JobError, JobFailed, KeyReused, ParentFailed, SubmitOutcomeUnknown
from .lifecycle import JobStatus

if TYPE_CHECKING:
    from .job import JobState


_ENDINGS: dict[JobStatus, type[JobError]] = {
    JobStatus.FAILED: JobFailed,
    JobStatus.UNKNOWN: SubmitOutcomeUnknown,
    JobStatus.CANCELLED: JobCancelled,
}


def error_from_record(job: JobState) -> JobError:
    """Give the error with which a job ended before, out of its record."""
    record = job.record
    family = _ENDINGS.get(job.status, JobError)
    if family is JobFailed and record.parent is not None and not record.submits:
        family = ParentFailed  # nothing else can have failed it before it was ever sent
    return family(record.error or f"job {job.key!r} is {job.status}", key=job.key, task_id=job.task_id)


def key_reused(key: str) -> KeyReused:
    """Give the error for a second request under one key."""
    text = f"job {key!r}: this key already names a job with another request; nothing was sent. Give it a key of its own"
    return KeyReused(text, key=key)


def unreadable_request_error(job: JobState) -> JobError | None:
    """Give the error of a row whose request is none for this version; sending it would stop every room."""
    try:
        _ = job.request
    except ValueError as error:
        return JobError(f"job {job.key!r}: the ledger holds a request that cannot be sent: {error}", key=job.key)
    return None


def follow_duplicate(job: JobState, live: JobState) -> None:
    """Let a job end as the live one does that has its key, and whose request nobody knows before the ledger is read."""

    def end(live: JobState) -> None:
        assert live.outcome is not None
        is_other = live.record.request and not live.record.is_same_work(job.record)
        if not is_other:
            job.record, job.task = live.record, live.task
        job.resolve(key_reused(job.key) if is_other else live.outcome)

    job.duplicate_of = live
    live.add_done_callback(end)
