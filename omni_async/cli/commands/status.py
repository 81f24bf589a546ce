"""`omni-async status`: what a folder's ledger records, as a table for people or as JSON lines for programs."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni_async import JobStatus

from ..exit_status import ExitStatus
from ..job_table import LedgerSummary
from ..ledger import SANDBOX_LEDGER, UNFINISHED, existing_ledger, read_ledger
from ..options import FLAG, ClipFolder, OutputOptions
from ..output import Output

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
    output: OutputOptions,
) -> ExitStatus:
    """Show every job of a folder and what it cost.

    Works at any time, also while a batch is running; needs no key.

    STATUS is waiting, submitting, running, downloading, completed, failed,
    unknown, timed_out, download_failed, cancelled or possibly-paid-twice.
    """
    ledger = existing_ledger(folder)
    out = Output(output)
    with read_ledger(ledger) as reader:
        totals = reader.totals()
        if output.json:
            for record in _select(reader, totals, status, is_sorted=False):
                out.json_line(as_json(record, folder))
                if out.stdout_error:
                    return ExitStatus.STOPPED
            out.json_line({"summary": summary(totals, ledger)})
        else:
            records = _select(reader, totals, status, is_sorted=True)
            listed = list(records if show_all else islice(records, _LISTED_JOBS))
            count, is_sandbox = _count(totals, status), ledger.name == SANDBOX_LEDGER
            table = LedgerSummary(ledger, totals, listed, count=count, shows_all=show_all, is_sandbox=is_sandbox)
            out.render(table)
            if not output.quiet and (steps := table.next_steps()):
                out.result("", *steps)
    return ExitStatus.DONE


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
        "folder": str(ledger.parent),
        "ledger": str(ledger),
        "sandbox": ledger.name == SANDBOX_LEDGER,
    }
