"""What a job has come to on the server, or to nobody's knowledge: recorded, learnt from, and passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import JobFailed, JobTimedOut, OmniError
from ..jobs.lifecycle import JobStatus
from .tracked_job import resume_hint

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry
    from .planner import CheckPlanner
    from .tracked_job import TrackedJob
    from .webhook_reliability import WebhookReliability


class OutcomeRecorder:
    """Brings the following of a job to its end, in one way or another."""

    def __init__(
        self,
        registry: JobRegistry,
        planner: CheckPlanner,
        trust: WebhookReliability,
        *,
        on_finished: Callable[[JobState], None],
        on_slot_freed: Callable[[float | None], None],
    ) -> None:
        self._registry = registry
        self._planner = planner
        self._trust = trust
        self._on_finished = on_finished
        self._on_slot_freed = on_slot_freed

    def record_finished(self, watch: TrackedJob, now: float) -> None:
        """Pass on a job that is finished on the server."""
        job, task = watch.job, watch.job.task
        assert task is not None
        took = self._planner.observe_finished(watch.history, task, now)
        self._on_slot_freed(
            None if took is None else min(max(watch.history.started + took, watch.history.last_check), now)
        )
        self._learn_of_hook(watch, now)
        facts = {"cost": task.cost, "credits": task.credits_cost, "server_seconds": took, "error": ""}
        self._registry.transition(
            job, JobStatus.DOWNLOADING, **facts
        )  # nothing rests on it: a crash would only ask once more
        self._on_finished(job)

    async def record_failed(self, watch: TrackedJob, what: str, now: float) -> None:
        """End a job that has failed on the server."""
        job, task = watch.job, watch.job.task
        assert task is not None
        self._on_slot_freed(None)
        self._learn_of_hook(watch, now)
        words = ": ".join(dict.fromkeys(word for word in (task.error_code, task.error) if word))
        text = f"job {job.key!r} (task {job.task_id}): {what} ({task.status}){': ' if words else ''}{words}"
        error = JobFailed(text, key=job.key, task_id=job.task_id, task=task)
        await self._registry.persist(
            self._registry.transition(
                job,
                JobStatus.FAILED,
                cost=task.cost,
                credits=task.credits_cost,
                error=text,
                finished_at=self._registry.clock.wall(),
            )
        )
        self._registry.resolve(job, error)

    async def stop_tracking(self, job: JobState, error: OmniError) -> None:
        """Stop following a job that may still be running."""
        self._on_slot_freed(None)
        await self._registry.persist(self._registry.transition(job, JobStatus.TIMED_OUT, error=str(error)))
        self._registry.resolve(job, error)

    def _learn_of_hook(self, watch: TrackedJob, now: float) -> None:
        """Let a job tell whether hooks come; for one of an earlier run, it may have come while nobody was here."""
        calls = watch.webhook_calls
        if calls is not None and calls.is_reported:
            self._trust.record_received()
        elif calls is not None and calls.is_expected and watch.history.observed_until is not None:
            self._trust.record_lost(str(watch.job.task_id), now)


def timeout_error(job: JobState, reason: str) -> JobTimedOut:
    """Give the error of a job that is not followed any longer."""
    return JobTimedOut(f"job {job.key!r}: {reason}; {resume_hint(job)}", key=job.key, task_id=job.task_id)
