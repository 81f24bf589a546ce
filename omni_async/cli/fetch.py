"""`omni-async fetch`: clips of tasks that were submitted before, or elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Folder, Pace, Server, Style  # noqa: TC001 - typer looks at them
from .output import Output
from .run import Plan, Run
from .status import Misuse, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omni_async import Job, OmniClient


def fetch(
    task_ids: Annotated[list[str], typer.Argument(metavar="TASK_ID...", show_default=False)],
    output: Folder = Path("clips"),
    *,
    server: Server,
    pace: Pace,
    style: Style,
) -> Status:
    """Follow tasks by their ids, download their clips and print the paths. Costs nothing."""
    wanted = list(dict.fromkeys(task_ids))
    if bad := [task_id for task_id in wanted if not task_id.strip() or not task_id.isprintable()]:
        raise Misuse(*(f"{task_id!r} is no task id" for task_id in bad))

    async def jobs(client: OmniClient) -> Iterable[Job]:
        return (client.attach(task_id) for task_id in wanted)

    return Run(Plan(total=len(wanted), folder=output, jobs=jobs), server, pace, Output(style)).run()
