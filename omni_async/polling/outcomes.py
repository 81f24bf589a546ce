"""What a job has come to on the server, or to nobody's knowledge: recorded, learnt from, and passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import JobFailed, JobOverdue, OmniError
from ..jobs.lifecycle import JobStatus
from .tracked_job import still

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.job import Job
    from ..jobs.registry import Roster
    from .planner import Cadence
    from .tracked_job import Watch
    from .webhook_reliability import Trust


class Ends:
    """Brings the following of a job to its end, in one way or another."""

    def __init__(
        self,
        roster: Roster,
        cadence: Cadence,
        trust: Trust,
        *,
        landed: Callable[[Job], None],
        left: Callable[[float | None], None],
    ) -> None:
        self._roster = roster
        self._cadence = cadence
        self._trust = trust
        self._landed = landed
        self._left = left

    def finish(self, watch: Watch, now: float) -> None:
        """Pass on a job that is finished on the server."""
        job, task = watch.job, watch.job.task
        assert task is not None
        took = self._cadence.finish(watch.course, task, now)
        self._left(None if took is None else min(max(watch.course.since + took, watch.course.seen), now))
        self._learn_of_hook(watch, now)
        facts = {"cost": task.cost, "credits": task.credits_cost, "took": took, "error": ""}
        self._roster.move(job, JobStatus.DOWNLOADING, **facts)  # nothing rests on it: a crash would only ask once more
        self._landed(job)

    async def fail(self, watch: Watch, what: str, now: float) -> None:
        """End a job that has failed on the server."""
        job, task = watch.job, watch.job.task
        assert task is not None
        self._left(None)
        self._learn_of_hook(watch, now)
        words = ": ".join(dict.fromkeys(word for word in (task.error_code, task.error) if word))
        text = f"job {job.key!r} (task {job.task_id}): {what} ({task.status}){': ' if words else ''}{words}"
        error = JobFailed(text, key=job.key, task_id=job.task_id, task=task)
        await self._roster.sure(
            self._roster.move(
                job,
                JobStatus.FAILED,
                cost=task.cost,
                credits=task.credits_cost,
                error=text,
                finished_at=self._roster.wall(),
            )
        )
        self._roster.end(job, error)

    async def lose(self, job: Job, error: OmniError) -> None:
        """Stop following a job that may still be running."""
        self._left(None)
        await self._roster.sure(self._roster.move(job, JobStatus.OVERDUE, error=str(error)))
        self._roster.end(job, error)

    def _learn_of_hook(self, watch: Watch, now: float) -> None:
        """Let a job tell whether hooks come; for one of an earlier run, it may have come while nobody was here."""
        calls = watch.calls
        if calls is not None and calls.is_told:
            self._trust.came()
        elif calls is not None and calls.is_expected and watch.course.watched is not None:
            self._trust.lost(str(watch.job.task_id), now)


def overdue(job: Job, reason: str) -> JobOverdue:
    """Give the error of a job that is not followed any longer."""
    return JobOverdue(f"job {job.key!r}: {reason}; {still(job)}", key=job.key, task_id=job.task_id)
