"""`omni-async status`: what a folder's ledger knows, as a table for people or as lines of JSON for programs."""

from __future__ import annotations

from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni_async import JobStatus

from ..exit_status import ExitStatus
from ..job_table import LedgerSummary
from ..ledger import SANDBOX_LEDGER, UNFINISHED, ledger_in, reading
from ..options import OutputOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from omni_async import JobRecord, LedgerReader, LedgerTotals


_ROWS = 20

# What needs attention first, then what is on its way, then what is well.
_ORDER = (
    *(JobStatus.UNKNOWN, JobStatus.FAILED, JobStatus.DOWNLOAD_FAILED, JobStatus.TIMED_OUT),
    *(JobStatus.SUBMITTING, JobStatus.RUNNING, JobStatus.DOWNLOADING),
    *(JobStatus.CANCELLED, JobStatus.WAITING, JobStatus.COMPLETED),
)


class StatusFilter(StrEnum):
    """What `--state` takes: every status, and what cuts across them."""

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
    DOUBTFUL = "doubtful"


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the clips.")] = Path("clips"),
    *,
    state: Annotated[
        StatusFilter | None,
        typer.Option(metavar="STATE", help="Only jobs in this state, as in the table; doubtful: possibly paid twice."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help=f"All jobs, not only the first {_ROWS}.")] = False,
    style: OutputOptions,
) -> ExitStatus:
    """Show what a folder's ledger knows: every job, and what it cost.

    Works at any time, also while a batch is running; needs no key. --json
    gives an object for each job, and {"summary": {...}} last: key, status,
    task_id, submits, cost, path, error and more (see the README).
    """
    ledger = ledger_in(folder)
    output = Output(style)
    with reading(ledger) as reader:
        totals = reader.totals()
        if style.json:
            for record in _chosen(reader, totals, state, is_sorted=False):
                output.record(as_json(record, folder))
                if output.broken:
                    return ExitStatus.STOPPED
            output.record({"summary": summary(totals, ledger)})
        else:
            records = _chosen(reader, totals, state, is_sorted=True)
            shown = list(records if every else islice(records, _ROWS))
            count, is_sandbox = _count(totals, state), ledger.name == SANDBOX_LEDGER
            sheet = LedgerSummary(ledger, totals, shown, of=count, is_whole=every, is_sandbox=is_sandbox)
            output.show(sheet)
            if not style.quiet and (advice := sheet.advice()):
                output.result("\n".join(["", *advice]))
    return ExitStatus.DONE


def _chosen(
    reader: LedgerReader, totals: LedgerTotals, state: StatusFilter | None, *, is_sorted: bool
) -> Iterable[JobRecord]:
    """Give the jobs to tell of, lazily: in the order in which they came, or those first that need attention."""
    if state is StatusFilter.DOUBTFUL:
        return (record for record in reader.jobs() if record.possibly_paid_twice)
    if state is not None:
        return reader.jobs(state)
    if not is_sorted:
        return reader.jobs()
    return chain.from_iterable(_each(reader, totals))


def _each(reader: LedgerReader, totals: LedgerTotals) -> Iterator[Iterator[JobRecord]]:
    for status in _ORDER:
        if status in totals.by_status:
            yield reader.jobs(status)


def _count(totals: LedgerTotals, state: StatusFilter | None) -> int:
    if state is None:
        return totals.jobs
    return totals.possibly_paid_twice if state is StatusFilter.DOUBTFUL else totals.by_status.get(JobStatus(state), 0)


def as_json(record: JobRecord, folder: Path) -> dict[str, Any]:
    """Give what --json tells of a job. Fields may be added; those that are here stay as they are."""
    paths = [str(folder / Path(path).name) for path in record.paths]
    return {
        "key": record.key,
        "status": str(record.status),
        "task_id": record.task_id,
        "path": paths[0] if paths else None,
        "paths": paths,
        "cost": record.cost,
        "credits": record.credits,
        "error": record.error or None,
        "submits": record.submits,
        "doubtful": record.ambiguous_submits,
        "possibly_paid_twice": record.possibly_paid_twice,
        "parent": record.parent,
        "earlier_task_ids": list(record.previous_task_ids),
        "earlier_cost": record.previous_cost,
        "created_at": record.created_at,
        "submitted_at": record.submitted_at,
        "accepted_at": record.accepted_at,
        "finished_at": record.finished_at,
    }


def summary(totals: LedgerTotals, ledger: Path) -> dict[str, Any]:
    """Give what --json tells of the whole ledger, whichever jobs were asked for."""
    count = {str(status): totals.by_status.get(status, 0) for status in JobStatus}
    return {
        "total": totals.jobs,
        "clips": count["completed"],
        "failed": count["failed"],
        "unknown": count["unknown"],
        "cancelled": count["cancelled"],
        "left": sum(count[status] for status in UNFINISHED),
        "by_status": count,
        "cost": totals.cost,
        "credits": totals.credits,
        "submits": totals.submits,
        "doubtful": totals.ambiguous_submits,
        "possibly_paid_twice": totals.possibly_paid_twice,
        "folder": str(ledger.parent),
        "ledger": str(ledger),
        "sandbox": ledger.name == SANDBOX_LEDGER,
    }
