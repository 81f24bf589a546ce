"""`omni-async batch`: a file of requests, a folder of clips."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_async import JobStatus, LedgerError, LedgerReader

from ... import batch as requests
from ..exit_status import ExitStatus, UsageError
from ..ledger import RecordedJobs, ledger_of
from ..options import CostOptions, Folder, LimitOptions, OutputOptions, ServerOptions, Unknown, ViewOptions  # noqa: TC001 - typer evaluates the annotations
from ..output import Output
from ..run import Run, RunPlan
from ..summary import FollowUpCommands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from omni_async import Job, JobRecord, OmniClient


_NAMED = 10  # edited lines

# Of a chain only one job is on its way at a time, while the others wait: so many more are looked after at once.
_AHEAD, _AHEAD_WITH_CHAINS = 1000, 10_000


def batch(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Requests: .jsonl, .csv or .txt.", show_default=False)],
    output: Folder = Path("clips"),
    *,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Buy those again that failed in an earlier run.")
    ] = False,
    unknown: Unknown = False,
    money: CostOptions,
    server: ServerOptions,
    pace: LimitOptions,
    show: ViewOptions,
    style: OutputOptions,
) -> ExitStatus:
    """Make a clip for every line of a file.

    .jsonl: an object a line: the API's fields, and if wanted id and
    extend_from (the id of another line). .csv: the same names as header.
    .txt: a prompt a line.

    All of it is checked before anything is sent. The folder remembers every
    job (ledger.db): the same command again goes on where it was, and pays
    for nothing twice.
    """
    ledger = ledger_of(output, sandbox=server.sandbox)
    lines = _lines(file, ledger, sandbox=server.sandbox)
    before = _standing(file, lines, ledger)
    again = before.to_buy_again(failed=retry_failed, unknown=unknown, sandbox=server.sandbox)

    async def jobs(client: OmniClient) -> Iterable[Job]:
        return requests.submit_lines(client, lines, resubmit=again)

    plan = RunPlan(
        total=len(lines),
        ledger=ledger,
        jobs=jobs,
        commands=FollowUpCommands.same(failed="--retry-failed", unknown="--unknown"),
        lines={line.key: line.number for line in lines},
        before=before,
        ahead=_AHEAD_WITH_CHAINS if any(line.extend_from for line in lines) else _AHEAD,
    )
    return Run(plan, server, pace, Output(style), money, show=show).run()


def _named(file: Path, problem: requests.Problem) -> str:
    return f"{file}:{problem.number}: {problem.reason}" if problem.number else f"{file}: {problem.reason}"


def _lines(file: Path, ledger: Path, *, sandbox: bool) -> list[requests.Line]:
    """Read and check the file. Raises `Misuse` with everything that is wrong with it."""
    with ExitStack() as stack:
        find: Callable[[str], JobRecord | None] = lambda _: None  # noqa: E731
        with suppress(LedgerError):  # where it cannot be read, the client says so
            find = stack.enter_context(LedgerReader(ledger)).find

        def is_done(key: str) -> bool:  # or on its way at least: what it refers to has been sent
            record = find(key)
            status = record.status if record else JobStatus.WAITING
            return status is JobStatus.COMPLETED or (status is not JobStatus.WAITING and not sandbox)

        try:
            return requests.read(file, is_done=is_done)
        except requests.InvalidBatchFile as bad:
            raise UsageError(*(_named(file, problem) for problem in bad.problems)) from None


def _standing(file: Path, lines: list[requests.Line], ledger: Path) -> RecordedJobs:
    """Give how the lines stand in the ledger. Raises `Misuse` for those that ask for something else than before."""
    standing, edited = RecordedJobs(), []
    with suppress(LedgerError), LedgerReader(ledger) as reader:  # where it cannot be read, the client says so
        for line, record, is_same in requests.find_recorded(lines, reader.find):
            standing.add(record)
            if not is_same:
                edited.append(_edited(file, line, record))
    if edited:
        more = [f"... and {len(edited) - _NAMED:,} more"] if len(edited) > _NAMED else []
        advice = f"Nothing was sent. {ledger} remembers what each id stood for: give an edited line another id"
        raise UsageError(*edited[:_NAMED], *more, advice)
    return standing


def _edited(file: Path, line: requests.Line, record: JobRecord) -> str:
    return f"{file}:{line.number}: id {line.key!r} stood for another request before ({record.status})"
