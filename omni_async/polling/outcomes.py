"""`OutcomeRecorder`: records that a task finished, failed, or is no longer tracked, and passes it on.

The poller calls it once for each tracked job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import JobFailed, JobTimedOut, OmniError
from ..jobs.lifecycle import JobStatus
from ..jobs.notices import Notices
from ..logs import get_logger
from .tracked_job import resume_hint

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry
    from ..models.responses import Task
    from .planner import CheckPlanner
    from .tracked_job import TrackedJob
    from .webhook_reliability import WebhookReliability


# Seconds by which the end may be wrong that follows from what the server reports: the difference of two times in whole
# seconds. Half makes a true concurrency limit look contradicted, double learns less from each submit.
_REPORT_ERROR = 1.0

_log = get_logger(__name__)


class OutcomeRecorder:
    """Ends the tracking of a job in one of three ways.

    `on_finished` is called with each job whose clip can be downloaded. `on_slot_freed` is called with each job that the
    server no longer counts as running: with the time when it ended (the event loop's clock), None if that is unknown,
    and by how many seconds that may be wrong.
    """

    def __init__(
        self,
        registry: JobRegistry,
        planner: CheckPlanner,
        reliability: WebhookReliability,
        *,
        on_finished: Callable[[JobState], None],
        on_slot_freed: Callable[[float | None, float], None],
    ) -> None:
        self._registry = registry
        self._planner = planner
        self._reliability = reliability
        self._on_finished = on_finished
        self._on_slot_freed = on_slot_freed
        self._notices = Notices()

    def record_finished(self, tracked: TrackedJob, now: float) -> None:
        """Record that the last check showed the task finished, and pass the job on to be downloaded."""
        job, task, history = tracked.job, tracked.job.task, tracked.history
        assert task is not None
        self._report_ignored_figures(job, task)
        seconds = self._planner.observe_finished(history, task, now)
        ended_at = None if seconds is None else min(max(history.started + seconds, history.last_check), now)
        half_gap = (now - history.last_check) / 2
        is_reported = task.actual_time is not None or task.completed is not None
        self._on_slot_freed(ended_at, min(half_gap, _REPORT_ERROR) if is_reported else half_gap)
        self._record_webhook_result(tracked, now)
        # Not awaited until it is on disk: after a crash, one more check would show the same.
        self._registry.transition(
            job,
            JobStatus.DOWNLOADING,
            cost=task.cost,
            credits=task.credits_cost,
            server_seconds=seconds,
            error="",
            videos=task.videos,
        )
        self._on_finished(job)

    async def record_failed(self, tracked: TrackedJob, reason: str, now: float) -> None:
        """Record that the task failed on the server, and resolve the job with `JobFailed`."""
        job, task = tracked.job, tracked.job.task
        assert task is not None
        self._on_slot_freed(None, 0.0)
        self._report_ignored_figures(job, task)
        self._record_webhook_result(tracked, now)
        details = ": ".join(dict.fromkeys(part for part in (task.error_code, task.error) if part))
        said = f" ({task.status})" if task.status else ""
        message = f"job {job.key!r} (task {job.task_id}): {reason}{said}{': ' if details else ''}{details}"
        await self._registry.persist(
            self._registry.transition(
                job,
                JobStatus.FAILED,
                cost=task.cost,
                credits=task.credits_cost,
                error=message,
                finished_at=self._registry.clock.wall(),
            )
        )
        self._registry.resolve(job, JobFailed(message, key=job.key, task_id=job.task_id, task=task))

    async def stop_tracking(self, job: JobState, error: OmniError) -> None:
        """Record that a job is no longer tracked although its task may still be running."""
        self._on_slot_freed(None, 0.0)
        if job.task is not None and job.task.cost is not None:  # finished and charged, but without a URL
            self._registry.update(job, cost=job.task.cost, credits=job.task.credits_cost)
        await self._registry.persist(self._registry.transition(job, JobStatus.TIMED_OUT, error=str(error)))
        self._registry.resolve(job, error)

    def end_unexpectedly(self, job: JobState, error: BaseException) -> None:
        """End a job after an exception that nothing else handles. Its row stays as it is, to be resumed."""
        if job.status is JobStatus.RUNNING:
            self._on_slot_freed(None, 0.0)
        self._registry.fail_unexpectedly(job, error, "followed")

    def _report_ignored_figures(self, job: JobState, task: Task) -> None:
        number = self._notices.count("figures") if task.ignored_figures else 0
        if number == 1:
            counts = "as not priced" if task.cost is None else f"with ${task.cost:.2f}"
            _log.warning(
                "job %r (task %s): the server reports %s, which cannot be true and is ignored: the job counts %s. "
                "Check the account's usage for what it was charged",
                job.key,
                job.task_id,
                task.ignored_figures,
                counts,
            )
        elif number:
            _log.warning("%d jobs so far with amounts that cannot be true, all ignored", number)

    def _record_webhook_result(self, tracked: TrackedJob, now: float) -> None:
        calls = tracked.webhook_calls
        if calls is not None and calls.is_reported:
            self._reliability.record_received()
        # A job of an earlier run that was not checked yet says nothing: its call may have come while no client was
        # open.
        elif calls is not None and calls.is_expected and tracked.history.observed_until is not None:
            self._reliability.record_lost(str(tracked.job.task_id), now)


def timeout_error(job: JobState, reason: str) -> JobTimedOut:
    """Return the error of a job that is no longer tracked for this reason."""
    return JobTimedOut(f"job {job.key!r}: {reason}; {resume_hint(job)}", key=job.key, task_id=job.task_id)


def missing_url_error(job: JobState, reason: str) -> JobTimedOut:
    """Return the error of a job whose task is finished and perhaps paid for, but names no video."""
    remedy = f"It may be charged. resume or attach checks task {job.task_id} again, without paying"
    return JobTimedOut(f"job {job.key!r}: {reason}. {remedy}", key=job.key, task_id=job.task_id)
