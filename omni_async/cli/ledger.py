"""The ledger of an output folder: which file it is, and what it records about the jobs of a run."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omni_async import LEDGER_NAME, JobStatus, LedgerError, LedgerReader

from .exit_status import UsageError
from .exposure import check_origin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from omni_async import JobRecord, LedgerTotals

    from .options import TrustOptions


# The ledger of runs with --sandbox. It has a name of its own, because a private sandbox and its tasks end with the run.
SANDBOX_LEDGER = "sandbox.db"

UNFINISHED = (
    *(JobStatus.WAITING, JobStatus.SUBMITTING, JobStatus.RUNNING),
    *(JobStatus.DOWNLOADING, JobStatus.TIMED_OUT, JobStatus.DOWNLOAD_FAILED),
)


def ledger_for_run(folder: Path, *, sandbox: bool, trust: TrustOptions | None = None) -> Path:
    """Return the ledger that a run uses in this folder.

    Raise `UsageError` if real and sandbox clips would mix, or if `check_origin` refuses the ledger.
    """
    if sandbox and is_file(folder / LEDGER_NAME):
        raise UsageError(f"{folder} contains real clips ({LEDGER_NAME}); choose another folder for sandbox clips")
    if not sandbox and is_file(folder / SANDBOX_LEDGER):
        raise UsageError(
            f"{folder} contains sandbox clips ({SANDBOX_LEDGER}), not real ones; "
            "choose another folder, add --sandbox, or delete this one"
        )
    ledger = folder / (SANDBOX_LEDGER if sandbox else LEDGER_NAME)
    if is_file(ledger):
        check_origin(ledger, trust)
    return ledger


def existing_ledger(folder: Path) -> Path:
    """Return the ledger of this folder. Raise `UsageError` if there is none."""
    for name in (LEDGER_NAME, SANDBOX_LEDGER):
        if is_file(folder / name):
            return folder / name
    raise UsageError(f"{folder}: no ledger found ({LEDGER_NAME}); no job has been recorded in this folder")


@contextmanager
def read_ledger(ledger: Path) -> Iterator[LedgerReader]:
    """Open a ledger for reading. Raise `UsageError` if it cannot be read."""
    try:
        with LedgerReader(ledger) as reader:
            yield reader
    except LedgerError as error:
        raise UsageError(str(error)) from None


def is_file(path: Path) -> bool:
    """Return whether this file exists; False if that cannot be determined."""
    try:
        return path.is_file()
    except OSError:
        return False


def totals_json(totals: LedgerTotals) -> dict[str, Any]:
    """Return the fields that --json prints of the sums over jobs. Programs rely on them; fields may only be added."""
    count = {str(status): totals.by_status.get(status, 0) for status in JobStatus}
    return {
        "total": totals.jobs,
        "clips": count["completed"],
        "failed": count["failed"],
        "unknown": count["unknown"],
        "cancelled": count["cancelled"],
        "unfinished": sum(count[status] for status in UNFINISHED),
        "by_status": count,
        "cost": totals.cost,
        "credits": totals.credits,
        "submits": totals.submits,
        "ambiguous_submits": totals.ambiguous_submits,
        "possibly_paid_twice": totals.possibly_paid_twice,
    }


@dataclass(frozen=True, slots=True)
class RecordedJobs:
    """The jobs of a run as the ledger recorded them before it: their keys, by what is known of them."""

    completed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    unsent: set[str] = field(default_factory=set)
    ambiguous: set[str] = field(default_factory=set)  # sent, and no response recorded
    accepted: set[str] = field(default_factory=set)

    @property
    def total(self) -> int:
        """Number of jobs."""
        groups = (self.completed, self.failed, self.unknown, self.unsent, self.ambiguous, self.accepted)
        return sum(map(len, groups))

    def add(self, record: JobRecord) -> None:
        """Add one record."""
        match record.status:
            case JobStatus.COMPLETED:
                self.completed.add(record.key)
            case JobStatus.FAILED:
                self.failed.add(record.key)
            case JobStatus.UNKNOWN:
                self.unknown.add(record.key)
            case JobStatus.SUBMITTING:
                self.ambiguous.add(record.key)
            case _ if record.task_id is not None:  # also a cancelled one: it is followed again, without paying
                self.accepted.add(record.key)
            case JobStatus.CANCELLED:
                self.failed.add(record.key)
            case _:
                self.unsent.add(record.key)

    def keys_to_resubmit(self, *, retry_failed: bool, retry_unknown: bool, sandbox: bool) -> set[str]:
        """Return the keys of the jobs to submit again.

        With a private sandbox these are all jobs without a clip: the tasks of the previous sandbox no longer exist.
        """
        if sandbox:
            return {*self.failed, *self.unknown, *self.unsent, *self.ambiguous, *self.accepted}
        return (self.failed if retry_failed else set()) | (self.unknown if retry_unknown else set())
