"""A run of jobs: submits or attaches them, follows them to their end, counts them, and shows how it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from omni_async import CostLimitReached, DownloadError, LedgerError, Statistics

from .display import shown
from .exit_status import ExitStatus
from .gallery_page import GalleryOutput
from .ledger import RecordedJobs
from .progress import RunObserver, RunProgress
from .results import RunTotals, outcome_of
from .session import client_for, describe, start
from .summary import RunSummary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

    from omni_async import Job, OmniClient

    from .options import CostOptions, LimitOptions, ServerOptions, ViewOptions
    from .output import Output
    from .progress import RunSnapshot
    from .results import JobResult
    from .summary import FollowUpCommands


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run shall do. `jobs` gives them once a client is open; `lines` tells where a key stands in a file.

    The result of a run is the path of each clip, or, with `is_sum`, the sum. `before` is how its jobs stood in the
    ledger, `ahead` how many unfinished ones are looked after at once.
    """

    total: int
    ledger: Path
    jobs: Callable[[OmniClient], Awaitable[Iterable[Job]]]
    commands: FollowUpCommands
    is_sum: bool = True
    lines: Mapping[str, int] = field(default_factory=dict)
    before: RecordedJobs = field(default_factory=RecordedJobs)
    ahead: int = 1000


class Run:
    """One run, from its options to its exit status."""

    def __init__(
        self,
        plan: RunPlan,
        server: ServerOptions,
        pace: LimitOptions,
        output: Output,
        money: CostOptions | None = None,
        *,
        show: ViewOptions | None = None,
    ) -> None:
        self._plan = plan
        self._server = server
        self._settings = pace.settings(money)
        self._output = output
        self._tally = RunTotals(plan.total, made=plan.before.completed)
        self._watch = RunObserver(output.event if output.style.verbose else None, plan.before)
        self._exhibit = GalleryOutput(show, plan.ledger, plan.total, output)
        self._course = RunProgress()
        self._client: OmniClient | None = None

    def run(self) -> ExitStatus:
        """Do it, and tell what came of it."""
        status = start(self._work, self._output)
        if self._client is not None:
            self._ending(status, self._client).report(self._output)
            self._exhibit.write()
        elif status is ExitStatus.INTERRUPTED:
            self._output.problem("interrupted; nothing has been submitted")
        return status

    async def _work(self) -> ExitStatus:
        settings = {**self._settings, "ledger": self._plan.ledger, "on_event": self._exhibit.heard_by(self._watch.hear)}
        with anyio.CancelScope() as scope:
            async with client_for(self._server, **settings) as client, self._exhibit.opened(client):
                jobs = await self._plan.jobs(client)
                self._client = client
                async with shown(self._output, self._look):
                    await self._follow(client, jobs, scope)
        return self._judge()

    async def _follow(self, client: OmniClient, jobs: Iterable[Job], scope: anyio.CancelScope) -> None:
        async for job in client.as_completed(jobs, max_pending=self._plan.ahead):
            outcome = await outcome_of(job, self._plan.lines.get(job.key, 0))
            self._tally.add(outcome)
            if not outcome.is_left:
                self._watch.accepted.discard(outcome.key)
            self._tell(outcome)
            if self._output.broken:
                scope.cancel()
                return

    def _judge(self) -> ExitStatus:
        assert self._client is not None
        is_of_disk = isinstance(self._client.stop_error, (LedgerError, DownloadError))
        if is_of_disk and not self._client.statistics().submits and not self._tally.done:
            return ExitStatus.USAGE
        return self._tally.status() if not self._output.broken else ExitStatus.STOPPED

    def _tell(self, outcome: JobResult) -> None:
        if self._output.style.json:
            self._output.record(outcome.as_json())
        elif not self._plan.is_sum:
            for path in outcome.paths:
                self._output.result(path)

    def _look(self) -> RunSnapshot:
        if self._client is None:
            return self._course.view(self._tally, Statistics())
        return self._course.view(self._tally, self._client.statistics(), self._client.forecast, self._watch.last)

    def _ending(self, status: ExitStatus, client: OmniClient) -> RunSummary:
        reason = describe(client.stop_error) if client.stop_error else self._tally.reason
        return RunSummary(
            status=status,
            is_stopped=bool(client.stop_error or self._output.broken),
            is_limit=isinstance(client.stop_error, CostLimitReached),
            is_sandbox=self._server.sandbox,
            reason=self._output.broken or reason,
            tally=self._tally,
            sums=client.statistics(),
            elapsed=self._course.elapsed,
            folder=self._plan.ledger.parent,
            accepted=len(self._watch.accepted),
            in_doubt=len(self._watch.in_doubt),
            commands=self._plan.commands,
            is_sum=self._plan.is_sum,
        )
