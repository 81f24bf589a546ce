"""The result of each job of a run, and the totals that decide the exit status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omni_async import ClientClosed, InvalidRequest, JobStatus, KeyReused, NotFound, OmniError

from .exit_status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from omni_async import Job


# Failures that a summary lists. A broken model or key fails every job for the same reason, so that more of them only
# push the reason off the screen; --json and `status` list all.
_LISTED_FAILURES = 10

_RESUMABLE = frozenset({JobStatus.TIMED_OUT, JobStatus.DOWNLOAD_FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """How one job ended. `line` is its line number in the file, 0 if there is none."""

    key: str
    line: int
    status: JobStatus
    task_id: str | None = None
    paths: tuple[str, ...] = ()
    cost: float | None = None
    error: str = ""
    error_type: str = ""
    is_unfinished: bool = False  # not sent, or not downloaded: running the command again continues it

    def describe(self) -> str:
        """Return the error, preceded by the line number if there is one; the job is named exactly once."""
        place = f"line {self.line}" if self.line else ""
        name = "" if self.key in self.error else f"({self.key})" if place else self.key
        prefix = " ".join(filter(None, [place, name]))
        return f"{prefix}: {self.error}" if prefix else self.error

    def as_json(self) -> dict[str, Any]:
        """Return the fields that --json prints."""
        return {
            "key": self.key,
            **({"line": self.line} if self.line else {}),
            "status": str(self.status),
            "task_id": self.task_id,
            "path": self.paths[0] if self.paths else None,
            "paths": list(self.paths),
            "cost": self.cost,
            "error": self.error or None,
            "error_type": self.error_type or None,
        }


async def wait_for_result(job: Job, folder: Path, line: int = 0) -> JobResult:
    """Wait until the job has ended and return its result, with paths in `folder` as the user named it."""
    error: Exception | None = None
    try:
        await job
    except (OmniError, ClientClosed) as job_error:
        error = job_error
    # The server calls a task unknown (404) or its id invalid (400). Without a task, "not found" is about the model,
    # which may be offered again.
    is_gone = isinstance(error, (NotFound, InvalidRequest)) and job.task_id is not None
    is_final = error is None or is_gone or isinstance(error, KeyReused)
    return JobResult(
        key=job.key,
        line=line,
        status=job.status,
        task_id=job.task_id,
        paths=tuple(str(folder / path.name) for path in job.paths),
        cost=job.cost,
        error=str(error or ""),
        error_type=type(error).__name__ if error else "",
        is_unfinished=not is_final and _can_continue(job.status),
    )


def _can_continue(status: JobStatus) -> bool:
    return not status.is_final or status in _RESUMABLE


class RunTotals:
    """The totals of a run of `total` jobs; keeps only the first few failures.

    `completed_before` holds the keys of the jobs that were complete before the run.
    """

    def __init__(self, total: int, *, completed_before: AbstractSet[str] = frozenset()) -> None:
        self.total = total
        self.completed: int = 0
        self.already_complete: int = 0  # of the completed ones: complete before the run
        self.unknown: int = 0
        self.failed: int = 0  # without the unknown ones
        self.failures: list[JobResult] = []
        self.reason: str = ""  # the first error of an unfinished job
        self.has_unsent: bool = False  # submissions of a job stopped before it was sent
        self._completed_before = completed_before

    def add(self, result: JobResult) -> None:
        """Count one job."""
        if not result.error:
            self.completed += 1
            self.already_complete += result.key in self._completed_before
        elif result.is_unfinished:
            self.reason = self.reason or result.error
            self.has_unsent = self.has_unsent or result.status is JobStatus.WAITING
        else:
            is_unknown = result.status is JobStatus.UNKNOWN
            self.unknown += is_unknown
            self.failed += not is_unknown
            if len(self.failures) < _LISTED_FAILURES:
                self.failures.append(result)

    @property
    def finished(self) -> int:
        """Number of jobs in a final status."""
        return self.completed + self.failed + self.unknown

    @property
    def unfinished(self) -> int:
        """Number of jobs with neither a clip nor a failure: not sent, or not followed to their end."""
        return self.total - self.finished

    @property
    def incomplete_before(self) -> int:
        """Number of jobs that were not complete before the run."""
        return self.total - len(self._completed_before)

    def exit_status(self) -> ExitStatus:
        """Return the exit status of a run that was not interrupted."""
        if self.unfinished:
            return ExitStatus.STOPPED
        return ExitStatus.FAILED if self.failed or self.unknown else ExitStatus.DONE
