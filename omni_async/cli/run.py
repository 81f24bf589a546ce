"""A run of jobs: submits or attaches them, follows them to their end, counts them, and shows how it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from omni_async import Statistics

from .display import shown
from .ending import Ending
from .progress import Course, Watch
from .session import client_for, in_words, start
from .status import Misuse, Status
from .tally import Tally, outcome_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from omni_async import Job, OmniClient

    from .options import Pace, Server
    from .output import Output
    from .progress import View
    from .tally import Outcome


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run shall do. `jobs` gives them once a client is open; `lines` tells where a key stands in a file."""

    total: int
    folder: Path
    jobs: Callable[[OmniClient], Awaitable[Iterable[Job]]]
    lines: Mapping[str, int] = field(default_factory=dict)
    there: Sequence[Outcome] = ()  # those of `total` that need not be made

    @property
    def tells_paths(self) -> bool:
        """True where the path of each clip is the result; of a whole file it is the sum."""
        return not self.lines


class Run:
    """One run, from its options to its exit status."""

    def __init__(self, plan: Plan, server: Server, pace: Pace, output: Output) -> None:
        self._plan = plan
        self._server = server
        self._pace = pace
        self._output = output
        self._tally = Tally(plan.total, there=len(plan.there))
        self._watch = Watch(output.event if output.style.verbose else None)
        self._course = Course()
        self._client: OmniClient | None = None

    def run(self) -> Status:
        """Do it, and tell what came of it."""
        settings = {**self._pace.settings(), "output_dir": self._plan.folder, "on_event": self._watch.hear}
        for outcome in self._plan.there:
            self._tell(outcome)
        status = start(lambda: self._work(settings), self._output) if self._tally.left else Status.DONE
        if self._client is not None or status is Status.DONE:
            self._ending(status).tell(self._output)
        elif status is Status.INTERRUPTED:
            self._output.problem("interrupted; nothing has been submitted")
        return status

    async def _work(self, settings: dict[str, object]) -> Status:
        with anyio.CancelScope() as scope:
            async with client_for(self._server, **settings) as client:
                await anyio.to_thread.run_sync(_make_ready, self._plan.folder)
                jobs = await self._plan.jobs(client)
                self._client = client
                async with shown(self._output, self._look):
                    await self._follow(client, jobs, scope)
        return self._tally.status() if not self._output.broken else Status.STOPPED

    async def _follow(self, client: OmniClient, jobs: Iterable[Job], scope: anyio.CancelScope) -> None:
        async for job in client.as_completed(jobs):
            outcome = await outcome_of(job, self._plan.lines.get(job.key, 0))
            self._tally.add(outcome)
            if not outcome.is_left:
                self._watch.open_tasks.pop(outcome.key, None)
            self._tell(outcome)
            if self._output.broken:
                scope.cancel()
                return

    def _tell(self, outcome: Outcome) -> None:
        if self._output.style.json:
            self._output.record(outcome.as_json())
        elif self._plan.tells_paths:
            for path in outcome.paths:
                self._output.result(path)

    def _look(self) -> View:
        assert self._client is not None
        return self._course.view(self._tally, self._client.statistics(), self._watch.last)

    def _ending(self, status: Status) -> Ending:
        stopped = self._client.stopped if self._client else None
        reason = in_words(stopped) if stopped else self._tally.reason
        return Ending(
            status=status,
            is_stopped=bool(stopped or self._output.broken),
            reason=self._output.broken or reason,
            tally=self._tally,
            sums=self._client.statistics() if self._client else Statistics(),
            elapsed=self._course.elapsed,
            folder=self._plan.folder,
            open_tasks=() if self._server.sandbox else tuple(self._watch.open_tasks.values()),
            in_doubt=len(self._watch.in_doubt),
            address=("--base-url", self._server.base_url) if self._server.base_url else (),
            is_sum=not self._plan.tells_paths,
        )


def _make_ready(folder: Path) -> None:
    """Raise `Misuse` unless a file can be written there: nothing is bought that cannot be stored."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Misuse(f"-o {folder}: no clip can be stored there: {error.strerror or error}") from None
