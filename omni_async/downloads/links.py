"""The download URLs of a finished task, and fresh ones when they no longer work.

Used by `Downloader` (how many videos are there?) and `ClipDownload` (its URL has expired).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..api.outcomes import CheckOutcome, classify_check
from ..errors import TransportError, TransportTimeout
from ..jobs.lifecycle import JobStatus
from ..models.responses import Task, TaskState
from .evidence import LINK_REFUSED, status_evidence
from .ranges import MAX_CLIP_BYTES, URL_EXPIRED

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..api.parsing import Response
    from ..api.transport import Transport
    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry


# Replies in a row before this one that must have said "no such task" too. A server may lose sight of a task for a
# moment (behind a load balancer, say), so the first reply is not final. At half, a short lapse makes a paid clip
# `download_failed`; at double, a task that is gone is checked a few times more, for nothing. Chosen, not measured.
_NOT_FOUND_BEFORE = 3

UNREACHABLE = "unreachable"  # the kind of failure of a host to which no connection can be made
_BROKEN_OFF = "broken off"
# Failures that may mean that the host has too many downloads to serve.
_OVERLOADED = frozenset({UNREACHABLE, "silent", "HTTP 429", "HTTP 503"})


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """Why an attempt has not completed the clip."""

    reason: str
    needs_url: bool = False  # the next attempt needs a fresh URL
    is_final: bool = False  # no attempt can succeed
    is_not_found: bool = False  # the server says that there is no such task: final if repeated
    retry_after: float | None = None  # seconds to wait, as the server asked
    is_check: bool = False  # the check for a fresh URL failed: that says nothing about the host of the clip
    kind: str = ""  # in a word, for those who wait for the same
    evidence: Hashable | None = None  # what would be the same if it came again: then no attempt can succeed

    def may_be_overload(self, received: int) -> bool:
        """Return whether the host may have too many downloads to serve, after so many bytes of this attempt."""
        return self.kind in _OVERLOADED or (self.kind == _BROKEN_OFF and not received)

    def is_final_after(self, checks: int) -> bool:
        """Return whether to give up now, whatever time is left. `checks` failed in a row before this failure."""
        return self.is_final or (self.is_not_found and checks >= _NOT_FOUND_BEFORE)


def transport_failure(error: TransportError) -> AttemptFailure:
    """Return the failure that an error of the connection to the host of a clip is."""
    if error.permanent:
        return AttemptFailure(str(error), needs_url=True, kind="refused", evidence=LINK_REFUSED)
    kind = UNREACHABLE if not error.sent else "silent" if isinstance(error, TransportTimeout) else _BROKEN_OFF
    return AttemptFailure(str(error), needs_url=not error.sent, kind=kind)


def status_failure(status: int, retry_after: float | None) -> AttemptFailure:
    """Return the failure that a response of the host of a clip is by its status alone."""
    evidence = status_evidence(status)
    reason, kind = f"the download URL gives HTTP {status}", f"HTTP {status}"
    needs_url = status in URL_EXPIRED or evidence is not None
    return AttemptFailure(
        reason, needs_url=needs_url, retry_after=None if needs_url else retry_after, kind=kind, evidence=evidence
    )


def size_failure(size: int) -> AttemptFailure:
    """Return the failure that a clip of this size, which is too large, is."""
    return AttemptFailure(f"it has {size} bytes or more, above the limit of {MAX_CLIP_BYTES}", is_final=True)


def misfit_failure(status: int) -> AttemptFailure:
    """Return the failure of a body that does not continue what was received before."""
    return AttemptFailure(f"the rest does not fit what was received before (HTTP {status})", kind="changed")


def restore_links(job: JobState, registry: JobRegistry) -> None:
    """Use the links that the job's row has, if it has any. One that has expired is refreshed before its use."""
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
                is_not_found = outcome is CheckOutcome.NOT_FOUND
                reason = f"there is no working download URL, and a check gave no other: {said}"
                return _check_failed(reason, is_not_found=is_not_found, is_final=not is_not_found)
        reason = f"the task names no download URL: {result.error or result.outcome.name}"
        return _check_failed(reason, retry_after=result.retry_after)


def _check_failed(
    reason: str, *, is_not_found: bool = False, is_final: bool = False, retry_after: float | None = None
) -> AttemptFailure:
    return AttemptFailure(
        reason,
        needs_url=True,
        is_not_found=is_not_found,
        is_final=is_final,
        retry_after=retry_after,
        is_check=True,
        kind="check",
    )
