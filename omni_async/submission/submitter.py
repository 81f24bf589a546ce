"""Sends what waits: one line of jobs, let out by the gate and the pace, and what each answer makes of them.

Theory of operation. One coroutine takes the next job when the gate says so and starts its POST; at most `WIDTH` are on
the wire. A job that is refused for now goes back to the head of the line. One whose outcome is unclear (in doubt) rests
for a backoff of its own and is resent under the same idempotency key; till then its row says `submitting`: the truth.
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


MAX_CONCURRENT = 16  # POSTs on the wire at once; so many, and no more, may still be refused when the credit ends
GRACE = 3.0  # seconds in which a POST on the wire may still be answered when the client is left in a hurry

_log = logging.getLogger(__name__)


class Submitter:
    """The way out for every job of one client."""

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
        self.limiter = AdaptiveRateLimiter(
            max_in_flight=limits.max_in_flight,
            max_concurrent=MAX_CONCURRENT,
            retry=retry,
            configured_rate=per_minute and per_minute / 60,
        )
        self.stop_error: OmniError | None = None
        self._sender = sender
        self._registry = registry
        self._retry = retry
        self._on_accepted = on_accepted
        self._on_limits_learned = on_limits_learned
        self._jitter = jitter
        self._pacer = Pacer(per_minute) if per_minute else None
        self.queue: SubmitQueue[JobState] = SubmitQueue()
        self._ambiguous: AmbiguousSubmits[JobState] = AmbiguousSubmits(retry)
        self._outstanding: dict[JobState, OutstandingSubmit] = {}
        self._max_cost = limits.max_cost
        self._is_draining = False
        self._wake = WakeEvent()

    def add(self, job: JobState) -> None:
        """Take a job into the line; one that is recorded as being sent is in doubt from the start."""
        if job.status is JobStatus.SUBMITTING:
            self._mark_ambiguous(job)
        self.requeue(job)

    def cancel(self, job: JobState) -> None:
        """Give up a job that is not accepted yet: at once, or, if it is on the wire, once its answer is recorded."""
        job.cancel_requested = True
        if job not in self._outstanding:
            self._cancel(job)

    def job_finished(self, ended_at: float | None = None) -> None:
        """Take note that a job in flight has ended on the server, at that time of its clock (None: now)."""
        self.limiter.job_finished(self._registry.clock.now(), ended_at=ended_at)
        self._wake.set()

    def stop(self, error: OmniError) -> None:
        """Let nothing more out. All that wait get the error; in the ledger they stay as they are."""
        if self.stop_error is not None:
            return
        self.stop_error = error
        _log.warning("no more submits: %s", error)
        self.queue.clear()
        for job in self._registry.live():
            is_unsent = job.status in {JobStatus.WAITING, JobStatus.SUBMITTING} and job not in self._outstanding
            if is_unsent and job.is_admitted:  # of one at the door, the ledger may know that it is done
                self.resolve(job, error)

    def resume(self) -> None:
        """Let jobs out again after a stop, with all patience."""
        self.stop_error = None
        self.limiter.on_idle()

    async def run(self) -> None:
        """Let jobs out as fast as gate and pace allow, until cancelled; POSTs on the wire then get `GRACE`."""
        async with anyio.create_task_group() as group:
            try:
                while True:
                    await self._wait_for_turn()
                    self._start_next(group)
            finally:
                self._drain()

    # Whose turn it is

    async def _wait_for_turn(self) -> None:
        """Wait until a job is there, the gate is open and the pace is kept."""
        is_paced = self._pacer is None
        while (wait := self._delay()) != 0 or not is_paced:
            if wait == 0 and self._pacer is not None:
                await self._pacer.acquire()  # the gate may close meanwhile: it is asked once more
            else:
                await self._wake.wait(wait)
            is_paced = wait == 0 or self._pacer is None  # a turn that was not taken is gone

    def _delay(self) -> float | None:
        """Give the seconds until something may leave, 0 for now; None where only an event can bring it about."""
        now = self._registry.clock.now()
        while (job := self.queue.peek(now)) is not None and (job.done() or self._sender.must_wait_for_files(job)):
            self.queue.pop()
        back = self.queue.next_due()
        if job is None and back is None and not self._outstanding:
            self.limiter.on_idle()
        held = 0 if job in self._ambiguous else len(self._ambiguous)
        opens = None if job is None or self._exceeds_budget(job) else self.limiter.delay(now, reserved=held)
        returns = None if back is None else max(0.001, back - now)  # who comes back may go where the first may not
        return min((wait for wait in (opens, returns) if wait is not None), default=None)

    def _exceeds_budget(self, job: JobState) -> bool:
        """Tell whether it might pass the ceiling; stops the line if no bill is to come that could show more room."""
        if self._max_cost is None or job in self._ambiguous:  # what is in doubt is counted already
            return False
        leaving = sum(other.status is JobStatus.WAITING for other in self._outstanding)
        fits = self._registry.totals.spending.fits_one_more(self._max_cost, leaving=leaving)
        if not fits and not self._outstanding and not self._registry.totals.awaits_prices:
            self.stop(cost_limit_reached(self._registry.totals.spending, self._max_cost))
        return not fits

    def _start_next(self, group: TaskGroup) -> None:
        job, now = self.queue.pop(), self._registry.clock.now()
        self._outstanding[job] = OutstandingSubmit(now)
        group.start_soon(self._send, job, self.limiter.acquire(now))

    def requeue(self, job: JobState) -> None:
        """Take a job back into the line, at its old place."""
        if job.cancel_requested:
            self._cancel(job)
        elif self.stop_error is not None:
            self.resolve(job, self.stop_error)
        elif not self._is_draining:
            self.queue.put(job)
            self._wake.set()

    def _drain(self) -> None:
        """Let nothing more out, and give the POSTs on the wire a little time to be answered and recorded."""
        self._is_draining = True
        self.queue.clear()
        for post in self._outstanding.values():
            post.scope.deadline = min(post.scope.deadline, anyio.current_time() + GRACE)

    # One POST

    async def _send(self, job: JobState, permit: Permit) -> None:
        try:
            with self._outstanding[job].scope:
                await self._send_recorded(job, permit)
        except LedgerError as error:  # what cannot be recorded must not be bought
            self.stop(error)
            self.resolve(job, error)
        except FilesChanged:
            self.requeue(job)
        finally:
            del self._outstanding[job]
            self._wake.set()

    async def _send_recorded(self, job: JobState, permit: Permit) -> None:
        judgement: SubmitResult | None = None
        try:
            if job in self._ambiguous and self._sender.is_key_expired(job):
                self._discard(job)
                await self._registry.mark_unknown(job, "the server no longer remembers its idempotency key")
                return
            await self._sender.record_submitting(job)
            left = await self._pacer.wait_for_interval() if self._pacer else None
            if job.cancel_requested or self.stop_error is not None or self._is_draining:  # while it was being recorded
                await self._sender.roll_back(job, is_in_doubt=job in self._ambiguous)
                self.requeue(job)
                return
            judgement = SubmitResult(SubmitOutcome.AMBIGUOUS)  # should the POST be cut short, nothing else is known
            judgement = await self._sender.send(job, left)
        finally:
            self._report_outcome(permit, judgement)
        await self._apply(job, judgement)
        if job.cancel_requested and not job.done():
            self._cancel(job)

    def _report_outcome(self, permit: Permit, judgement: SubmitResult | None) -> None:
        now, was_closed = self._registry.clock.now(), self.limiter.is_paused
        self._report(permit, judgement, now)
        self._on_limits_learned()
        if judgement is None or judgement.error is None:
            return
        if judgement.outcome is SubmitOutcome.NOT_SENT and not was_closed:
            _log.warning("no way to the server, trying for %g s: %s", self._retry.timeout, judgement.error)
        self._registry.totals.count("rate_limited", judgement.applies_to_all and is_rate_limit(judgement.error))
        if self.limiter.should_give_up(now):
            self.stop(judgement.error)

    def _report(self, permit: Permit, judgement: SubmitResult | None, now: float) -> None:
        """Tell the gate what became of a submit; None if it never left."""
        match judgement:
            case None:
                self.limiter.on_not_sent(permit)
            case SubmitResult(outcome=SubmitOutcome.NOT_SENT):
                self.limiter.on_unreachable(permit, now, jitter=self._jitter())
            case SubmitResult(outcome=SubmitOutcome.AMBIGUOUS):
                self.limiter.on_ambiguous(permit, now, jitter=self._jitter())
            case SubmitResult(outcome=SubmitOutcome.RETRY_LATER, applies_to_all=True):
                self.limiter.on_rate_limited(permit, now, retry_after=judgement.retry_after, jitter=self._jitter())
            case _:
                self.limiter.on_success(permit, now, accepted=judgement.outcome is SubmitOutcome.ACCEPTED)

    # What an answer makes of a job

    async def _apply(self, job: JobState, judgement: SubmitResult) -> None:
        match judgement.outcome:
            case SubmitOutcome.ACCEPTED:
                await self._accept(job, judgement)
            case SubmitOutcome.REJECTED if (
                job in self._ambiguous
            ):  # ... and of the POST before this one nothing is known
                await self._handle_ambiguous(job, judgement, hold=True)
            case SubmitOutcome.REJECTED if judgement.error is not None:
                error = with_prefix(f"job {job.key!r}", judgement.error)
                await self._registry.transition(
                    job, JobStatus.FAILED, error=str(error), finished_at=self._registry.clock.wall()
                )
                self.resolve(job, error)
            case SubmitOutcome.AMBIGUOUS:
                await self._registry.update(job, ambiguous_submits=job.record.ambiguous_submits + 1)
                await self._handle_ambiguous(job, judgement, hold=self._retry.ambiguous == "hold")
            case SubmitOutcome.RETRY_LATER if not judgement.applies_to_all:
                await self._handle_ambiguous(job, judgement)  # its own earlier POST is still being worked on
            case SubmitOutcome.INDETERMINATE:
                await self._handle_ambiguous(job, judgement, hold=True)
            case verdict:
                if verdict is SubmitOutcome.STOP_ALL and judgement.error is not None:
                    self.stop(judgement.error)
                if job not in self._ambiguous:  # else an earlier POST may have been taken
                    await self._registry.transition(job, JobStatus.WAITING)
                self.requeue(job)

    async def _accept(self, job: JobState, judgement: SubmitResult) -> None:
        facts = {"task_id": judgement.task_id, "accepted_at": self._registry.clock.wall()}
        if judgement.is_replay:
            facts["ambiguous_submits"] = 0  # the server says that it took it before, and did not take it again
        self._discard(job)
        await self._registry.persist(self._registry.transition(job, JobStatus.RUNNING, **facts))
        job.notify_accepted()
        self._on_accepted(job)

    async def _handle_ambiguous(self, job: JobState, judgement: SubmitResult, *, hold: bool = False) -> None:
        """Let a job in doubt rest and be sent again, or leave it unknown."""
        self._mark_ambiguous(job)
        now = self._registry.clock.now()
        took = now - self._outstanding[job].since
        pause = self._ambiguous.next_delay(job, took, retry_after=judgement.retry_after, jitter=self._jitter())
        if hold or pause is None:
            self._discard(job)
            is_key_spent = judgement.outcome is SubmitOutcome.INDETERMINATE
            await self._registry.mark_unknown(job, str(judgement.error), is_key_spent=is_key_spent)
        elif job.cancel_requested:
            self._cancel(job)
        elif self.stop_error is not None:
            self.resolve(job, self.stop_error)
        elif not self._is_draining:
            self.queue.put_later(job, now + pause)

    def _cancel(self, job: JobState) -> None:
        if job.status is JobStatus.RUNNING:
            self.job_finished()
        self._discard(job)
        self._registry.cancel(job)

    def resolve(self, job: JobState, error: OmniError) -> None:
        """Give the waiters of a job an error; in the ledger it stays as it is."""
        self._discard(job)
        self._registry.resolve(job, error)

    def _mark_ambiguous(self, job: JobState) -> None:
        if self._ambiguous.add(job):
            self.queue.prioritize(job)  # others may wait for the place that it holds

    def _discard(self, job: JobState) -> None:
        self.queue.discard(job)
        self._ambiguous.discard(job)
