"""`omni-async resume`: continues what a folder's ledger records as unfinished."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omni_async import JobStatus

from ...formatting import format_count
from ..announcement import Announcement
from ..exit_status import ExitStatus, UsageError
from ..ledger import SANDBOX_LEDGER, UNFINISHED, RecordedJobs, existing_ledger, ledger_for_run, read_ledger
from ..options import (  # noqa: TC001 - typer evaluates the annotations
    ClipFolder,
    CostOptions,
    LimitOptions,
    OutputOptions,
    RetryFailed,
    RetryUnknown,
    ServerOptions,
    TrustOptions,
    ViewOptions,
)
from ..output import Output
from ..run import Run, RunPlan
from ..summary import FollowUpCommands, shell_command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omni_async import Job, JobRecord, LedgerTotals, OmniClient


def resume(
    folder: ClipFolder = Path("clips"),
    *,
    retry_failed: RetryFailed = False,
    retry_unknown: RetryUnknown = False,
    trust: TrustOptions,
    cost: CostOptions,
    server: ServerOptions,
    limits: LimitOptions,
    view: ViewOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Continue the unfinished jobs of a folder.

    Accepted jobs are followed and downloaded without paying again; jobs
    that were not sent are submitted. Before that, it says how many, what
    they may cost, and which local files and webhooks they name.

    A ledger that was last used in another folder may come from somebody
    else. It is refused if its jobs name files outside DIR, or webhooks,
    unless you allow them.
    """
    ledger = _ledger(folder, trust, is_sandbox=server.sandbox)
    statuses = [
        *UNFINISHED,
        *((JobStatus.FAILED, JobStatus.CANCELLED) if retry_failed else ()),
        *((JobStatus.UNKNOWN,) if retry_unknown else ()),
    ]
    found = _read_jobs(ledger, statuses, is_sandbox=server.sandbox)

    async def jobs(client: OmniClient) -> AsyncIterator[Job]:
        if not server.sandbox:
            async for job in client.resume():
                yield job
        for key, task_id in found.extra:
            if (other := _continue(client, key, task_id, out)) is not None:
                yield other

    out = Output(output)
    if not found.recorded.total:
        return _nothing_to_do(folder, found.totals, out)
    if not server.sandbox:  # where nothing is paid, and nothing leaves this machine
        for line in found.announcement.lines(found.totals):
            out.note(line)
    commands = FollowUpCommands.same_command(can_retry=True)
    plan = RunPlan(total=found.recorded.total, ledger=ledger, jobs=jobs, commands=commands, recorded=found.recorded)
    return Run(plan, server, limits, out, cost, view=view).run()


@dataclass(frozen=True, slots=True)
class _Jobs:
    """The jobs to continue. `extra` are those that `OmniClient.resume` does not: key, and task id to attach."""

    recorded: RecordedJobs
    announcement: Announcement
    extra: list[tuple[str, str | None]]
    totals: LedgerTotals


def _read_jobs(ledger: Path, statuses: list[JobStatus], *, is_sandbox: bool) -> _Jobs:
    with read_ledger(ledger) as reader:
        found = _Jobs(RecordedJobs(), Announcement(), [], reader.totals())
        for record in reader.jobs(*statuses):
            found.recorded.add(record)
            found.announcement.add(record)
            if is_sandbox or record.status not in UNFINISHED:
                found.extra.append(_task_to_attach(record, is_sandbox=is_sandbox))
    return found


def _ledger(folder: Path, trust: TrustOptions, *, is_sandbox: bool) -> Path:
    if existing_ledger(folder).name == SANDBOX_LEDGER and not is_sandbox:
        command = shell_command("resume", str(folder), "--sandbox")
        raise UsageError(f"{folder} contains sandbox clips. To continue with a new sandbox:", f"  {command}")
    return ledger_for_run(folder, sandbox=is_sandbox, trust=trust)


def _task_to_attach(record: JobRecord, *, is_sandbox: bool) -> tuple[str, str | None]:
    """Return the key of a job, and its task id if it was cancelled here but continues on the server."""
    is_attachable = record.status is JobStatus.CANCELLED and not is_sandbox
    return record.key, record.task_id if is_attachable else None


def _continue(client: OmniClient, key: str, task_id: str | None, output: Output) -> Job | None:
    """Continue a job. Return None, and say why, for a row that no run has written."""
    try:
        return client.resubmit(key) if task_id is None else client.attach(task_id, key=key)
    except ValueError as error:
        output.error(f"job {key!r} cannot be continued: {error}")
        return None


def _nothing_to_do(folder: Path, totals: LedgerTotals, output: Output) -> ExitStatus:
    count = totals.by_status.get
    completed = f"nothing to resume in {folder}: {format_count(count(JobStatus.COMPLETED, 0), 'clip')} complete"
    others = [
        (count(JobStatus.FAILED, 0) + count(JobStatus.CANCELLED, 0), "failed", "--retry-failed"),
        (count(JobStatus.UNKNOWN, 0), "unknown", "--retry-unknown"),
    ]
    hints = [f"{number:,} {name} ({option} resubmits them)" for number, name, option in others if number]
    if output.options.json:
        counts = {"total": 0, "clips": 0, "failed": 0, "unknown": 0, "unfinished": 0}
        output.json_line({"summary": {**counts, "exit_status": int(ExitStatus.DONE)}})
    else:
        output.note(", ".join([completed, *hints]))
    return ExitStatus.DONE
