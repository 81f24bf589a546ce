"""The errors of jobs whose outcome comes from the ledger and not from the server. Used by the client and dispatcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import JobCancelled, JobError, JobFailed, KeyReused, ParentFailed, SubmitOutcomeUnknown
from .lifecycle import JobStatus

if TYPE_CHECKING:
    from .job import JobState
    from .records import JobRecord

_ERRORS: dict[JobStatus, type[JobError]] = {
    JobStatus.FAILED: JobFailed,
    JobStatus.UNKNOWN: SubmitOutcomeUnknown,
    JobStatus.CANCELLED: JobCancelled,
}


def error_from_record(record: JobRecord) -> JobError:
    """Return the error with which a job ended elsewhere or in an earlier run, rebuilt from its record."""
    error_class = _ERRORS.get(record.status, JobError)
    if error_class is JobFailed and record.parent is not None and not record.submits:
        error_class = ParentFailed  # nothing else can fail a job before it is sent
    return error_class(record.error or f"job {record.key!r} is {record.status}", key=record.key, task_id=record.task_id)


def key_reused(key: str) -> KeyReused:
    """Return the error for a second request under one key."""
    text = f"job {key!r}: this key already names a job with another request; nothing was sent. Give it a key of its own"
    return KeyReused(text, key=key)


def unreadable_request_error(job: JobState) -> JobError | None:
    """Return the error of a row whose request this version cannot read, None if it can."""
    try:
        _ = job.request
    except ValueError as error:
        return JobError(f"job {job.key!r}: the ledger holds a request that cannot be sent: {error}", key=job.key)
    return None


def unexpected_error(job: JobState, error: BaseException, doing: str) -> JobError:
    """Return the error of a job that an unexpected exception has ended; `doing` is what was being done with it."""
    task = f" (task {job.task_id})" if job.task_id else ""
    text = f"job {job.key!r}{task}: unexpected {type(error).__name__} while it was being {doing}: {error}"
    if job.task_id is None and job.status is JobStatus.SUBMITTING:
        advice = "It is unknown whether the server accepted (and billed) it"
        result: JobError = SubmitOutcomeUnknown(f"{text}. {advice}", key=job.key)
    else:
        advice = "It is not paid again" if job.task_id else "Nothing was sent for it"
        result = JobError(
            f"{text}. {advice}: run the same command again, or resume it", key=job.key, task_id=job.task_id
        )
    result.__cause__ = error
    return result


def follow_duplicate(job: JobState, live: JobState) -> None:
    """Give a job the outcome of the live one with the same key, whose request is unknown until the ledger is read.

    If that turns out to be another request, the outcome is `KeyReused`.
    """

    def copy(live: JobState) -> None:
        assert live.outcome is not None
        is_other = live.record.request and not live.record.is_same_work(job.record)
        if not is_other:
            job.record, job.task = live.record, live.task
        job.resolve(key_reused(job.key) if is_other else live.outcome)

    job.duplicate_of = live
    live.add_done_callback(copy)
