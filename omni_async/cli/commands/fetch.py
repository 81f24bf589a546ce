"""`omni-async fetch`: downloads the clips of tasks that were submitted before, or by another program."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_async import LedgerError, LedgerReader

from ..exit_status import ExitStatus, UsageError
from ..ledger import RecordedJobs, ledger_for_run
from ..options import (  # noqa: TC001 - typer evaluates the annotations
    LimitOptions,
    OutputFolder,
    OutputOptions,
    ServerOptions,
)
from ..output import Output
from ..run import Run, RunPlan
from ..summary import FollowUpCommands

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omni_async import Job, OmniClient


def fetch(
    task_ids: Annotated[
        list[str], typer.Argument(metavar="TASK_ID", help="Task ids of the server.", show_default=False)
    ],
    folder: OutputFolder = Path("clips"),
    *,
    server: ServerOptions,
    limits: LimitOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Download the clips of existing tasks.

    Waits for tasks that are still running and prints the paths. Costs
    nothing. If the folder's ledger knows a task, the clip gets the name of
    that job.
    """
    unique_ids = list(dict.fromkeys(task_ids))
    if invalid := [task_id for task_id in unique_ids if not task_id.strip() or not task_id.isprintable()]:
        raise UsageError(*(f"{task_id!r} is not a task id" for task_id in invalid))

    ledger = ledger_for_run(folder, sandbox=server.sandbox)
    recorded = RecordedJobs()
    keys = _recorded_keys(unique_ids, ledger, recorded)

    def jobs(client: OmniClient) -> Iterable[Job]:
        return (client.attach(task_id, key=keys.get(task_id)) for task_id in unique_ids)

    plan = RunPlan(
        total=len(unique_ids),
        ledger=ledger,
        jobs=jobs,
        commands=FollowUpCommands.same_command(),
        prints_summary=False,
        recorded=recorded,
    )
    return Run(plan, server, limits, Output(output)).run()


def _recorded_keys(task_ids: list[str], ledger: Path, recorded: RecordedJobs) -> dict[str, str]:
    """Return the keys of the jobs that the ledger knows by these task ids, and add their records to `recorded`."""
    keys = {}
    with suppress(LedgerError), LedgerReader(ledger) as reader:  # the client will report an unreadable ledger
        for task_id in task_ids:
            if (record := reader.find_task(task_id)) is not None:
                keys[task_id] = record.key
                recorded.add(record)
    return keys
