"""`Submitter`: sends waiting jobs, one queue for all, when the rate limiter allows it.

Theory of operation. One coroutine takes the next job when the limiter allows it and starts its POST; at most
`MAX_CONCURRENT` are outstanding. A job that is refused for now returns to the head of the queue. A job whose outcome is
ambiguous becomes `unknown`, or waits for a backoff of its own and is resent under the same idempotency key: see
`Retry.ambiguous`. Until then its status is `submitting`, because the server may have accepted it.

The runtime hands jobs in through `add`, and gets them back through `on_accepted` or as an outcome in the registry.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import anyio

from ..api.outcomes import SubmitOutcome, SubmitResult
from ..errors import LedgerError, OmniError, TransportError, with_prefix
from ..jobs.lifecycle import JobStatus
from ..jobs.spending import cost_limit_reached
from ..logs import get_logger
from ..ratelimit.adaptive import AdaptiveRateLimiter
from ..ratelimit.pacer import Pacer, wait_for_turn
from ..timing import WakeEvent, raise_if_cancelled
from .ambiguous import AmbiguousSubmits
from .model_pauses import KEEPS_PAUSED, ModelPauses
from .queue import SubmitQueue
from .reports import SubmitReports
from .sender import FilesChanged, OutstandingSubmit, Sender
from .served_models import refusal_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry
    from ..ratelimit.limiter import Permit
    from ..settings import Limits, Retry
    from .key_support import ServerKeySupport

# The ceiling of outstanding POSTs; the rate limiter derives the number from latency and pace. At worst that many are
# refused when the credit ends, or become ambiguous in a crash. Half: 64 submits/s at a latency of 1 s. Double: risk.
MAX_CONCURRENT = 128
# Seconds for outstanding POSTs when the client is left in a hurry: shorter makes more ambiguous, longer delays Ctrl-C.
GRACE = 3.0
_SHORTEST_DELAY = 0.001  # seconds; with none, rounding could make the loop spin

_log = get_logger(__name__)


class Submitter:
    """Submits the jobs of one client.

    `on_accepted(job)` is called when a job has its task_id, `on_limits_learned()` after each outcome.
    """

    def __init__(
        self,
        sender: Sender,
        registry: JobRegistry,
        keys: ServerKeySupport,
        *,
        limits: Limits,
        retry: Retry,
        on_accepted: Callable[[JobState], None],
        on_limits_learned: Callable[[], None] = lambda: None,
        list_models: Callable[[], Awaitable[list[str]]] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        per_minute = limits.submits_per_minute
        self.limiter: AdaptiveRateLimiter = AdaptiveRateLimiter(
            max_in_flight=limits.max_in_flight,
            max_concurrent=MAX_CONCURRENT,
            retry=retry,
            configured_rate=per_minute and per_minute / 60,
        )
        self.queue: SubmitQueue[JobState] = SubmitQueue()
        self.stop_error: OmniError | None = None  # why submissions stopped; None while they continue
        self._sender = sender
        self._registry = registry
        self._keys = keys
        self._retry = retry
        self._on_accepted = on_accepted
        self._on_limits_learned = on_limits_learned
        self._list_models = list_models
        self._jitter = jitter
        self._pacer = Pacer(per_minute) if per_minute else None
        self._ambiguous = AmbiguousSubmits(retry, keys, sender.key_age)
        self.models: ModelPauses[JobState] = ModelPauses(retry)
        self._reports = SubmitReports(self.limiter, registry.totals, retry, jitter)
        self._outstanding: dict[JobState, OutstandingSubmit] = {}
        self._max_cost = limits.max_cost
        self._is_draining = False
        self._wake = WakeEvent()

    def add(self, job: JobState, *, is_interrupted: bool = False) -> None:
        """Queue a job. `is_interrupted`: an earlier run left it `submitting`; `Retry.ambiguous` decides on it."""
        if job.status is JobStatus.SUBMITTING:
            self._mark_ambiguous(job, is_interrupted=is_interrupted)
        self.requeue(job)

    def cancel(self, job: JobState) -> None:
        """Cancel a job that is not accepted yet: now, or, if its POST is outstanding, once the answer is recorded."""
        job.cancel_requested = True
        if job not in self._outstanding:
            self._cancel(job)

    def job_finished(self, ended_at: float | None = None, uncertainty: float = 0.0) -> None:
        """Record that a job in flight ended then (the loop's clock; None: now), give or take `uncertainty` seconds."""
        self.limiter.job_finished(self._registry.clock.now(), ended_at=ended_at, uncertainty=uncertainty)
        self._wake.set()

    def stop(self, error: OmniError) -> None:
        """Stop submitting. Everyone who waits for an unsent job gets the error; its row stays as it is."""
        if self.stop_error is not None:
            return
        self.stop_error = error
        _log.warning("submissions stopped: %s", error)
        self.queue.clear()
        for job in self._unsent():
            self.resolve(job, error)

    def _unsent(self) -> list[JobState]:
        """Return the jobs that wait to be sent, except those that are not admitted: the store may have their clips."""
        live = (job for job in self._registry.live() if job.is_admitted and job not in self._outstanding)
        return [job for job in live if job.status in {JobStatus.WAITING, JobStatus.SUBMITTING}]

    def _stop_model(self, model: str, error: OmniError) -> None:
        """Stop submitting the jobs of one model, which the server does not serve. Jobs of other models continue."""
        self.models.stop(model, error)
        _log.warning("submissions of one model stopped: %s", error)
        for job in [job for job in self._unsent() if job.record.model == model]:
            self.resolve(job, error)

    def resume(self) -> None:
        """Submit again after a stop, with the whole give-up timeout ahead."""
        self.stop_error = None
        self._ambiguous.on_accepted()
        self.limiter.on_idle()
        self._requeue_all(self.models.clear())

    async def run(self) -> None:
        """Submit as fast as limiter and pacer allow, until cancelled. Outstanding POSTs then get `GRACE` seconds."""
        # Not anyio's task group: a cancellation of the stages must not reach the POSTs before `_drain` lets it.
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    await wait_for_turn(self._delay, self._wake, self._pacer)
                    self._start_next(group)
            finally:
                await self._drain()

    # When the next one may be sent

    def _delay(self) -> float | None:
        """Return the delay in seconds before the next submit: 0 for now, None to wait for an event."""
        now = self._registry.clock.now()
        while (job := self.queue.peek(now)) is not None and self._must_skip(job):
            self.queue.pop()
        next_due = self.queue.next_due()
        if job is None and next_due is None and not self._outstanding:
            self.limiter.on_idle()
        # Ambiguous jobs may hold slots on the server. A resend needs no further slot.
        reserved = 0 if job in self._ambiguous else len(self._ambiguous)
        allowed = None if job is None or self._exceeds_budget(job) else self.limiter.delay(now, reserved=reserved)
        # A delayed job may be sent where the first one may not, for example under the cost limit.
        due = None if next_due is None else max(_SHORTEST_DELAY, next_due - now)
        return min((wait for wait in (allowed, due) if wait is not None), default=None)

    def _must_skip(self, job: JobState) -> bool:
        """Return whether a job leaves the queue unsent. If it is not done, it returns when it may be sent."""
        if job.done() or (self.models and self.models.must_hold(job, job.record.model)):
            return True
        return self._sender.must_wait_for_files(job)

    def _exceeds_budget(self, job: JobState) -> bool:
        """Return whether a job might exceed the cost limit. Stop if no price is to come that could leave more room."""
        if self._max_cost is None or job in self._ambiguous:  # an ambiguous job is counted already
            return False
        leaving = sum(other.status is JobStatus.WAITING for other in self._outstanding)
        totals = self._registry.totals
        fits = totals.spending.fits_one_more(self._max_cost, leaving=leaving)
        if not fits and not self._outstanding and not totals.awaits_prices:
            self.stop(cost_limit_reached(totals.spending, self._max_cost))
        return not fits

    def _start_next(self, group: asyncio.TaskGroup) -> None:
        job, now = self.queue.pop(), self._registry.clock.now()
        submit = self._outstanding[job] = OutstandingSubmit(now)
        submit.task = group.create_task(self._send(job, submit, self.limiter.acquire(now)))
        if self._retry.ambiguous == "auto" and self._keys.must_ask(model := job.record.model):
            group.create_task(self._keys.ask(model))  # early: in an outage the server cannot be asked

    def requeue(self, job: JobState) -> None:
        """Put a job into the queue, at its old position if it was there before."""
        if job.cancel_requested:
            self._cancel(job)
        elif (error := self._stop_error_of(job)) is not None:
            self.resolve(job, error)
        elif not self._is_draining:
            self.queue.put(job)
            self._wake.set()

    def _requeue_all(self, jobs: Iterable[JobState]) -> None:
        for job in jobs:
            if not job.done():
                self.requeue(job)

    def _stop_error_of(self, job: JobState) -> OmniError | None:
        """Return why this job is not submitted; None if nothing has stopped it."""
        if self.stop_error is None and self.models:
            return self.models.stopped.get(job.record.model)
        return self.stop_error

    async def _drain(self) -> None:
        """Start nothing more, and give outstanding POSTs a little time to be answered and recorded."""
        self._is_draining = True
        self.queue.clear()
        if tasks := {submit.task for submit in self._outstanding.values() if submit.task is not None}:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(tasks, timeout=GRACE)

    # One POST

    async def _send(self, job: JobState, submit: OutstandingSubmit, permit: Permit) -> None:
        try:
            await self._send_recorded(job, submit, permit)
        except LedgerError as error:  # what cannot be recorded must not be submitted
            self.stop(error)
            self.resolve(job, error)
        except FilesChanged:
            self.requeue(job)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, it ends this job and no other
            raise_if_cancelled(error)
            await self._end_unexpectedly(job, error)
        finally:
            del self._outstanding[job]
            self._wake.set()

    async def _send_recorded(self, job: JobState, submit: OutstandingSubmit, permit: Permit) -> None:
        result: SubmitResult | None = None
        is_resend = job in self._ambiguous
        try:
            if is_resend and (reason := await self._ambiguous.reason_to_hold(job)) is not None:
                await self._give_up(job, reason)
                return
            await self._sender.record_submitting(job)
            on_sent = await self._pacer.wait_for_interval() if self._pacer else None
            # Each of these may have happened while the row was written.
            if job.cancel_requested or self._stop_error_of(job) is not None or self._is_draining:
                await self._sender.roll_back(job, is_resend=is_resend)
                self.requeue(job)
                return
            result = await self._sender.send(job, submit, on_sent, is_resend=is_resend)
        except TransportError as error:  # the server could not be asked whether it honours idempotency keys
            result = SubmitResult(SubmitOutcome.NOT_SENT, error=error, applies_to_all=True)
        finally:
            if result is None and submit.is_sent:  # the POST was cut short, and may have arrived
                result = SubmitResult(SubmitOutcome.AMBIGUOUS)
            submit.result = result
            self._report(permit, result)
        await self._apply(job, result)
        if job.cancel_requested and not job.done():
            self._cancel(job)

    def _report(self, permit: Permit, result: SubmitResult | None) -> None:
        """Report the outcome of a submit (None: it was not sent), and stop if the limiter gives up."""
        self._reports.add(permit, result, now := self._registry.clock.now())
        self._on_limits_learned()
        if result is not None and result.error is not None and self.limiter.should_give_up(now):
            self.stop(result.error)

    # What an outcome means for the job

    async def _apply(self, job: JobState, result: SubmitResult) -> None:
        if self.models and result.outcome not in KEEPS_PAUSED:
            self._requeue_all(self.models.release(job.record.model))
        match result.outcome:
            case SubmitOutcome.ACCEPTED:
                await self._accept(job, result)
            case SubmitOutcome.REJECTED if job in self._ambiguous:  # the POST before this one may have been accepted
                await self._give_up(job, str(result.error))
            case SubmitOutcome.REJECTED if result.error is not None:
                error = with_prefix(f"job {job.key!r}", result.error)
                facts = {"error": str(error), "finished_at": self._registry.clock.wall()}
                await self._registry.transition(job, JobStatus.FAILED, **facts)
                self.resolve(job, error)
            case SubmitOutcome.AMBIGUOUS | SubmitOutcome.UNREADABLE:
                await self._registry.update(job, ambiguous_submits=job.record.ambiguous_submits + 1)
                await self._handle_ambiguous(job, result)
            case SubmitOutcome.RETRY_LATER if not result.applies_to_all:
                await self._resend_later(job, result)  # the server is still working on an earlier POST of this job
            case SubmitOutcome.INDETERMINATE:
                await self._give_up(job, str(result.error), is_key_spent=True)
            case _:
                await self._return_refused(job, result)

    async def _return_refused(self, job: JobState, result: SubmitResult) -> None:
        """Queue a job again whose POST was not sent, or is refused for now; end it if it alone cannot be sent."""
        if result.outcome in {SubmitOutcome.STOP_ALL, SubmitOutcome.WITHHELD} and result.error is not None:
            self.stop(result.error)
        if job not in self._ambiguous:  # else an earlier POST may have been accepted
            await self._registry.transition(job, JobStatus.WAITING)
        if result.outcome in {SubmitOutcome.NO_MODEL, SubmitOutcome.NO_CHANNEL}:
            await self._pause_model(job, result)
        elif result.outcome is SubmitOutcome.NOT_SENT and not result.applies_to_all and result.error is not None:
            self.resolve(job, result.error)
        else:
            self.requeue(job)

    async def _pause_model(self, job: JobState, result: SubmitResult) -> None:
        """Let a job wait for its model, or stop the model. `result` says that the server does not serve it."""
        model, now = job.record.model, self._registry.clock.now()
        pause = self.models.on_refused(job, model, result, now=now, jitter=self._jitter())
        if self.models.should_stop(model, now):
            error = await refusal_of(model, result, self._list_models)
            if self.models.should_stop(model, now):  # `resume` may have been called meanwhile
                self._stop_model(model, error)
        if job.cancel_requested or self._stop_error_of(job) is not None:
            self.requeue(job)
        elif pause is not None and not self._is_draining:
            self.queue.put_later(job, now + pause)

    async def _accept(self, job: JobState, result: SubmitResult) -> None:
        facts = {"task_id": result.task_id, "accepted_at": self._registry.clock.wall()}
        if result.is_replay:
            facts["ambiguous_submits"] = 0  # the server says that it had accepted it before, and only once
            self._keys.on_replayed(job.record.model)
        self._ambiguous.on_accepted()
        self._discard(job)
        if not await self._registry.persist(self._registry.record_accepted(job, **facts)):
            _log.critical("job %r was accepted as %s, which is not recorded", job.key, result.task_id)
        job.notify_advanced()
        self._on_accepted(job)

    async def _handle_ambiguous(self, job: JobState, result: SubmitResult) -> None:
        """Resend a job after a backoff, or mark it unknown."""
        assert result.error is not None
        self._mark_ambiguous(job)
        reason = await self._ambiguous.reason_to_give_up(job, result.outcome)
        if reason is None:
            await self._resend_later(job, result)
            return
        await self._give_up(job, f"{result.error}; {reason}")
        if (stop := self._ambiguous.error_to_stop(result.error)) is not None:
            self.stop(stop)

    async def _resend_later(self, job: JobState, result: SubmitResult) -> None:
        """Resend a job after a backoff, or mark it unknown if its retry timeout has passed."""
        self._mark_ambiguous(job)
        now = self._registry.clock.now()
        seconds = now - self._outstanding[job].since
        pause = self._ambiguous.next_delay(job, seconds, retry_after=result.retry_after, jitter=self._jitter())
        if pause is None:
            await self._give_up(job, f"{result.error}; this was retried for {self._retry.timeout:g} s")
        elif job.cancel_requested:
            self._cancel(job)
        elif (error := self._stop_error_of(job)) is not None:
            self.resolve(job, error)
        elif not self._is_draining:
            self.queue.put_later(job, now + pause)

    async def _give_up(self, job: JobState, reason: str, *, is_key_spent: bool = False) -> None:
        """Mark a job unknown: it may have been accepted, and is not resent."""
        self._discard(job)
        await self._registry.mark_unknown(job, reason, is_key_spent=is_key_spent)

    async def _end_unexpectedly(self, job: JobState, error: BaseException) -> None:
        """End one job after an exception that nothing else handles. What is known of its POST is kept."""
        result = self._outstanding[job].result
        if result is not None and result.task_id is not None:
            self.job_finished()  # it is no longer followed
        await self._sender.keep_outcome(job, result, is_resend=job in self._ambiguous)
        self.resolve(job, self._registry.log_unexpected(job, error, "submitted"))

    def _cancel(self, job: JobState) -> None:
        if job.status is JobStatus.RUNNING:
            self.job_finished()
        self._discard(job)
        self._registry.cancel(job)

    def resolve(self, job: JobState, error: OmniError) -> None:
        """Give everyone who waits for a job an error. Its row in the store stays as it is."""
        self._discard(job)
        self._registry.resolve(job, error)

    def _mark_ambiguous(self, job: JobState, *, is_interrupted: bool = False) -> None:
        if self._ambiguous.add(job, is_interrupted=is_interrupted):
            self.queue.prioritize(job)  # others may wait for the slot that it may hold on the server

    def _discard(self, job: JobState) -> None:
        """Forget a job that is no longer submitted. If it was the probe of its model, another job becomes the probe."""
        self.queue.discard(job)
        self._ambiguous.discard(job)
        if self.models:
            self._requeue_all(self.models.release_probe(job, job.record.model))
