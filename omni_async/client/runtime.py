"""`ClientRuntime`: builds, runs and stops the stages of one open client, in one task group.

`OmniClient` makes it when it is entered. The stages pass jobs to each other through the callbacks here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from ..api.queries import ApiQueries
from ..jobs.lifecycle import JobStatus
from ..jobs.registry import JobRegistry
from ..logs import get_logger
from ..polling.poller import Poller
from ..submission.key_support import ServerKeySupport
from ..submission.references import ReferencePreparer
from ..submission.saved_limits import SavedLimits
from ..submission.sender import Sender
from ..submission.submitter import GRACE, Submitter
from ..submission.uploads import ImageUploader
from .dispatcher import Dispatcher
from .workload import forecast_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from anyio.abc import TaskGroup

    from ..api.transport import Transport
    from ..downloads.delivery import Delivery
    from ..errors import OmniError
    from ..jobs.events import JobEvent
    from ..jobs.job import JobState
    from ..jobs.statistics import Statistics
    from ..jobs.store import JobStore
    from ..polling.webhook import WebhookReceiver
    from ..settings import Limits, Polling, Retry
    from ..timing import Clock
    from .as_completed import ResumeIterator
    from .forecast import Forecast


# How much more a check is worth per waiting job while the concurrency limit is reached: a slot that stands empty is
# lost for good. At 12 concurrent jobs and 100 jobs in all it saved 2 % of the time for 0.8 more checks per job. More
# saves time and costs checks; `CheckSchedule` limits the factor. Half and double were not measured.
_PRESSURE = 8.0
# Turns of the event loop before a client without live jobs counts as idle: a waiter that has just got its clip may
# submit what follows from it. `await job` takes one turn, wrappers around it a few more. Chosen, not measured; more
# turns cost microseconds when the client is left.
_IDLE_TURNS = 10

# Without it, Python prints warnings of libraries to stderr until the program sets logging up.
logging.getLogger("omni_async").addHandler(logging.NullHandler())
_log = get_logger(__name__)
_BACKEND = "anyio._backends._asyncio"


async def preload_backend() -> None:
    """Import in a thread what anyio imports at its first use: that would hold up the event loop for 25 ms."""
    if _BACKEND not in sys.modules:
        with suppress(ImportError):
            await asyncio.to_thread(import_module, _BACKEND)


class ClientRuntime:
    """The stages of one client, from entering to leaving it. Made in the event loop to which it belongs.

    The stages run in an asyncio task of their own, not in the one that entered the client. So what the user's block
    raises comes out as it is, not in an exception group, and a client may be entered in one asyncio task and left in
    another, as test fixtures and web frameworks do.
    """

    def __init__(
        self,
        transport: Transport,
        ledger: JobStore,
        server: str,
        *,
        clip_path: Callable[[str], Path],
        make_delivery: Callable[[JobRegistry], Delivery],
        limits: Limits,
        retry: Retry,
        polling: Polling,
        on_event: Callable[[JobEvent], object] | None,
        webhook: WebhookReceiver,
        clock: Clock,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.failure: BaseException | None = None
        self.is_closed: bool = False  # also if the program has cancelled every asyncio task of the loop
        self.registry: JobRegistry = JobRegistry(ledger, on_event, clock, clip_path)
        self.queries: ApiQueries = ApiQueries(transport, retry, clock)
        self.uploads: ImageUploader = ImageUploader(transport, self.registry, server, retry=retry)
        self.references: ReferencePreparer = ReferencePreparer(
            self.uploads, self.registry, on_ready=self._on_ready, on_failed=self._on_failed, on_stop=self._on_stop
        )
        self.delivery: Delivery = make_delivery(self.registry)
        self.poller: Poller = self._make_poller(transport, webhook, limits, retry, polling)
        self._keys = ServerKeySupport(ledger, server, self.queries.declared_key_support)
        self.submitter: Submitter = self._make_submitter(
            Sender(transport, self.registry, self.references, webhook.url_for), limits, retry
        )
        self._saved_limits = SavedLimits(ledger, self.submitter.limiter, server, wall=clock.wall)
        self.dispatcher: Dispatcher = Dispatcher(
            self.registry, self.submitter, self.poller, self.delivery, keys=self._keys, retry=retry
        )
        self.registry.on_store_failure = self.submitter.stop
        self._transport = transport
        self._webhook = webhook
        self._ledger = ledger
        self._configured = limits
        self._server = server
        self._counts_cost = limits.max_cost is not None
        self.resumed: list[ResumeIterator] = []  # those of `OmniClient.resume`
        self._opened = asyncio.Event()
        self._leaving = asyncio.Event()
        self._is_hurried = False
        self._group: TaskGroup | None = None
        self._supervisor = asyncio.create_task(self._run(), name="omni_async client")

    def _make_poller(
        self, transport: Transport, webhook: WebhookReceiver, limits: Limits, retry: Retry, polling: Polling
    ) -> Poller:
        poller = Poller(
            transport,
            self.registry,
            limits=limits,
            retry=retry,
            polling=polling,
            on_finished=self._on_task_finished,
            on_slot_freed=self._on_slot_freed,
            webhook=webhook,
        )
        poller.schedule.pressure = self._queue_pressure
        return poller

    def _make_submitter(self, sender: Sender, limits: Limits, retry: Retry) -> Submitter:
        return Submitter(
            sender,
            self.registry,
            self._keys,
            limits=limits,
            retry=retry,
            on_accepted=self.poller.track,
            on_limits_learned=self._note_limits,
            list_models=self.queries.models,
        )

    def cancel(self, job: JobState) -> bool:
        """Cancel a job, whatever its stage. Return False if it is done."""
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
        """Run a coroutine until it ends or the client is closed."""
        if self._group is not None and not self._leaving.is_set():
            self._group.start_soon(work)

    async def open(self) -> None:
        """Wait until the stages run. Raise `LedgerError` if the store cannot be opened.

        Cancellation leaves nothing behind.
        """
        try:
            await self._opened.wait()
        except BaseException:
            self._hurry()  # it may be waiting for a store that does not answer
            await self.close()
            raise
        if self.failure is not None:
            await self.close()
            raise self.failure

    async def wait_until_idle(self) -> None:
        """Wait until no job is live, and none is left that `resume` was to take up."""
        while self.resumed or self.registry.live():
            while self.resumed:
                await self.resumed.pop().drain()
            await self.registry.wait_until_empty()
            for _ in range(_IDLE_TURNS):
                await anyio.lowlevel.checkpoint()

    def statistics(self) -> Statistics:
        """Return the totals as of now."""
        learned = self.submitter.limiter.learned()
        return self.registry.totals.statistics(
            learned_submits_per_minute=None if learned.per_second is None else 60 * learned.per_second,
            learned_max_in_flight=learned.max_in_flight,
            learned_max_downloads=self.delivery.learned_concurrency,
            stopped=self.submitter.stop_error,
        )

    def forecast(self, upcoming: int) -> Forecast:
        """Return what to expect, with `upcoming` jobs that are not submitted yet."""
        stages = (self.registry, self.submitter, self.poller, self.delivery)
        return forecast_of(*stages, limits=self._configured, upcoming=upcoming)

    async def close(self) -> None:
        """Stop now: outstanding POSTs get a few seconds, all else is cancelled, and every waiter gets an outcome.

        If this is cancelled, even repeatedly, that is raised at the end: the store is closed when this returns.
        """
        self._leaving.set()
        cancelled, until = None, math.inf
        with anyio.CancelScope(shield=True):
            while not self._supervisor.done() and (left := until - self.registry.clock.now()) > 0:
                try:
                    await asyncio.wait({self._supervisor}, timeout=None if left == math.inf else left)
                except asyncio.CancelledError as error:
                    # The caller is in a hurry: outstanding POSTs get their grace and no more.
                    cancelled, until = error, min(until, self.registry.clock.now() + GRACE + 1)
                    self._hurry()
        if cancelled is not None:
            raise cancelled

    def _hurry(self) -> None:
        """Cancel what still runs, at most once and never during the shutdown."""
        if not self._is_hurried and not self.is_closed:
            self._is_hurried = True
            self._supervisor.cancel()

    async def _run(self) -> None:
        try:
            await self._ledger.open()
            self.poller.seed(await self._ledger.durations())
            await self._saved_limits.load()
            await self._keys.load()
            await self._webhook.open(self._ledger, self.poller.schedule.hints.on_call)
            if self._counts_cost:
                await self.registry.read_spending()
            await self.delivery.open()
        except Exception as error:  # noqa: BLE001 - mostly `LedgerError`; whatever it is, `open` raises it
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
                for stage in (self.dispatcher, self.references, self.submitter, self.poller, self.delivery):
                    group.start_soon(stage.run, name=f"omni_async {type(stage).__name__.lower()}")
                await self._leaving.wait()
                group.cancel_scope.cancel()
        except BaseExceptionGroup as group_of_errors:
            self.failure = _first_of(group_of_errors)
            _log.critical("a stage has failed; the client stops", exc_info=self.failure)

    async def _shut_down(self) -> None:
        self.is_closed = True
        _log.debug("closing, with %d job(s) unfinished", len(self.registry.live()))
        reason = "the client failed" if self.failure else "the client was closed"
        # Each step is taken even if another one failed: no waiter may hang, and what is recorded must get to disk.
        with _logged_failure():
            self._webhook.close()
        with _logged_failure():
            self.registry.close(reason, self.failure)
        with _logged_failure():
            self._saved_limits.save(at_last=True)
        with anyio.move_on_after(10, shield=True):
            try:
                with _logged_failure():
                    await self._webhook.aclose()
                with _logged_failure():
                    await self._transport.aclose()
            finally:  # also if the program cancels every asyncio task of the loop now
                await self._close_store()

    async def _close_store(self) -> None:
        try:
            await self._ledger.aclose()
        except Exception as error:  # noqa: BLE001 - mostly `LedgerError`; whatever it is, the block raises it
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

    def _on_slot_freed(self, ended_at: float | None, uncertainty: float) -> None:
        self.submitter.job_finished(ended_at, uncertainty)

    def _queue_pressure(self) -> float:
        """Return how much more a check is worth because jobs wait for the slot of the checked one. 0: none waits."""
        limiter = self.submitter.limiter
        return _PRESSURE * len(self.submitter.queue) / max(1, limiter.in_flight) if limiter.is_full else 0.0

    def _on_task_finished(self, job: JobState) -> None:
        self.dispatcher.download(job)


@contextmanager
def _logged_failure() -> Iterator[None]:
    """Log an exception of one step of closing a client."""
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever it is, the other steps follow
        _log.exception("a step of closing the client failed")


def _first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first single error of a group: users should not have to unpack a group with one cause."""
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
