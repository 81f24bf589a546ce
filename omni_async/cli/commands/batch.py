"""`omni-async batch`: a file of requests in, a folder of clips out."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_async import JobStatus, LedgerError, LedgerReader

from ... import batch as requests
from ...formatting import format_status
from ..exit_status import ExitStatus, UsageError
from ..ledger import RecordedJobs, ledger_for_run
from ..options import (  # noqa: TC001 - typer evaluates the annotations
    CostOptions,
    LimitOptions,
    OutputFolder,
    OutputOptions,
    RetryFailed,
    RetryUnknown,
    ServerOptions,
    TrustOptions,
    ViewOptions,
)
from ..output import Output
from ..run import MAX_PENDING, Run, RunPlan
from ..summary import FollowUpCommands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from omni_async import Job, JobRecord, OmniClient


# Edited lines that an error lists: enough to see what happened, and they fit the screen.
_LISTED_LINES = 10

# In a chain only one job runs at a time while the others wait, so that more jobs are needed to keep an account busy:
# with 10,000, chains of up to ten lines still leave a thousand runnable ones. Half or double only shifts that length.
_MAX_PENDING_WITH_CHAINS = 10_000


def batch(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Requests: .jsonl, .csv or .txt.", show_default=False)],
    folder: OutputFolder = Path("clips"),
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
    """Generate a clip for every line of a file.

    .jsonl: one JSON object per line, with the fields of the API and
    optionally id and extend_from (the id of another line).
    .csv: the same names in the header. .txt: one prompt per line.
    Blank lines, and comments (# in .jsonl and .txt), are skipped.

    The whole file is checked before anything is submitted. Its lines may
    name files of its own folder, but others and webhooks only if you
    allow them.

    The folder DIR records every job in ledger.db: run the same command
    again to continue. Clips that are complete are kept, and no job is
    paid for twice.
    """
    ledger = ledger_for_run(folder, sandbox=server.sandbox, trust=trust)
    shown = Output(output)
    lines = _read_lines(file, ledger, trust, shown, sandbox=server.sandbox)
    recorded = _recorded_jobs(file, lines, ledger)
    resubmit = recorded.keys_to_resubmit(retry_failed=retry_failed, retry_unknown=retry_unknown, sandbox=server.sandbox)

    def jobs(client: OmniClient) -> Iterable[Job]:
        return requests.submit_lines(client, lines, resubmit=resubmit)

    plan = RunPlan(
        total=len(lines),
        ledger=ledger,
        jobs=jobs,
        commands=FollowUpCommands.same_command(can_retry=True),
        line_numbers={line.key: line.number for line in lines},
        recorded=recorded,
        max_pending=_MAX_PENDING_WITH_CHAINS if any(line.extend_from for line in lines) else MAX_PENDING,
    )
    return Run(plan, server, limits, shown, cost, view=view).run()


def _describe_problem(file: Path, problem: requests.Problem) -> str:
    return f"{file}:{problem.number}: {problem.reason}" if problem.number else f"{file}: {problem.reason}"


def _read_lines(file: Path, ledger: Path, trust: TrustOptions, shown: Output, *, sandbox: bool) -> list[requests.Line]:
    """Read and check the file. Raise `UsageError` with all its problems."""
    with ExitStack() as stack:
        find: Callable[[str], JobRecord | None] = lambda _: None  # noqa: E731
        with suppress(LedgerError):  # the client will report a ledger that cannot be read
            find = stack.enter_context(LedgerReader(ledger)).find

        def is_done(key: str) -> bool:
            """Whether the files of a line are not needed again: its clip is complete, or its request was sent."""
            record = find(key)
            status = record.status if record else JobStatus.WAITING
            return status is JobStatus.COMPLETED or (status is not JobStatus.WAITING and not sandbox)

        try:
            return requests.read(
                file,
                is_done=is_done,
                allow_outside=trust.allow_outside,
                allow_webhooks=trust.allow_webhooks,
                on_skipped=shown.note,
            )
        except requests.InvalidBatchFile as error:
            raise UsageError(*(_describe_problem(file, problem) for problem in error.problems)) from None


def _recorded_jobs(file: Path, lines: list[requests.Line], ledger: Path) -> RecordedJobs:
    """Return what the ledger knows of the lines. Raise `UsageError` if a line reuses an id for another request."""
    recorded, edited = RecordedJobs(), []
    with suppress(LedgerError), LedgerReader(ledger) as reader:  # the client will report an unreadable ledger
        for line, record, is_same in requests.find_recorded(lines, reader.find):
            recorded.add(record)
            if not is_same:
                status = format_status(record.status)
                edited.append(f"{file}:{line.number}: id {line.key!r} already names another request ({status})")
    if edited:
        more = [f"... and {len(edited) - _LISTED_LINES:,} more"] if len(edited) > _LISTED_LINES else []
        advice = f"Nothing was submitted. {ledger} records one request per id: give an edited line a new id"
        raise UsageError(*edited[:_LISTED_LINES], *more, advice)
    return recorded
