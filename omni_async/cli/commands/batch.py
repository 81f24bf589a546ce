"""`omni-async batch`: a file of requests in, a folder of clips out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ... import batch as requests
from ...formatting import format_count
from ..dry_run import DryRun
from ..exit_status import ExitStatus
from ..file_options import DefaultOptions, FileOptions  # noqa: TC001 - typer evaluates the annotations
from ..ledger import ledger_for_run
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
from ..prompt_file import PromptFile
from ..run import MAX_PENDING, Run, RunPlan
from ..summary import FollowUpCommands

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omni_async import Job, OmniClient

    from ..ledger import RecordedJobs


# In a chain only one job runs at a time while the others wait, so that more jobs are needed to keep an account busy:
# with 10,000, chains of up to ten lines still leave a thousand runnable ones. Half or double only shifts that length.
_MAX_PENDING_WITH_CHAINS = 10_000


def batch(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Requests: JSON, a table or text; - is stdin.", show_default=False)
    ],
    folder: OutputFolder = Path("clips"),
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Show what would be submitted, and what it would cost.")
    ] = False,
    retry_failed: RetryFailed = False,
    retry_unknown: RetryUnknown = False,
    trust: TrustOptions,
    options: FileOptions,
    defaults: DefaultOptions,
    cost: CostOptions,
    server: ServerOptions,
    limits: LimitOptions,
    view: ViewOptions,
    output: OutputOptions,
) -> ExitStatus:
    """Generate a clip for every line of a file.

    JSON objects (.jsonl, .json) have the fields of the API and optionally
    id and extend_from (the id of another line); tables (.csv, .tsv) have
    the same names in the header; .txt has one prompt per line. Each may
    be in UTF-16 or end in .gz. Lines that begin with # are comments.

    The whole file is checked before anything is submitted. Its lines may
    name files of its own folder, but others and webhooks only if you
    allow them. DIR/ledger.db records every job: run the same command
    again to continue. No job is paid for twice.
    """
    ledger = ledger_for_run(folder, sandbox=server.sandbox, trust=trust)
    prompts = PromptFile(file, ledger, server.sandbox)
    prompts.read(options, defaults, trust)
    recorded = prompts.recorded_jobs()
    resubmit = recorded.keys_to_resubmit(retry_failed=retry_failed, retry_unknown=retry_unknown, sandbox=server.sandbox)
    if dry_run:
        return DryRun(prompts, recorded, resubmit, server, Output(output)).run(limits, cost)
    return _run(prompts, _Settings(server, limits, cost, view), recorded, resubmit, Output(output))


@dataclass(frozen=True, slots=True)
class _Settings:
    """The options of a run that do not concern the prompt file."""

    server: ServerOptions
    limits: LimitOptions
    cost: CostOptions
    view: ViewOptions


def _run(
    prompts: PromptFile, settings: _Settings, recorded: RecordedJobs, resubmit: set[str], shown: Output
) -> ExitStatus:
    lines = prompts.lines
    if prompts.reading is not None and (note := prompts.reading.note):
        shown.note(note)

    def jobs(client: OmniClient) -> Iterable[Job]:
        return requests.submit_lines(client, lines, resubmit=resubmit)

    plan = RunPlan(
        total=len(lines),
        ledger=prompts.ledger,
        jobs=jobs,
        commands=_follow_up(prompts, settings),
        line_numbers={line.key: line.number for line in lines},
        recorded=recorded,
        max_pending=_MAX_PENDING_WITH_CHAINS if any(line.extend_from for line in lines) else MAX_PENDING,
    )
    status = Run(plan, settings.server, settings.limits, shown, settings.cost, view=settings.view).run()
    if prompts.is_stream and status is not ExitStatus.DONE and (missing := prompts.count_unrecorded()):
        number = format_count(missing, "request is", "requests are")
        shown.error(f"{number} not recorded yet: give the same input to the same command again for these")
    return status


def _follow_up(prompts: PromptFile, settings: _Settings) -> FollowUpCommands:
    """Return the commands that continue the run. A stream cannot be read again: its jobs are in the ledger."""
    if not prompts.is_stream:
        return FollowUpCommands.same_command(can_retry=True)
    limit = settings.cost.max_cost
    limit_arguments = () if limit is None else ("--max-cost", f"{limit:g}")
    resume = ("resume", str(prompts.ledger.parent), *settings.server.as_arguments(), *limit_arguments)
    return FollowUpCommands(
        resume=resume, retry_failed=(*resume, "--retry-failed"), retry_unknown=(*resume, "--retry-unknown")
    )
