"""The download URLs of a finished task, and fresh ones when they no longer work.

Used by `Downloader` (how many videos are there?) and `ClipDownload` (its URL has expired).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from ..api.outcomes import CheckOutcome, classify_check
from ..errors import TransportError
from ..jobs.lifecycle import JobStatus
from ..models.responses import Task, TaskState
from .failures import AttemptFailure

if TYPE_CHECKING:
    from ..api.parsing import Response
    from ..api.transport import Transport
    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry


def restore_links(job: JobState, registry: JobRegistry) -> None:
    """Use the links in the job's row, if it has any. One that has expired is refreshed before its use."""
    if job.record.videos:
        assert job.task_id is not None
        task = Task(id=job.task_id, status="completed", state=TaskState.DONE, videos=job.record.videos)
        registry.record_check(job, task)


def host_of(url: str) -> str:
    """Return host and port of a URL, without user and password."""
    match = re.search(r"//(?:[^/?#@]*@)?([^/?#]+)", url)
    return match.group(1)[:100] if match else "an unknown host"


class UrlSource(Protocol):
    """Where the URLs of a task come from when those that are known do not work."""

    def has_expired(self, job: JobState, index: int) -> bool:
        """Return whether a fresh URL of a video is needed before the first attempt."""

    async def refresh(
        self, job: JobState, index: int = 0, failure: AttemptFailure | None = None
    ) -> AttemptFailure | None:
        """Give the task of a job fresh URLs, after a `failure` of those before. Return None to try again."""


class UrlRefresher:
    """The `UrlSource` of a client: it checks the task. That is free and never causes a submit."""

    def __init__(self, transport: Transport, registry: JobRegistry) -> None:
        self._transport = transport
        self._registry = registry

    def has_expired(self, job: JobState, index: int) -> bool:
        """Return whether the URL of a video has expired by its own statement."""
        assert job.task is not None
        expires_at = job.task.videos[index].expires_at
        return expires_at is not None and expires_at <= self._registry.clock.wall()

    async def refresh(
        self, job: JobState, index: int = 0, failure: AttemptFailure | None = None
    ) -> AttemptFailure | None:
        """Check the task for fresh URLs. Return None if this video has one now."""
        assert job.task_id is not None
        clock, since = self._registry.clock, self._registry.clock.now()
        self._registry.totals.count("checks")
        response: Response | TransportError
        try:
            response = await self._transport.check(job.task_id)
        except TransportError as error:
            response = error
        result = classify_check(response, job.task_id, now=clock.wall(), requested=job.record.sent_texts)
        self._registry.events.checked(job, clock.now() - since, result.error)
        if isinstance(response, TransportError):
            return _check_failed(f"the check for a download URL failed: {response}")
        match result.outcome:
            case CheckOutcome.FINISHED if result.task is not None and len(result.task.videos) > index:
                self._registry.record_check(job, result.task)
                if job.status is JobStatus.DOWNLOADING:  # not awaited: after a crash, a check shows them again
                    self._registry.update(job, videos=result.task.videos)
                return None
            case CheckOutcome.FAILED | CheckOutcome.DENIED | CheckOutcome.NOT_FOUND as outcome:
                said = result.error or (result.task and result.task.error) or "the task has failed"
                is_final = outcome is CheckOutcome.FAILED
                reason = f"there is no working download URL, and a check gave no other: {said}"
                return _check_failed(reason, is_refused=not is_final, is_final=is_final)
        reason = f"the task names no download URL: {result.error or result.outcome.name}"
        return _check_failed(reason, retry_after=result.retry_after)


def _check_failed(
    reason: str, *, is_refused: bool = False, is_final: bool = False, retry_after: float | None = None
) -> AttemptFailure:
    return AttemptFailure(
        reason,
        needs_url=True,
        is_refused=is_refused,
        is_final=is_final,
        retry_after=retry_after,
        is_check=True,
        kind="check",
    )
