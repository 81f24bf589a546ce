"""The rooms of one open client, joined: one task group, opened once, closed once, and nobody left waiting."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from ._core.errors import LedgerError
from ._core.lifecycle import JobStatus
from ._desk import Desk
from ._downloader import Downloader
from ._intake import Intake
from ._limits import FoundLimits
from ._outlook import outlook
from ._poller import Poller
from ._post import Post
from ._references import References
from ._roster import Roster
from ._submitter import GRACE, Submitter
from ._uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from anyio.abc import TaskGroup

    from ._core.forecast import Forecast
    from ._core.record import JobEvent, Statistics
    from ._core.settings import Limits, Polling, Retry
    from ._job import Job
    from ._ports import Ledger, Transport
    from ._webhook import Webhook

_ROUNDS = 8.0  # a job that waits counts so much: 12 at once, 100 jobs: 2 % less time for 0.8 more checks a job
_TURNS = 10  # of the loop, in which those who have just got their clip may hand in what follows from it

logging.getLogger("omni_async").addHandler(logging.NullHandler())  # quiet until the program sets logging up
_log = logging.getLogger("omni_async.client")
_BACKEND = "anyio._backends._asyncio"


async def warm_up() -> None:
    """Load, beside the event loop, what anyio loads at its first use: that would hold up the loop for 25 ms."""
    if _BACKEND not in sys.modules:
        with suppress(ImportError):
            await asyncio.to_thread(import_module, _BACKEND)


class House:
    """Everything that lives from entering a client to leaving it. Made within the event loop that it belongs to.

    The rooms run in an asyncio task of their own, and not in the one that entered the client: so what the user's block
    raises comes out as it is, not in an exception group, and a client may be entered in one task and left in another
    (test fixtures and web frameworks do that).
    """

    def __init__(
        self,
        transport: Transport,
        ledger: Ledger,
        folder: Path,
        server: str,
        *,
        limits: Limits,
        retry: Retry,
        polling: Polling,
        on_event: Callable[[JobEvent], object] | None,
        webhook: Webhook,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.crash: BaseException | None = None
        self.is_over = False  # also where somebody has cancelled every asyncio task of the loop
        self.roster = Roster(ledger, on_event)
        self.desk = Desk(transport, retry)
        self.uploads = Uploads(transport, self.roster, server, retry=retry)
        self.references = References(self.uploads, self.roster)
        self.downloader = Downloader(transport, self.roster, folder, limits=limits, retry=retry)
        self.poller = Poller(
            transport,
            self.roster,
            limits=limits,
            retry=retry,
            polling=polling,
            landed=self._land,
            left=self._leave,
            webhook=webhook,
        )
        post = Post(transport, self.roster, self.references, webhook)
        self.submitter = self.references.way_out = Submitter(
            post, self.roster, limits=limits, retry=retry, follow=self.poller.follow, found=self._note_limits
        )
        self._limits = FoundLimits(ledger, self.submitter.gate, server, wall=self.roster.wall)
        self.intake = Intake(self.roster, self.submitter, self.poller, self.downloader, retry=retry)
        self.roster.on_ledger_failure = self.submitter.stop
        self.poller.schedule.pressure = self._pressure
        self._transport = transport
        self._webhook = webhook
        self._ledger = ledger
        self._told = limits
        self._server = server
        self._counts_cost = limits.max_cost is not None
        self._opened = asyncio.Event()
        self._leaving = asyncio.Event()
        self._group: TaskGroup | None = None
        self._keeper = asyncio.create_task(self._keep(), name="omni_async client")

    def cancel(self, job: Job) -> bool:
        """Give a job up, wherever it has got to; False if it has ended."""
        if job.done():
            return False
        if self.intake.cancel(job):
            return True
        match job.status:
            case JobStatus.WAITING | JobStatus.SUBMITTING:
                self.submitter.cancel(job)
            case JobStatus.RUNNING:
                self.submitter.finished()
                self.roster.cancel(job)
            case JobStatus.DOWNLOADING:
                self.roster.cancel(job)
            case _:
                return False
        return True

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let something run until it ends or the client is left."""
        if self._group is not None and not self._leaving.is_set():
            self._group.start_soon(work)

    async def open(self) -> None:
        """Wait until the rooms are there; who is cancelled meanwhile leaves nothing behind. Raises `LedgerError`."""
        try:
            await self._opened.wait()
        except BaseException:
            await self.close()
            raise
        if self.crash is not None:
            await self.close()
            raise self.crash

    async def idle(self) -> None:
        """Wait until there is nothing left to do."""
        while self.roster.live():
            await self.roster.empty()
            for _ in range(_TURNS):
                await anyio.lowlevel.checkpoint()

    def statistics(self) -> Statistics:
        """Give all sums as of now."""
        return self.roster.statistics(self.submitter.gate.learnt(), self.submitter.stopped)

    def forecast(self, upcoming: int) -> Forecast:
        """Give what is to be expected, with `upcoming` jobs that are not submitted yet."""
        rooms = (self.roster, self.submitter, self.poller.experience, self.downloader)
        return outlook(*rooms, limits=self._told, upcoming=upcoming)

    async def close(self) -> None:
        """Stop at once: POSTs on the wire get a few seconds, all else is cut short, every waiter gets an outcome."""
        self._leaving.set()
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.wait({self._keeper})
            except asyncio.CancelledError:  # asked a second time: in a hurry
                self._keeper.cancel()
                await asyncio.wait({self._keeper}, timeout=GRACE + 1)
                raise

    async def _keep(self) -> None:
        try:
            await self._ledger.open()
            self.poller.learn(await self._ledger.durations())
            await self._limits.recall()
            await self._webhook.open(self._ledger, self.poller.schedule.wakeups.hint)
            if self._counts_cost:
                self.roster.spent = await self._ledger.spent()
        except LedgerError as error:
            self.crash = error
        else:
            await self._live()
        finally:
            self._opened.set()
            await self._shut()

    async def _live(self) -> None:
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                _log.debug("open: %s", self._server)
                self._opened.set()
                for room in (self.intake, self.references, self.submitter, self.poller, self.downloader):
                    group.start_soon(room.run, name=f"omni_async {type(room).__name__.lower()}")
                await self._leaving.wait()
                group.cancel_scope.cancel()
        except BaseExceptionGroup as group_of_errors:
            self.crash = _first_of(group_of_errors)
            _log.critical("a room has broken down; the client stops", exc_info=self.crash)

    async def _shut(self) -> None:
        self.is_over = True
        self._webhook.close()
        _log.debug("closing, with %d job(s) unfinished", len(self.roster.live()))
        self.roster.close("the client broke down" if self.crash else "the client was left", self.crash)
        self._limits.keep(at_last=True)
        with anyio.move_on_after(10, shield=True):
            await self._transport.aclose()
            try:
                await self._ledger.aclose()
            except LedgerError as error:
                self.crash = self.crash or error

    # What passes between the rooms

    def _note_limits(self) -> None:
        self._limits.keep()

    def _leave(self, ended_at: float | None) -> None:
        self.submitter.finished(ended_at)

    def _pressure(self) -> float:
        """Give how much more it matters to others than to a job itself that its end is noticed.

        That is so where they wait for its place on the server, and the more the longer the line: what a place stands
        empty is lost for good.
        """
        gate = self.submitter.gate
        return _ROUNDS * len(self.submitter.line) / max(1, gate.in_flight) if gate.is_full else 0.0

    def _land(self, job: Job) -> None:
        self.downloader.put(job)
        for child in self.roster.release(job):
            self.intake.let_extend(child, job)


def _first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the first single error of a group: with one cause there is no use in telling it as a group."""
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
