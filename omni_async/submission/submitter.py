"""`Submitter`: sends waiting jobs, one queue for all, when the rate limiter allows it.

Theory of operation. One coroutine takes the next job when the limiter says so and starts its POST; at most
`MAX_CONCURRENT` are outstanding. A job that is refused for now returns to the head of the queue. A job whose outcome is
ambiguous waits for a backoff of its own and is resent under the same idempotency key. Until then its status is
`submitting`, because the server may have accepted it.

The runtime hands jobs in through `add`, and gets them back through `on_accepted` or as an outcome in the registry.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import anyio

from ..api.outcomes import SubmitOutcome, SubmitResult, is_rate_limit
from ..errors import LedgerError, OmniError, with_prefix
from ..jobs.lifecycle import JobStatus
from ..jobs.spending import cost_limit_reached
from ..ratelimit.adaptive import AdaptiveRateLimiter
from ..ratelimit.pacer import Pacer
from ..timing import WakeEvent
from .queue import AmbiguousSubmits, SubmitQueue
from .sender import FilesChanged, OutstandingSubmit, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from ..jobs.job import JobState
    from ..jobs.registry import JobRegistry
    from ..ratelimit.limiter import Permit
    from ..settings import Limits, Retry

# POSTs that are outstanding at the same time. It bounds how many may be refused when the credit ends, and how many
# become ambiguous in a crash; it also limits the rate to MAX_CONCURRENT / latency. Half would halve that rate for slow
# servers, double would double those risks.
MAX_CONCURRENT = 16
# Seconds in which outstanding POSTs may still be answered when the client is left in a hurry. Shorter makes more of
# them ambiguous, longer delays Ctrl-C. Chosen, not measured.
GRACE = 3.0
# Seconds. A delayed job is never due in less, else rounding could make the loop spin.
_SHORTEST_DELAY = 0.001

_log = logging.getLogger(__name__)


class Submitter:
    """Submits the jobs of one client.

    `on_accepted(job)` is called when a job has its task_id, `on_limits_learned()` after each outcome.
    """

    def __init__(
        self,
        sender: Sender,
        registry: JobRegistry,
        *,
        limits: Limits,
        retry: Retry,
        on_accepted: Callable[[JobState], None],
        on_limits_learned: Callable[[], None] = lambda: None,
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
        self._retry = retry
        self._on_accepted = on_accepted
        self._on_limits_learned = on_limits_learned
        self._jitter = jitter
        self._pacer = Pacer(per_minute) if per_minute else None
        self._ambiguous: AmbiguousSubmits[JobState] = AmbiguousSubmits(retry)
        self._outstanding: dict[JobState, OutstandingSubmit] = {}
        self._max_cost = limits.max_cost
        self._is_draining = False
        self._wake = WakeEvent()

    def add(self, job: JobState) -> None:
        """Queue a job. One that is recorded as `submitting` was left by an earlier run and is ambiguous."""
        if job.status is JobStatus.SUBMITTING:
            self._mark_ambiguous(job)
        self.requeue(job)

    def cancel(self, job: JobState) -> None:
        """Cancel a job that is not accepted yet: now, or, if its POST is outstanding, once the answer is recorded."""
        job.cancel_requested = True
        if job not in self._outstanding:
            self._cancel(job)

    def job_finished(self, ended_at: float | None = None) -> None:
        """Record that a job in flight has ended on the server, at that time of the loop's clock (None: now)."""
        self.limiter.job_finished(self._registry.clock.now(), ended_at=ended_at)
        self._wake.set()

    def stop(self, error: OmniError) -> None:
        """Stop submitting.

        Everyone who waits for an unsent job gets the error; in the store the jobs stay as they are.
        """
        if self.stop_error is not None:
            return
        self.stop_error = error
        _log.warning("submissions stopped: %s", error)
        self.queue.clear()
        for job in self._registry.live():
            is_unsent = job.status in {JobStatus.WAITING, JobStatus.SUBMITTING} and job not in self._outstanding
            if is_unsent and job.is_admitted:  # for one that is not admitted yet, the store may have a finished clip
                self.resolve(job, error)

    def resume(self) -> None:
        """Submit again after a stop, with the whole give-up timeout ahead."""
        self.stop_error = None
        self.limiter.on_idle()

    async def run(self) -> None:
        """Submit as fast as limiter and pacer allow, until cancelled. Outstanding POSTs then get `GRACE` seconds."""
        async with anyio.create_task_group() as group:
            try:
                while True:
                    await self._wait_until_allowed()
                    self._start_next(group)
            finally:
                self._drain()

    # When the next one may be sent

    async def _wait_until_allowed(self) -> None:
        """Wait until a job is queued, the limiter allows it and the configured rate is kept."""
        is_paced = self._pacer is None
        while (wait := self._delay()) != 0 or not is_paced:
            if wait == 0 and self._pacer is not None:
                await self._pacer.acquire()  # the limiter may pause meanwhile, so it is asked again
            else:
                await self._wake.wait(wait)
            is_paced = wait == 0 or self._pacer is None  # a tick of the pacer that was not used is lost

    def _delay(self) -> float | None:
        """Return the delay in seconds before the next submit: 0 for now, None to wait for an event."""
        now = self._registry.clock.now()
        while (job := self.queue.peek(now)) is not None and (job.done() or self._sender.must_wait_for_files(job)):
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

    def _start_next(self, group: TaskGroup) -> None:
        job, now = self.queue.pop(), self._registry.clock.now()
        self._outstanding[job] = OutstandingSubmit(now)
        group.start_soon(self._send, job, self.limiter.acquire(now))

    def requeue(self, job: JobState) -> None:
        """Put a job into the queue, at its old position if it was there before."""
        if job.cancel_requested:
            self._cancel(job)
        elif self.stop_error is not None:
            self.resolve(job, self.stop_error)
        elif not self._is_draining:
            self.queue.put(job)
            self._wake.set()

    def _drain(self) -> None:
        """Start nothing more, and give outstanding POSTs a little time to be answered and recorded."""
        self._is_draining = True
        self.queue.clear()
        for submit in self._outstanding.values():
            submit.scope.deadline = min(submit.scope.deadline, anyio.current_time() + GRACE)

    # One POST

    async def _send(self, job: JobState, permit: Permit) -> None:
        try:
            with self._outstanding[job].scope:
                await self._send_recorded(job, permit)
        except LedgerError as error:  # what cannot be recorded must not be submitted
            self.stop(error)
            self.resolve(job, error)
        except FilesChanged:
            self.requeue(job)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this job and no other
            await self._end_unexpectedly(job, error)
        finally:
            del self._outstanding[job]
            self._wake.set()

    async def _send_recorded(self, job: JobState, permit: Permit) -> None:
        result: SubmitResult | None = None
        try:
            if job in self._ambiguous and self._sender.is_key_expired(job):
                self._discard(job)
                await self._registry.mark_unknown(job, "the server no longer remembers its idempotency key")
                return
            await self._sender.record_submitting(job)
            on_sent = await self._pacer.wait_for_interval() if self._pacer else None
            # Each of these may have happened while the row was written.
            if job.cancel_requested or self.stop_error is not None or self._is_draining:
                await self._sender.roll_back(job, is_resend=job in self._ambiguous)
                self.requeue(job)
                return
            result = SubmitResult(SubmitOutcome.AMBIGUOUS)  # all that is known if the POST is cut short
            result = await self._sender.send(job, on_sent)
        finally:
            self._outstanding[job].result = result
            self._report(permit, result)
        await self._apply(job, result)
        if job.cancel_requested and not job.done():
            self._cancel(job)

    def _report(self, permit: Permit, result: SubmitResult | None) -> None:
        """Tell the limiter the outcome of a submit (None: it was not sent), and stop if it gives up."""
        now, was_paused = self._registry.clock.now(), self.limiter.is_paused
        self._report_to_limiter(permit, result, now)
        self._on_limits_learned()
        if result is None or result.error is None:
            return
        if result.outcome is SubmitOutcome.NOT_SENT and result.applies_to_all and not was_paused:
            _log.warning("the server is unreachable, retrying for %g s: %s", self._retry.timeout, result.error)
        self._registry.totals.count("rate_limited", result.applies_to_all and is_rate_limit(result.error))
        if self.limiter.should_give_up(now):
            self.stop(result.error)

    def _report_to_limiter(self, permit: Permit, result: SubmitResult | None, now: float) -> None:
        match result:
            case None:
                self.limiter.on_not_sent(permit)
            case SubmitResult(outcome=SubmitOutcome.NOT_SENT, applies_to_all=False):
                self.limiter.on_not_sent(permit)
            case SubmitResult(outcome=SubmitOutcome.NOT_SENT):
                self.limiter.on_unreachable(permit, now, jitter=self._jitter())
            case SubmitResult(outcome=SubmitOutcome.AMBIGUOUS):
                self.limiter.on_ambiguous(permit, now, jitter=self._jitter())
            case SubmitResult(outcome=SubmitOutcome.RETRY_LATER, applies_to_all=True):
                self.limiter.on_rate_limited(permit, now, retry_after=result.retry_after, jitter=self._jitter())
            case _:
                self.limiter.on_success(permit, now, accepted=result.outcome is SubmitOutcome.ACCEPTED)

    # What an outcome means for the job

    async def _apply(self, job: JobState, result: SubmitResult) -> None:
        match result.outcome:
            case SubmitOutcome.ACCEPTED:
                await self._accept(job, result)
            case SubmitOutcome.REJECTED if job in self._ambiguous:  # the POST before this one may have been accepted
                await self._handle_ambiguous(job, result, hold=True)
            case SubmitOutcome.REJECTED if result.error is not None:
                error = with_prefix(f"job {job.key!r}", result.error)
                facts = {"error": str(error), "finished_at": self._registry.clock.wall()}
                await self._registry.transition(job, JobStatus.FAILED, **facts)
                self.resolve(job, error)
            case SubmitOutcome.AMBIGUOUS:
                await self._registry.update(job, ambiguous_submits=job.record.ambiguous_submits + 1)
                await self._handle_ambiguous(job, result, hold=self._retry.ambiguous == "hold")
            case SubmitOutcome.RETRY_LATER if not result.applies_to_all:
                await self._handle_ambiguous(job, result)  # the server is still working on an earlier POST of this job
            case SubmitOutcome.INDETERMINATE:
                await self._handle_ambiguous(job, result, hold=True)
            case _:
                await self._return_to_waiting(job, result)

    async def _return_to_waiting(self, job: JobState, result: SubmitResult) -> None:
        """Queue a job again whose POST was not sent, or is refused for now; end it if it alone cannot be sent."""
        if result.outcome is SubmitOutcome.STOP_ALL and result.error is not None:
            self.stop(result.error)
        if job not in self._ambiguous:  # else an earlier POST may have been accepted
            await self._registry.transition(job, JobStatus.WAITING)
        if result.outcome is SubmitOutcome.NOT_SENT and not result.applies_to_all and result.error is not None:
            self.resolve(job, result.error)
        else:
            self.requeue(job)

    async def _accept(self, job: JobState, result: SubmitResult) -> None:
        facts = {"task_id": result.task_id, "accepted_at": self._registry.clock.wall()}
        if result.is_replay:
            facts["ambiguous_submits"] = 0  # the server says that it had accepted it before, and only once
        self._discard(job)
        await self._registry.persist(self._registry.record_accepted(job, **facts))
        job.notify_accepted()
        self._on_accepted(job)

    async def _handle_ambiguous(self, job: JobState, result: SubmitResult, *, hold: bool = False) -> None:
        """Resend a job after a backoff, or mark it unknown: if `hold`, or if its retry timeout has passed."""
        self._mark_ambiguous(job)
        now = self._registry.clock.now()
        seconds = now - self._outstanding[job].since
        pause = self._ambiguous.next_delay(job, seconds, retry_after=result.retry_after, jitter=self._jitter())
        if hold or pause is None:
            self._discard(job)
            is_key_spent = result.outcome is SubmitOutcome.INDETERMINATE
            await self._registry.mark_unknown(job, str(result.error), is_key_spent=is_key_spent)
        elif job.cancel_requested:
            self._cancel(job)
        elif self.stop_error is not None:
            self.resolve(job, self.stop_error)
        elif not self._is_draining:
            self.queue.put_later(job, now + pause)

    async def _end_unexpectedly(self, job: JobState, error: Exception) -> None:
        """End one job after an exception that nothing else handles. What is known of its POST is kept."""
        result = self._outstanding[job].result
        if result is not None and result.task_id is not None:
            self.job_finished()  # it is not followed any more
        is_resend = job in self._ambiguous
        self._discard(job)
        await self._sender.keep_outcome(job, result, is_resend=is_resend)
        self._registry.fail_unexpectedly(job, error, "submitted")

    def _cancel(self, job: JobState) -> None:
        if job.status is JobStatus.RUNNING:
            self.job_finished()
        self._discard(job)
        self._registry.cancel(job)

    def resolve(self, job: JobState, error: OmniError) -> None:
        """Give everyone who waits for a job an error. In the store the job stays as it is."""
        self._discard(job)
        self._registry.resolve(job, error)

    def _mark_ambiguous(self, job: JobState) -> None:
        if self._ambiguous.add(job):
            self.queue.prioritize(job)  # others may wait for the slot that it may hold on the server

    def _discard(self, job: JobState) -> None:
        self.queue.discard(job)
        self._ambiguous.discard(job)
