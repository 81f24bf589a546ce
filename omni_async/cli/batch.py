"""`omni-async batch`: a file of requests, a folder of clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_async import JobStatus
from omni_async import batch as requests

from .options import Folder, Pace, Server, Style  # noqa: TC001 - typer looks at them
from .output import Output
from .run import Plan, Run
from .status import Misuse, Status
from .tally import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omni_async import Job, OmniClient


def batch(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Requests: .jsonl, .csv or .txt.", show_default=False)],
    output: Folder = Path("clips"),
    *,
    server: Server,
    pace: Pace,
    style: Style,
) -> Status:
    """Make a clip for every line of a file.

    .jsonl: an object a line: the API's fields, and if wanted id and
    extend_from (the id of another line). .csv: the same names as header.
    .txt: a prompt a line.

    All of it is checked before anything is sent. A clip that is in the folder
    already is not made again: the same command goes on where it was.
    """
    try:
        lines = requests.read(file)
    except requests.BadFile as bad:
        raise Misuse(*(_named(file, problem) for problem in bad.problems)) from None
    todo = _without_clips(lines, output)

    async def jobs(client: OmniClient) -> Iterable[Job]:
        return requests.jobs(client, todo)

    plan = Plan(
        total=len(lines),
        folder=output,
        jobs=jobs,
        lines={line.key: line.number for line in lines},
        there=_there(lines, todo, output),
    )
    return Run(plan, server, pace, Output(style)).run()


def _named(file: Path, problem: requests.Problem) -> str:
    return f"{file}:{problem.number}: {problem.reason}" if problem.number else f"{file}: {problem.reason}"


def _without_clips(lines: list[requests.Line], folder: Path) -> list[requests.Line]:
    """Leave out the lines whose clip is there, but for those that a line without one extends."""
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    by_key = {line.key: line for line in lines}
    needed: set[str] = set()
    for line in lines:
        key = line.key if _clip(line) not in present else None
        while key is not None and key not in needed:
            needed.add(key)
            key = by_key[key].extend_from
    return [line for line in lines if line.key in needed]


def _there(lines: list[requests.Line], todo: list[requests.Line], folder: Path) -> list[Outcome]:
    """Give the lines that need not be made, as if they had just been."""
    made_now = {line.key for line in todo}
    return [
        Outcome(key=line.key, line=line.number, status=JobStatus.COMPLETED, paths=(str(folder / _clip(line)),))
        for line in lines
        if line.key not in made_now
    ]


def _clip(line: requests.Line) -> str:
    return f"{line.key}.mp4"
