"""The rooms of one open client, joined: one task group, opened once, closed once, and nobody left waiting."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.lowlevel

from ..api.queries import Desk
from ..downloads.downloader import Downloader
from ..errors import LedgerError
from ..jobs.lifecycle import JobStatus
from ..jobs.registry import Roster
from ..polling.durations import Experience, fitted
from ..polling.poller import Poller
from ..submission.references import References
from ..submission.saved_limits import FoundLimits
from ..submission.sender import Post
from ..submission.submitter import GRACE, Submitter
from ..submission.uploads import Uploads
from .dispatcher import Intake
from .forecast import Forecast, Load, seconds_left

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from anyio.abc import TaskGroup

    from ..api.transport import Transport
    from ..jobs.events import JobEvent
    from ..jobs.job import Job
    from ..jobs.statistics import Statistics
    from ..jobs.store import Ledger
    from ..polling.webhook import Webhook
    from ..settings import Limits, Polling, Retry


_Number = TypeVar("_Number", int, float)

_SAMPLE = 64  # jobs in flight whose ages stand for all
_SLACK = 1.01  # of each interval of a told pace, which the submitter adds


def outlook(
    roster: Roster,
    submitter: Submitter,
    experience: Experience,
    downloader: Downloader,
    *,
    limits: Limits,
    upcoming: int,
) -> Forecast:
    """Give what is to be expected, with `upcoming` jobs that are not submitted yet."""
    gate, now = submitter.gate, submitter.now()
    learnt, standing = gate.learnt(), roster.standing
    waiting = standing[JobStatus.WAITING] + standing[JobStatus.SUBMITTING]
    at_once = _least(limits.max_in_flight, learnt.at_once)
    if upcoming and not waiting:  # whoever feeds the client bit by bit sets a limit of his own
        at_once = _least(at_once, standing[JobStatus.RUNNING] + standing[JobStatus.DOWNLOADING])
    ages = _ages(roster.running(), roster.wall())
    told = limits.submits_per_minute and limits.submits_per_minute / 60 / _SLACK
    load = Load(
        waiting=0 if submitter.stopped else waiting + upcoming,  # else they wait for a person
        in_flight=standing[JobStatus.RUNNING],
        ages=ages,
        downloading=standing[JobStatus.DOWNLOADING],
        rate=_least(told, learnt.per_second),
        at_once=at_once,
        flow=gate.flow.per_second(now),
        spread=fitted(experience.logs(), ages, standing[JobStatus.RUNNING]),
        late=experience.late,
        fetch=downloader.mean_seconds,
        places=limits.max_downloads,
    )
    bill = roster.spent.mean_cost * (load.waiting + load.in_flight)
    return Forecast(
        seconds_left=seconds_left(load),
        per_minute=load.throughput and 60 * load.throughput,
        cost=round(roster.cost + bill, 6) if roster.spent.bills else None,
    )


def _ages(running: Sequence[Job], wall: float) -> list[float]:
    step = max(1, len(running) // _SAMPLE)
    records = [job._record for job in running[::step]]
    return [max(0.0, wall - (record.accepted_at or record.created_at)) for record in records]


def _least(told: _Number | None, found: _Number | None) -> _Number | None:
    return min((limit for limit in (told, found) if limit is not None), default=None)


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
        post = Post(transport, self.roster, self.references, webhook.address_for)
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
        learnt = self.submitter.gate.learnt()
        return self.roster.statistics(
            submits_per_minute=None if learnt.per_second is None else 60 * learnt.per_second,
            at_once=learnt.at_once,
            stopped=self.submitter.stopped,
        )

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
