"""`omni-async status`: what a folder's ledger records, as a table for people or as JSON lines for programs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni_async import JobStatus

from .. import watch as watching
from ..exit_status import ExitStatus
from ..job_table import LedgerSummary
from ..ledger import SANDBOX_LEDGER, existing_ledger, read_ledger, totals_json
from ..options import FLAG, ClipFolder, OutputOptions
from ..output import Output
from ..session import run_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from omni_async import JobRecord, LedgerReader, LedgerTotals


# Jobs that are listed without --all: about one screen, and the first ones are those that need attention.
_LISTED_JOBS = 20

# Jobs that need attention first, then jobs in progress, then the rest.
_ORDER = (
    *(JobStatus.UNKNOWN, JobStatus.FAILED, JobStatus.DOWNLOAD_FAILED, JobStatus.TIMED_OUT),
    *(JobStatus.SUBMITTING, JobStatus.RUNNING, JobStatus.DOWNLOADING),
    *(JobStatus.CANCELLED, JobStatus.WAITING, JobStatus.COMPLETED),
)


# Jobs that a process is working on. The others stay as they are until another run begins.
_MOVING = (JobStatus.WAITING, JobStatus.SUBMITTING, JobStatus.RUNNING, JobStatus.DOWNLOADING)


class StatusFilter(StrEnum):
    """Values of `--status`: every job status, and jobs of any status that may be paid twice."""

    WAITING = "waiting"
    SUBMITTING = "submitting"
    RUNNING = "running"
    DOWNLOADING = "downloading"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    TIMED_OUT = "timed_out"
    DOWNLOAD_FAILED = "download_failed"
    CANCELLED = "cancelled"
    POSSIBLY_PAID_TWICE = "possibly-paid-twice"


def status(
    folder: ClipFolder = Path("clips"),
    *,
    status: Annotated[
        StatusFilter | None,
        typer.Option("--status", metavar="STATUS", help="Show only jobs with this status."),
    ] = None,
    show_all: Annotated[
        bool, typer.Option("--all", metavar=FLAG, help=f"Show all jobs, not only the first {_LISTED_JOBS}.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", metavar=FLAG, help="Show every change, until no job is waiting or running."),
    ] = False,
    output: OutputOptions,
) -> ExitStatus:
    """Show every job of a folder and what it cost.

    Works at any time, also while a batch is running; needs no key.

    STATUS is waiting, submitting, running, downloading, completed, failed,
    unknown, timed_out, download_failed, cancelled or possibly-paid-twice.
    """
    ledger, out = existing_ledger(folder), Output(output)
    read = partial(_read_view, ledger, status, out, shows_all=show_all)
    if watch:
        return run_command(partial(watching.watch, out, read), out)
    if not output.json:
        read().print()
        return ExitStatus.DONE
    with read_ledger(ledger) as reader:
        totals = reader.totals()
        for record in _select(reader, totals, status, is_sorted=False):
            out.json_line(as_json(record, folder))
            if out.stdout_error:
                return ExitStatus.STOPPED
    out.json_line({"summary": summary(totals, ledger)})
    return ExitStatus.DONE


@dataclass(frozen=True)
class _View:
    """What one reading of a ledger has found: its totals, and the jobs to show (all of them for --json)."""

    ledger: Path
    totals: LedgerTotals
    records: tuple[JobRecord, ...]
    status: StatusFilter | None
    shows_all: bool
    output: Output = field(compare=False)

    @property
    def is_final(self) -> bool:
        return not any(self.totals.by_status.get(status) for status in _MOVING)

    def content(self) -> LedgerSummary:
        return LedgerSummary(
            self.ledger,
            self.totals,
            self.records,
            count=_count(self.totals, self.status),
            shows_all=self.shows_all,
            is_sandbox=self.ledger.name == SANDBOX_LEDGER,
        )

    def print(self) -> None:
        """Print everything, and what can be done about jobs without a clip."""
        table = self.content()
        self.output.render(table)
        if not self.output.options.quiet and (steps := table.next_steps()):
            self.output.result("", *steps)

    def report(self, previous: watching.View | None) -> None:
        if not self.output.options.json:
            self.output.result(f"{time.strftime('%H:%M:%S')} {self.content().line()}")
            return
        known = set(previous.records) if isinstance(previous, _View) else set()
        for record in self.records:
            if record not in known:
                self.output.json_line(as_json(record, self.ledger.parent))
        self.output.json_line({"summary": summary(self.totals, self.ledger)})


def _read_view(ledger: Path, status: StatusFilter | None, output: Output, *, shows_all: bool) -> _View:
    """Read the ledger as it is now."""
    is_json = output.options.json
    with read_ledger(ledger) as reader:
        totals = reader.totals()
        records = _select(reader, totals, status, is_sorted=not is_json)
        listed = tuple(records if shows_all or is_json else islice(records, _LISTED_JOBS))
    return _View(ledger, totals, listed, status, shows_all, output)


def _select(
    reader: LedgerReader, totals: LedgerTotals, status: StatusFilter | None, *, is_sorted: bool
) -> Iterable[JobRecord]:
    """Return the jobs to show, lazily: in the order of their creation, or those that need attention first."""
    if status is StatusFilter.POSSIBLY_PAID_TWICE:
        return (record for record in reader.jobs() if record.possibly_paid_twice)
    if status is not None:
        return reader.jobs(status)
    if not is_sorted:
        return reader.jobs()
    return chain.from_iterable(_by_urgency(reader, totals))


def _by_urgency(reader: LedgerReader, totals: LedgerTotals) -> Iterator[Iterator[JobRecord]]:
    for status in _ORDER:
        if status in totals.by_status:
            yield reader.jobs(status)


def _count(totals: LedgerTotals, status: StatusFilter | None) -> int:
    if status is None:
        return totals.jobs
    if status is StatusFilter.POSSIBLY_PAID_TWICE:
        return totals.possibly_paid_twice
    return totals.by_status.get(JobStatus(status), 0)


def as_json(record: JobRecord, folder: Path) -> dict[str, Any]:
    """Return the fields of a job that --json prints, with paths in `folder` as the user named it."""
    return replace(record, paths=tuple(str(folder / Path(path).name) for path in record.paths)).as_json()


def summary(totals: LedgerTotals, ledger: Path) -> dict[str, Any]:
    """Return the fields of the summary that --json prints. It covers the whole ledger, whatever --status selects."""
    return totals_json(totals) | {
        "folder": str(ledger.parent),
        "ledger": str(ledger),
        "sandbox": ledger.name == SANDBOX_LEDGER,
    }
