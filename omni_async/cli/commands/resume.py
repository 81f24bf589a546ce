"""`omni-async resume`: goes on with what a folder's ledger says is unfinished."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_async import JobStatus

from .. import formatting as words
from ..exit_status import ExitStatus, UsageError
from ..ledger import SANDBOX_LEDGER, UNFINISHED, RecordedJobs, ledger_in, ledger_of, reading
from ..options import CostOptions, LimitOptions, OutputOptions, ServerOptions, Unknown, ViewOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output
from ..run import Run, RunPlan
from ..summary import FollowUpCommands, command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omni_async import Job, JobRecord, LedgerTotals, OmniClient


def resume(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the clips.")] = Path("clips"),
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Buy those again that failed.")] = False,
    unknown: Unknown = False,
    money: CostOptions,
    server: ServerOptions,
    pace: LimitOptions,
    show: ViewOptions,
    style: OutputOptions,
) -> ExitStatus:
    """Go on with all that is unfinished in a folder.

    What is accepted is followed and fetched without paying again; what was
    not sent yet is sent.
    """
    ledger = _ledger(folder, is_sandbox=server.sandbox)
    statuses = [
        *UNFINISHED,
        *((JobStatus.FAILED, JobStatus.CANCELLED) if failed else ()),
        *((JobStatus.UNKNOWN,) if unknown else ()),
    ]
    before, extra = RecordedJobs(), []  # of the extra ones, client.resume() knows nothing
    with reading(ledger) as reader:
        for record in reader.jobs(*statuses):
            before.add(record)
            if server.sandbox or record.status not in UNFINISHED:
                extra.append(_task_to_follow(record, is_sandbox=server.sandbox))
        totals = reader.totals()

    async def jobs(client: OmniClient) -> Iterable[Job]:
        unfinished = [] if server.sandbox else client.resume()
        return chain(unfinished, (_take_up(client, key, task_id) for key, task_id in extra))

    if not before.total:
        return _nothing_to_do(folder, totals, Output(style))
    commands = FollowUpCommands.same(failed="--failed", unknown="--unknown")
    plan = RunPlan(total=before.total, ledger=ledger, jobs=jobs, commands=commands, before=before)
    return Run(plan, server, pace, Output(style), money, show=show).run()


def _ledger(folder: Path, *, is_sandbox: bool) -> Path:
    if ledger_in(folder).name == SANDBOX_LEDGER and not is_sandbox:
        raise UsageError(
            f"{folder} holds clips of a private sandbox; go on with one:", f"  {command(*_sandboxed(folder))}"
        )
    return ledger_of(folder, sandbox=is_sandbox)


def _sandboxed(folder: Path) -> tuple[str, ...]:
    return "resume", str(folder), "--sandbox"


def _task_to_follow(record: JobRecord, *, is_sandbox: bool) -> tuple[str, str | None]:
    """Give the key of a job, and its task if it was given up here while the server went on with it."""
    is_followed = record.status is JobStatus.CANCELLED and not is_sandbox
    return record.key, record.task_id if is_followed else None


def _take_up(client: OmniClient, key: str, task_id: str | None) -> Job:
    return client.resubmit(key) if task_id is None else client.attach(task_id, key=key)


def _nothing_to_do(folder: Path, totals: LedgerTotals, output: Output) -> ExitStatus:
    count = totals.by_status.get
    made = f"nothing is unfinished in {folder}: {words.count(count(JobStatus.COMPLETED, 0), 'clip')} there"
    others = [
        (count(JobStatus.FAILED, 0) + count(JobStatus.CANCELLED, 0), "failed", "--failed"),
        (count(JobStatus.UNKNOWN, 0), "unknown", "--unknown"),
    ]
    told = [f"{number:,} {name} ({option} sends them again)" for number, name, option in others if number]
    if output.style.json:
        output.record({"summary": {"total": 0, "clips": 0, "failed": 0, "unknown": 0, "left": 0, "exit": 0}})
    else:
        output.note(", ".join([made, *told]))
    return ExitStatus.DONE
