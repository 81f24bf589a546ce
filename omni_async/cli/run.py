"""A run of jobs: submits or attaches them, follows them to their end, counts them, and shows the progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from omni_async import CostLimitReached, DownloadError, LedgerError, Statistics

from .display import show_progress
from .exit_status import ExitStatus
from .gallery_page import GalleryOutput
from .ledger import RecordedJobs
from .progress import RunObserver, RunProgress
from .results import RunTotals, wait_for_result
from .session import describe, open_client, run_command
from .summary import RunSummary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from omni_async import Job, OmniClient

    from ..progress.snapshot import RunSnapshot
    from .options import CostOptions, LimitOptions, ServerOptions, ViewOptions
    from .output import Output
    from .results import JobResult
    from .summary import FollowUpCommands


# Unfinished jobs that are held in memory at a time, the default of `OmniClient.as_completed`. Fewer than the account
# runs concurrently would slow a run down; more cost memory without making it faster.
MAX_PENDING = 1000


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run does.

    `jobs` is called once with the open client and returns the jobs; `line_numbers` maps their keys to lines of a file.
    `recorded` is what the ledger knew of the jobs before, `max_pending` how many unfinished ones are held at a time.
    The result on stdout is the summary, or, if `prints_summary` is False, the path of each clip.
    """

    total: int
    ledger: Path
    jobs: Callable[[OmniClient], Iterable[Job] | AsyncIterator[Job]]
    commands: FollowUpCommands
    prints_summary: bool = True
    line_numbers: Mapping[str, int] = field(default_factory=dict)
    recorded: RecordedJobs = field(default_factory=RecordedJobs)
    max_pending: int = MAX_PENDING


class Run:
    """One run, from its options to its exit status."""

    def __init__(
        self,
        plan: RunPlan,
        server: ServerOptions,
        limits: LimitOptions,
        output: Output,
        cost: CostOptions | None = None,
        *,
        view: ViewOptions | None = None,
    ) -> None:
        self._plan = plan
        self._server = server
        self._settings = limits.settings(cost)
        self._output = output
        self._totals = RunTotals(plan.total, completed_before=plan.recorded.completed)
        self._observer = RunObserver(output.event if output.options.verbose else None, plan.recorded)
        self._gallery = GalleryOutput(view, plan.ledger, plan.total, output)
        self._progress = RunProgress()
        self._client: OmniClient | None = None

    def run(self) -> ExitStatus:
        """Run the plan, print the results and the summary, and return the exit status."""
        status = run_command(self._work, self._output)
        if self._client is not None:
            self._summary(status, self._client).report(self._output)
            self._gallery.write()
        elif status is ExitStatus.INTERRUPTED:
            self._output.error("interrupted; nothing has been submitted")
        return status

    async def _work(self) -> ExitStatus:
        on_event = self._gallery.combine_listeners(self._observer.on_event)
        settings = {**self._settings, "ledger": self._plan.ledger, "on_event": on_event}
        with anyio.CancelScope() as scope:
            async with open_client(self._server, **settings) as client, self._gallery.serve(client):
                jobs = self._plan.jobs(client)
                self._client = client
                async with show_progress(self._output, self._snapshot):
                    await self._follow(client, jobs, scope)
        return self._exit_status()

    async def _follow(
        self, client: OmniClient, jobs: Iterable[Job] | AsyncIterator[Job], scope: anyio.CancelScope
    ) -> None:
        async for job in client.as_completed(jobs, max_pending=self._plan.max_pending):
            line = self._plan.line_numbers.get(job.key, 0)
            result = await wait_for_result(job, self._plan.ledger.parent, line)
            self._totals.add(result)
            if not result.is_unfinished:
                self._observer.accepted.discard(result.key)
            self._print_result(result)
            # The reader of stdout has gone (`| head`): submitting more would cost money for clips no one learns of.
            if self._output.stdout_error:
                scope.cancel()
                return

    def _exit_status(self) -> ExitStatus:
        assert self._client is not None
        is_disk_error = isinstance(self._client.stop_error, (LedgerError, DownloadError))
        if is_disk_error and not self._client.statistics().submits and not self._totals.completed:
            return ExitStatus.USAGE
        return self._totals.exit_status() if not self._output.stdout_error else ExitStatus.STOPPED

    def _print_result(self, result: JobResult) -> None:
        if self._output.options.json:
            self._output.json_line(result.as_json())
        elif not self._plan.prints_summary:
            for path in result.paths:
                self._output.result(path)

    def _snapshot(self) -> RunSnapshot:
        client = self._client
        if client is None:
            return self._progress.snapshot(self._totals, Statistics())
        last_event = self._observer.last_event
        return self._progress.snapshot(self._totals, client.statistics(), client.forecast, last_event)

    def _summary(self, status: ExitStatus, client: OmniClient) -> RunSummary:
        reason = describe(client.stop_error) if client.stop_error else self._totals.reason
        return RunSummary(
            exit_status=status,
            is_stopped=bool(client.stop_error or self._output.stdout_error or self._totals.has_unsent),
            is_cost_limit=isinstance(client.stop_error, CostLimitReached),
            is_sandbox=self._server.sandbox,
            reason=self._output.stdout_error or reason,
            totals=self._totals,
            statistics=client.statistics(),
            elapsed=self._progress.elapsed,
            folder=self._plan.ledger.parent,
            accepted=len(self._observer.accepted),
            ambiguous=len(self._observer.ambiguous),
            commands=self._plan.commands,
            is_result=self._plan.prints_summary,
        )
