"""The ledger of an output folder: which one it is, and what it already knows of the jobs of a run."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omni_async import LEDGER_NAME, JobStatus, LedgerError, LedgerReader

from .exit_status import UsageError
from .output import harmless

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from omni_async import JobRecord


SANDBOX_LEDGER = "sandbox.db"  # of private sandboxes, each of which is gone with its run

UNFINISHED = (
    *(JobStatus.WAITING, JobStatus.SUBMITTING, JobStatus.RUNNING),
    *(JobStatus.DOWNLOADING, JobStatus.TIMED_OUT, JobStatus.DOWNLOAD_FAILED),
)


def ledger_of(folder: Path, *, sandbox: bool) -> Path:
    """Give the ledger that a run keeps there. Raises `Misuse` where real clips and a sandbox's would mix."""
    if sandbox and is_there(folder / LEDGER_NAME):
        raise UsageError(f"{folder} holds real clips ({LEDGER_NAME}); choose another folder for those of a sandbox")
    if not sandbox and is_there(folder / SANDBOX_LEDGER):
        raise UsageError(
            f"{folder} holds clips of a private sandbox ({SANDBOX_LEDGER}), which are not real; "
            "choose another folder, or delete that one"
        )
    return folder / (SANDBOX_LEDGER if sandbox else LEDGER_NAME)


def ledger_in(folder: Path) -> Path:
    """Give the ledger that is there. Raises `Misuse` where there is none."""
    for name in (LEDGER_NAME, SANDBOX_LEDGER):
        if is_there(folder / name):
            return folder / name
    raise UsageError(f"{folder}: there is no ledger here ({LEDGER_NAME}); no job has been recorded in this folder")


@contextmanager
def reading(ledger: Path) -> Iterator[LedgerReader]:
    """Look into a ledger. Raises `Misuse` where it cannot be read."""
    try:
        with LedgerReader(ledger) as reader:
            yield reader
    except LedgerError as error:
        raise UsageError(harmless(str(error))) from None


def is_there(path: Path) -> bool:
    """Tell whether there is such a file, as far as that can be seen."""
    try:
        return path.is_file()
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class RecordedJobs:
    """How the jobs of a run stood in the ledger before it, by key."""

    completed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    unsent: set[str] = field(default_factory=set)
    in_doubt: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)

    @property
    def total(self) -> int:
        """How many they are."""
        groups = (self.completed, self.failed, self.unknown, self.unsent, self.in_doubt, self.accepted)
        return sum(map(len, groups))

    def add(self, record: JobRecord) -> None:
        """Take in one record."""
        match record.status:
            case JobStatus.COMPLETED:
                self.completed.add(record.key)
            case JobStatus.FAILED:
                self.failed.add(record.key)
            case JobStatus.UNKNOWN:
                self.unknown.add(record.key)
            case JobStatus.SUBMITTING:
                self.in_doubt.add(record.key)
            case _ if record.task_id is not None:  # one that was given up is followed again, without paying
                self.accepted.add(record.key)
            case JobStatus.CANCELLED:
                self.failed.add(record.key)
            case _:
                self.unsent.add(record.key)

    def to_buy_again(self, *, failed: bool, unknown: bool, sandbox: bool) -> set[str]:
        """Give the keys of the jobs to buy again; of a sandbox that is gone, all that came to nothing there."""
        if sandbox:
            return {*self.failed, *self.unknown, *self.unsent, *self.in_doubt, *self.accepted}
        return (self.failed if failed else set()) | (self.unknown if unknown else set())
