"""What became of each job of a run, and the sums that its end is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omni_async import ClientClosed, JobStatus, KeyReused, NotFound, OmniError

from .exit_status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from omni_async import Job


_NAMED = 10  # failures that a summary names
_RESUMABLE = frozenset({JobStatus.TIMED_OUT, JobStatus.DOWNLOAD_FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """How one job ended. `line` is its line in the file, 0 where there is none."""

    key: str
    line: int
    status: JobStatus
    task_id: str | None = None
    paths: tuple[str, ...] = ()
    cost: float | None = None
    error: str = ""
    error_type: str = ""
    is_left: bool = False  # not sent, or not brought home: running or fetching again goes on with it

    def describe(self) -> str:
        """Give what went wrong, beginning with the line of the file, if there is one; names the job just once."""
        place = f"line {self.line}" if self.line else ""
        name = "" if self.key in self.error else f"({self.key})" if place else self.key
        told = " ".join(filter(None, [place, name]))
        return f"{told}: {self.error}" if told else self.error

    def as_json(self) -> dict[str, Any]:
        """Give what --json tells of it."""
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


async def outcome_of(job: Job, line: int = 0) -> JobResult:
    """Give how a job ended, once it has."""
    error: Exception | None = None
    try:
        await job
    except (OmniError, ClientClosed) as trouble:
        error = trouble
    is_final = error is None or isinstance(error, (NotFound, KeyReused))
    return JobResult(
        key=job.key,
        line=line,
        status=job.status,
        task_id=job.task_id,
        paths=tuple(map(str, job.paths)),
        cost=job.cost,
        error=str(error or ""),
        error_type=type(error).__name__ if error else "",
        is_left=not is_final and _has_more_to_come(job.status),
    )


def _has_more_to_come(status: JobStatus) -> bool:
    return not status.is_final or status in _RESUMABLE


class RunTotals:
    """The sums of a run of `total` jobs; keeps only the first few failures.

    `made` holds the keys of those that were done before it.
    """

    def __init__(self, total: int, *, made: AbstractSet[str] = frozenset()) -> None:
        self.total = total
        self.done: int = 0
        self.there: int = 0  # of those done: from before
        self.unknown: int = 0
        self.failed: int = 0  # without the unknown ones
        self.failures: list[JobResult] = []
        self.reason: str = ""  # why something is left, if a job has told
        self._made = made

    def add(self, outcome: JobResult) -> None:
        """Count one job."""
        if not outcome.error:
            self.done += 1
            self.there += outcome.key in self._made
        elif outcome.is_left:
            self.reason = self.reason or outcome.error
        else:
            is_unknown = outcome.status is JobStatus.UNKNOWN
            self.unknown += is_unknown
            self.failed += not is_unknown
            if len(self.failures) < _NAMED:
                self.failures.append(outcome)

    @property
    def ended(self) -> int:
        """Jobs about which nothing more will happen."""
        return self.done + self.failed + self.unknown

    @property
    def left(self) -> int:
        """Jobs that have neither a clip nor a failure: not sent, or not seen to end."""
        return self.total - self.ended

    @property
    def to_make(self) -> int:
        """Jobs that were not done before this run."""
        return self.total - len(self._made)

    def status(self) -> ExitStatus:
        """Judge a run that was not interrupted."""
        if self.left:
            return ExitStatus.STOPPED
        return ExitStatus.FAILED if self.failed or self.unknown else ExitStatus.DONE
