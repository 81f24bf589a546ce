"""`omni-async resume`: continues what a folder's ledger records as unfinished."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omni_async import JobStatus

from ..announcement import Announcement
from ..exit_status import ExitStatus, UsageError
from ..formatting import format_count
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
    recorded, announcement = RecordedJobs(), Announcement(server.sandbox)
    extra = []  # extra: jobs that client.resume() does not continue
    with read_ledger(ledger) as reader:
        for record in reader.jobs(*statuses):
            recorded.add(record)
            announcement.add(record)
            if server.sandbox or record.status not in UNFINISHED:
                extra.append(_task_to_attach(record, is_sandbox=server.sandbox))
        totals = reader.totals()

    async def jobs(client: OmniClient) -> AsyncIterator[Job]:
        if not server.sandbox:
            async for job in client.resume():
                yield job
        for key, task_id in extra:
            yield _continue(client, key, task_id)

    out = Output(output)
    if not recorded.total:
        return _nothing_to_do(folder, totals, out)
    for line in announcement.lines(totals):
        out.note(line)
    commands = FollowUpCommands.same_command(can_retry=True)
    plan = RunPlan(total=recorded.total, ledger=ledger, jobs=jobs, commands=commands, recorded=recorded)
    return Run(plan, server, limits, out, cost, view=view).run()


def _ledger(folder: Path, trust: TrustOptions, *, is_sandbox: bool) -> Path:
    if existing_ledger(folder).name == SANDBOX_LEDGER and not is_sandbox:
        command = shell_command("resume", str(folder), "--sandbox")
        raise UsageError(f"{folder} contains sandbox clips. To continue with a new sandbox:", f"  {command}")
    return ledger_for_run(folder, sandbox=is_sandbox, trust=trust)


def _task_to_attach(record: JobRecord, *, is_sandbox: bool) -> tuple[str, str | None]:
    """Return the key of a job, and its task id if it was cancelled here but continues on the server."""
    is_attachable = record.status is JobStatus.CANCELLED and not is_sandbox
    return record.key, record.task_id if is_attachable else None


def _continue(client: OmniClient, key: str, task_id: str | None) -> Job:
    return client.resubmit(key) if task_id is None else client.attach(task_id, key=key)


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
