"""`omni-async fetch`: clips of tasks that were submitted before, or elsewhere."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_async import LedgerError, LedgerReader

from ..exit_status import ExitStatus, UsageError
from ..ledger import RecordedJobs, ledger_of
from ..options import Folder, LimitOptions, OutputOptions, ServerOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output
from ..run import Run, RunPlan
from ..summary import FollowUpCommands

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omni_async import Job, OmniClient


def fetch(
    task_ids: Annotated[
        list[str], typer.Argument(metavar="TASK_ID", help="Ids that the server gave.", show_default=False)
    ],
    output: Folder = Path("clips"),
    *,
    server: ServerOptions,
    pace: LimitOptions,
    style: OutputOptions,
) -> ExitStatus:
    """Follow tasks by their ids, download their clips and print the paths. Costs nothing.

    A task of a job that the folder knows brings that job's clip.
    """
    wanted = list(dict.fromkeys(task_ids))
    if bad := [task_id for task_id in wanted if not task_id.strip() or not task_id.isprintable()]:
        raise UsageError(*(f"{task_id!r} is no task id" for task_id in bad))

    ledger = ledger_of(output, sandbox=server.sandbox)
    before = RecordedJobs()
    keys = _known_keys(wanted, ledger, before)

    async def jobs(client: OmniClient) -> Iterable[Job]:
        return (client.attach(task_id, key=keys.get(task_id)) for task_id in wanted)

    plan = RunPlan(
        total=len(wanted), ledger=ledger, jobs=jobs, commands=FollowUpCommands.same(), is_sum=False, before=before
    )
    return Run(plan, server, pace, Output(style)).run()


def _known_keys(task_ids: list[str], ledger: Path, before: RecordedJobs) -> dict[str, str]:
    """Give the keys of the jobs that the ledger knows by these tasks, and note how they stand."""
    keys = {}
    with suppress(LedgerError), LedgerReader(ledger) as reader:  # where it cannot be read, the client says so
        for task_id in task_ids:
            if (record := reader.find_task(task_id)) is not None:
                keys[task_id] = record.key
                before.add(record)
    return keys
