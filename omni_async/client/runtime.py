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

from ..api.queries import ApiQueries
from ..downloads.downloader import Downloader
from ..errors import LedgerError
from ..jobs.lifecycle import JobStatus
from ..jobs.registry import JobRegistry
from ..polling.durations import Experience, fitted
from ..polling.poller import Poller
from ..submission.references import ReferencePreparer
from ..submission.saved_limits import SavedLimits
from ..submission.sender import Sender
from ..submission.submitter import GRACE, Submitter
from ..submission.uploads import ImageUploader
from .dispatcher import Dispatcher
from .forecast import Forecast, Workload, seconds_left

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from anyio.abc import TaskGroup

    from ..api.transport import Transport
    from ..errors import OmniError
    from ..jobs.events import JobEvent
    from ..jobs.job import JobState
    from ..jobs.statistics import Statistics
    from ..jobs.store import JobStore
    from ..polling.webhook import WebhookReceiver
    from ..settings import Limits, Polling, Retry
    from ..timing import Clock


_Number = TypeVar("_Number", int, float)

_SAMPLE = 64  # jobs in flight whose ages stand for all
_SLACK = 1.01  # of each interval of a told pace, which the submitter adds


def forecast_of(
    registry: JobRegistry,
    submitter: Submitter,
    experience: Experience,
    downloader: Downloader,
    *,
    limits: Limits,
    upcoming: int,
) -> Forecast:
    """Give what is to be expected, with `upcoming` jobs that are not submitted yet."""
    gate, now = submitter.limiter, registry.clock.now()
    learnt, standing = gate.learned(), registry.totals.counts
    waiting = standing[JobStatus.WAITING] + standing[JobStatus.SUBMITTING]
    at_once = _least(limits.max_in_flight, learnt.max_in_flight)
    if upcoming and not waiting:  # whoever feeds the client bit by bit sets a limit of his own
        at_once = _least(at_once, standing[JobStatus.RUNNING] + standing[JobStatus.DOWNLOADING])
    ages = _ages(registry.running(), registry.clock.wall())
    told = limits.submits_per_minute and limits.submits_per_minute / 60 / _SLACK
    load = Workload(
        waiting=0 if submitter.stop_error else waiting + upcoming,  # else they wait for a person
        in_flight=standing[JobStatus.RUNNING],
        ages=ages,
        downloading=standing[JobStatus.DOWNLOADING],
        rate=_least(told, learnt.per_second),
        max_in_flight=at_once,
        throughput_now=gate.throughput.per_second(now),
        durations=fitted(experience.logs(), ages, standing[JobStatus.RUNNING]),
        detection_delay=experience.late,
        download_seconds=downloader.mean_seconds,
        download_slots=limits.max_downloads,
    )
    bill = registry.totals.spending.mean_cost * (load.waiting + load.in_flight)
    return Forecast(
        seconds_left=seconds_left(load),
        per_minute=load.throughput and 60 * load.throughput,
        cost=round(registry.totals.cost + bill, 6) if registry.totals.spending.priced_jobs else None,
    )


def _ages(running: Sequence[JobState], wall: float) -> list[float]:
    step = max(1, len(running) // _SAMPLE)
    records = [job.record for job in running[::step]]
    return [max(0.0, wall - (record.accepted_at or record.created_at)) for record in records]


def _least(told: _Number | None, found: _Number | None) -> _Number | None:
    return min((limit for limit in (told, found) if limit is not None), default=None)


_ROUNDS = 8.0  # a job that waits counts so much: 12 at once, 100 jobs: 2 % less time for 0.8 more checks a job
_TURNS = 10  # of the loop, in which those who have just got their clip may hand in what follows from it

logging.getLogger("omni_async").addHandler(logging.NullHandler())  # quiet until the program sets logging up
_log = logging.getLogger("omni_async.client")
_BACKEND = "anyio._backends._asyncio"


async def preload_backend() -> None:
    """Load, beside the event loop, what anyio loads at its first use: that would hold up the loop for 25 ms."""
    if _BACKEND not in sys.modules:
        with suppress(ImportError):
            await asyncio.to_thread(import_module, _BACKEND)


class ClientRuntime:
    """Everything that lives from entering a client to leaving it. Made within the event loop that it belongs to.

    The rooms run in an asyncio task of their own, and not in the one that entered the client: so what the user's block
    raises comes out as it is, not in an exception group, and a client may be entered in one task and left in another
    (test fixtures and web frameworks do that).
    """

    def __init__(
        self,
        transport: Transport,
        ledger: JobStore,
        folder: Path,
        server: str,
        *,
        limits: Limits,
        retry: Retry,
        polling: Polling,
        on_event: Callable[[JobEvent], object] | None,
        webhook: WebhookReceiver,
        clock: Clock,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.failure: BaseException | None = None
        self.is_closed = False  # also where somebody has cancelled every asyncio task of the loop
        self.registry = JobRegistry(ledger, on_event, clock)
        self.queries = ApiQueries(transport, retry, clock)
        self.uploads = ImageUploader(transport, self.registry, server, retry=retry)
        self.references = ReferencePreparer(
            self.uploads, self.registry, on_ready=self._on_ready, on_failed=self._on_failed, on_stop=self._on_stop
        )
        self.downloader = Downloader(transport, self.registry, folder, limits=limits, retry=retry)
        self.poller = Poller(
            transport,
            self.registry,
            limits=limits,
            retry=retry,
            polling=polling,
            on_finished=self._on_task_finished,
            on_slot_freed=self._on_slot_freed,
            webhook=webhook,
        )
        post = Sender(transport, self.registry, self.references, webhook.url_for)
        self.submitter = Submitter(
            post,
            self.registry,
            limits=limits,
            retry=retry,
            on_accepted=self.poller.follow,
            on_limits_learned=self._note_limits,
        )
        self._saved_limits = SavedLimits(ledger, self.submitter.limiter, server, wall=clock.wall)
        self.dispatcher = Dispatcher(self.registry, self.submitter, self.poller, self.downloader, retry=retry)
        self.registry.on_store_failure = self.submitter.stop
        self.poller.schedule.pressure = self._queue_pressure
        self._transport = transport
        self._webhook = webhook
        self._ledger = ledger
        self._configured = limits
        self._server = server
        self._counts_cost = limits.max_cost is not None
        self._opened = asyncio.Event()
        self._leaving = asyncio.Event()
        self._group: TaskGroup | None = None
        self._supervisor = asyncio.create_task(self._run(), name="omni_async client")

    def cancel(self, job: JobState) -> bool:
        """Give a job up, wherever it has got to; False if it has ended."""
        if job.done():
            return False
        if self.dispatcher.cancel(job):
            return True
        match job.status:
            case JobStatus.WAITING | JobStatus.SUBMITTING:
                self.submitter.cancel(job)
            case JobStatus.RUNNING:
                self.submitter.job_finished()
                self.registry.cancel(job)
            case JobStatus.DOWNLOADING:
                self.registry.cancel(job)
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
        if self.failure is not None:
            await self.close()
            raise self.failure

    async def wait_until_idle(self) -> None:
        """Wait until there is nothing left to do."""
        while self.registry.live():
            await self.registry.wait_until_empty()
            for _ in range(_TURNS):
                await anyio.lowlevel.checkpoint()

    def statistics(self) -> Statistics:
        """Give all sums as of now."""
        learnt = self.submitter.limiter.learned()
        return self.registry.totals.statistics(
            learned_submits_per_minute=None if learnt.per_second is None else 60 * learnt.per_second,
            learned_max_in_flight=learnt.max_in_flight,
            stopped=self.submitter.stop_error,
        )

    def forecast(self, upcoming: int) -> Forecast:
        """Give what is to be expected, with `upcoming` jobs that are not submitted yet."""
        rooms = (self.registry, self.submitter, self.poller.experience, self.downloader)
        return forecast_of(*rooms, limits=self._configured, upcoming=upcoming)

    async def close(self) -> None:
        """Stop at once: POSTs on the wire get a few seconds, all else is cut short, every waiter gets an outcome."""
        self._leaving.set()
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.wait({self._supervisor})
            except asyncio.CancelledError:  # asked a second time: in a hurry
                self._supervisor.cancel()
                await asyncio.wait({self._supervisor}, timeout=GRACE + 1)
                raise

    async def _run(self) -> None:
        try:
            await self._ledger.open()
            self.poller.seed(await self._ledger.durations())
            await self._saved_limits.load()
            await self._webhook.open(self._ledger, self.poller.schedule.hints.on_call)
            if self._counts_cost:
                self.registry.totals.spending = await self._ledger.spending()
        except LedgerError as error:
            self.failure = error
        else:
            await self._run_stages()
        finally:
            self._opened.set()
            await self._shut_down()

    async def _run_stages(self) -> None:
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                _log.debug("open: %s", self._server)
                self._opened.set()
                for room in (self.dispatcher, self.references, self.submitter, self.poller, self.downloader):
                    group.start_soon(room.run, name=f"omni_async {type(room).__name__.lower()}")
                await self._leaving.wait()
                group.cancel_scope.cancel()
        except BaseExceptionGroup as group_of_errors:
            self.failure = _first_of(group_of_errors)
            _log.critical("a room has broken down; the client stops", exc_info=self.failure)

    async def _shut_down(self) -> None:
        self.is_closed = True
        self._webhook.close()
        _log.debug("closing, with %d job(s) unfinished", len(self.registry.live()))
        self.registry.close("the client broke down" if self.failure else "the client was left", self.failure)
        self._saved_limits.save(at_last=True)
        with anyio.move_on_after(10, shield=True):
            await self._transport.aclose()
            try:
                await self._ledger.aclose()
            except LedgerError as error:
                self.failure = self.failure or error

    # What passes between the stages

    def _on_ready(self, job: JobState) -> None:
        self.submitter.requeue(job)

    def _on_failed(self, job: JobState, error: OmniError) -> None:
        self.submitter.resolve(job, error)

    def _on_stop(self, error: OmniError) -> None:
        self.submitter.stop(error)

    def _note_limits(self) -> None:
        self._saved_limits.save()

    def _on_slot_freed(self, ended_at: float | None) -> None:
        self.submitter.job_finished(ended_at)

    def _queue_pressure(self) -> float:
        """Give how much more it matters to others than to a job itself that its end is noticed.

        That is so where they wait for its place on the server, and the more the longer the line: what a place stands
        empty is lost for good.
        """
        gate = self.submitter.limiter
        return _ROUNDS * len(self.submitter.queue) / max(1, gate.in_flight) if gate.is_full else 0.0

    def _on_task_finished(self, job: JobState) -> None:
        self.downloader.add(job)
        for child in self.registry.pop_children(job):
            self.dispatcher.release_child(child, job)


def _first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the first single error of a group: with one cause there is no use in telling it as a group."""
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
