"""`JobRegistry`: the live jobs of one client. Every change of a job goes through it.

A change checks the transition, saves the record, updates the totals and emits the event, in one step without an await.
The stages call it; nothing else writes to a `JobState` or to the store's rows.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import ClientClosed, JobCancelled, JobError, LedgerError, OmniError, ParentFailed, SubmitOutcomeUnknown
from ..logs import get_logger
from ..timing import raise_if_cancelled
from .emitter import EventEmitter
from .exception_log import ExceptionLog
from .failures import unexpected_error
from .lifecycle import NOT_RESUMABLE, JobStatus, check_transition
from .spending import Spending
from .statistics import JobTotals
from .store import queued
from .store_failures import StoreFailures

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ..models.responses import Task
    from ..timing import Clock
    from .events import JobEvent
    from .job import JobState
    from .records import JobRecord
    from .store import JobStore

_log = get_logger(__name__)

# What a resubmit forgets of the time before; task id and cost move to `previous_task_ids` and `previous_cost`.
_FORGOTTEN = (
    "task_id",
    "submitted_at",
    "accepted_at",
    "finished_at",
    "server_seconds",
    "cost",
    "partial_download",
    "webhook",
)


class JobRegistry:
    """The jobs without an outcome, by key, with their totals. `clock` and `events` are for all stages."""

    def __init__(
        self,
        store: JobStore,
        on_event: Callable[[JobEvent], object] | None,
        clock: Clock,
        clip_path: Callable[[str], Path],
    ) -> None:
        self.store = store
        self.clock = clock
        self.events: EventEmitter = EventEmitter(on_event, clock, clip_path)
        self.totals: JobTotals = JobTotals()
        self.on_store_failure: Callable[[LedgerError], None] | None = None  # set by the runtime: stops submissions
        self._unexpected = ExceptionLog(_log, "work for single jobs")
        self._store_failures = StoreFailures(_log)
        self._live: dict[str, JobState] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    # The live jobs

    def find(self, key: str) -> JobState | None:
        """Return the live job of this key, if there is one."""
        return self._live.get(key)

    def live(self) -> list[JobState]:
        """Return all live jobs, oldest first."""
        return list(self._live.values())

    def running(self) -> list[JobState]:
        """Return the live jobs that the server is working on, oldest first."""
        running = (job for job in self._live.values() if job.status is JobStatus.RUNNING)
        return list(islice(running, self.totals.counts[JobStatus.RUNNING]))

    async def wait_until_empty(self) -> None:
        """Wait until no job is live."""
        await self._empty.wait()

    def close(self, reason: str, cause: BaseException | None) -> None:
        """Give every live job the outcome `ClientClosed`, so that no waiter hangs."""
        for job in self.live():
            task = f"; the server continues with task {job.task_id}" if job.task_id else ""
            text = f"{reason} before job {job.key!r} ({job.status}) was finished{task}"
            error = ClientClosed(text, key=job.key, task_id=job.task_id)
            error.__cause__ = cause
            self.resolve(job, error)
        self.events.close()
        self._unexpected.close()
        self._store_failures.close()

    def add(self, job: JobState) -> None:
        """Add a job whose key the store may know already."""
        self._live[job.key] = job
        self._empty.clear()
        self.totals.add_new(job.key, job.status)

    def admit(self, job: JobState, record: JobRecord | None = None) -> None:
        """Admit a job: a new one, or with the record that the store has of it."""
        if record is None:
            self.totals.spending += Spending.of(job.record)
        else:
            self._rename(job, record.key)
            self.totals.set_status(record.key, record.status)
            job.record = record
        job.mark_recorded()
        self.events.admitted(job)

    def reject(self, job: JobState, record: JobRecord, reason: OmniError) -> None:
        """Resolve a job whose key the store has for something else. The stored record stays as it is."""
        if record.status.is_final:
            self.totals.set_status(job.key, record.status)
            self.resolve(job, reason)
        else:  # it is not followed here, so its price would be awaited without end
            self.discard(job, reason)

    def discard(self, job: JobState, reason: OmniError) -> None:
        """Resolve a job that was never admitted, and stop counting it."""
        self.totals.discard(job.key)
        self.resolve(job, reason)

    # Changes

    def transition(self, job: JobState, status: JobStatus, **facts: Any) -> Awaitable[None]:
        """Change the status of a job, and `facts` of its record. Await the result to be sure that it is durable.

        Raise `InvalidTransition`, and change nothing, if the table does not allow it.
        """
        check_transition(job.status, status)
        return self._change(job, status, facts)

    def transition_on_request(self, job: JobState, status: JobStatus, **facts: Any) -> Awaitable[None]:
        """Change a status as `transition` does, where only the user may ask for it because it may be paid again."""
        check_transition(job.status, status, on_request=True)
        return self._change(job, status, facts)

    def update(self, job: JobState, **facts: Any) -> Awaitable[None]:
        """Change `facts` of a job's record, and not its status."""
        return self._change(job, job.status, facts)

    def record_accepted(self, job: JobState, **facts: Any) -> Awaitable[None]:
        """Change the status of a job to `running`, with its task_id among `facts`. A store never rejects this."""
        check_transition(job.status, JobStatus.RUNNING)
        return self._change(job, JobStatus.RUNNING, facts, save=self.store.record_accepted)

    async def persist(self, change: Awaitable[None]) -> bool:
        """Wait until a change is durable, and return whether it is. If not, submissions stop; paid jobs continue."""
        try:
            await change
        except LedgerError as error:
            self._store_failures.report(error)
            if self.on_store_failure is not None:
                self.on_store_failure(error)
            return False
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - one row that the store cannot take
            raise_if_cancelled(error)
            self._unexpected.report(error, "a change of one job could not be recorded; the job continues")
            return False
        self._store_failures.recover()
        return True

    def reset_for_resubmit(self, job: JobState, idempotency_key: str) -> None:
        """Reset a job so that it is submitted again at the user's request. Its previous task ids and cost are kept."""
        before = job.record
        facts: dict[str, Any] = dict.fromkeys(_FORGOTTEN)
        facts |= {
            "error": "",
            "paths": (),
            "videos": (),
            "sent_references": (),
            "idempotency_key": idempotency_key,
            "previous_cost": before.total_cost,
        }
        if before.task_id is not None:
            facts["previous_task_ids"] = (*before.previous_task_ids, before.task_id)
        if before.parent is not None:
            facts["parent_task_id"] = None
        self.transition_on_request(job, JobStatus.WAITING, **facts)

    def record_check(self, job: JobState, task: Task) -> None:
        """Record what a check has shown. It is not durable: the next check shows it again."""
        is_news = job.task is None or job.task.progress != task.progress
        job.task = task
        if is_news and task.progress is not None:
            self.events.progress_changed(job)

    async def read_spending(self) -> None:
        """Read from the store what all its jobs have cost: the cost limit counts those of earlier runs, too.

        The answer covers every change that was queued before. Changes made here meanwhile are added to it. So it may be
        read at any time, and again where other processes share the store.
        """
        before = self.totals.spending
        stored = await self.store.spending()
        self.totals.spending = stored + (self.totals.spending - before)

    # Relatives

    def copy_outcome(self, original: JobState, job: JobState) -> None:
        """Give a job the outcome of the job of the same task, which has just been resolved."""
        if original.outcome is None or job.done():
            return
        self.totals.discard(job.key)  # the original is counted
        self.resolve(job, original.outcome)
        job.record, job.task = original.record, original.task

    def add_child(self, child: JobState, parent: JobState) -> None:
        """Let a job wait until its parent is finished on the server, or has failed."""
        if isinstance(parent.outcome, BaseException):
            self._fail_child(child, parent, parent.outcome)
        else:
            parent.children = parent.children or []
            parent.children.append(child)

    def pop_children(self, job: JobState) -> list[JobState]:
        """Return the jobs that waited for this one, and forget them."""
        children, job.children = job.children or [], None
        return [child for child in children if not child.done()]

    # Outcomes

    def cancel(self, job: JobState) -> None:
        """Cancel a job, whatever its stage."""
        error = self.cancellation(job)
        self.transition(job, JobStatus.CANCELLED, error=str(error), finished_at=self.clock.wall())
        self.resolve(job, error)

    def cancellation(self, job: JobState) -> JobCancelled:
        """Return the error of a cancelled job, which says whether it is billed."""
        bill = ""
        if job.task_id:
            bill = "; the server continues with its task and bills it"
        elif job.status is JobStatus.SUBMITTING:
            bill = "; it is unknown whether the server accepted it before: if so, it is billed"
        return JobCancelled(f"job {job.key!r} was cancelled here{bill}", key=job.key, task_id=job.task_id)

    async def mark_unknown(self, job: JobState, reason: str, *, is_key_spent: bool = False) -> None:
        """Resolve a job whose submit stays ambiguous. With `is_key_spent`, its key cannot settle that either."""
        text = (
            f"job {job.key!r}: it is unknown whether the server accepted (and billed) it: {reason}. It was sent "
            f"{job.record.submits} time(s) and is not sent again automatically. Check the account's usage, then use "
            "client.resubmit(key) or --retry-unknown if it was not accepted"
        )
        key = "" if is_key_spent else job.record.idempotency_key
        facts = {"error": text, "finished_at": self.clock.wall(), "idempotency_key": key}
        await self.persist(self.transition(job, JobStatus.UNKNOWN, **facts))
        self.resolve(job, SubmitOutcomeUnknown(text, key=job.key))

    def fail_unexpectedly(self, job: JobState, error: BaseException, doing: str) -> None:
        """End one job after an exception that nothing else handles. In the store it stays as it is, to be resumed."""
        self.resolve(job, self.log_unexpected(job, error, doing))

    def log_unexpected(self, job: JobState, error: BaseException, doing: str) -> JobError:
        """Log an exception that nothing else handles, once and with its traceback; return it as an error of the job."""
        self._unexpected.report(error, "job %r: unexpected error while it was being %s", job.key, doing)
        return unexpected_error(job, error, doing)

    def resolve(self, job: JobState, outcome: Path | BaseException) -> None:
        """Give everyone who waits for a job its outcome."""
        if job.done():
            return
        del self._live[job.key]
        self.totals.end(job.key)
        if isinstance(outcome, BaseException) and job.status is not JobStatus.CANCELLED:
            _log.debug("job %r (%s, task_id %s) ends with: %s", job.key, job.status, job.task_id, outcome)
        job.resolve(outcome)
        if isinstance(outcome, BaseException):
            self.events.abandoned(job, outcome)
        if isinstance(outcome, OmniError):  # when the client closes, each job gets an error of its own
            for child in self.pop_children(job):
                self._fail_child(child, job, outcome)
        if not self._live:
            self._empty.set()

    def _fail_child(self, child: JobState, parent: JobState, reason: BaseException) -> None:
        """Resolve a job whose parent has no result. If the parent can be resumed, the child stays resumable too."""
        if parent.status.is_final:
            text = f"job {child.key!r}: the job {parent.key!r} that it extends has no result: {reason}"
            reason = ParentFailed(text, key=child.key)
            if parent.status in NOT_RESUMABLE:
                self.transition(child, JobStatus.FAILED, error=text, finished_at=self.clock.wall())
        self.resolve(child, reason)

    def _change(
        self,
        job: JobState,
        status: JobStatus,
        facts: dict[str, Any],
        save: Callable[[JobRecord], Awaitable[None]] | None = None,
    ) -> Awaitable[None]:
        before = job.record
        job.record = record = replace(before, status=status, **facts)
        self.totals.record_change(before, record)
        # Saved before the event is emitted: the listener may change the job again.
        saved = queued(save or self.store.save, record)
        if status is not before.status:
            self.totals.set_status(job.key, status)
            _log.debug("job %r: %s", job.key, status)
            self.events.changed(job, before.status)
        return saved

    def _rename(self, job: JobState, key: str) -> None:
        """Give a job that was attached by its task the key under which the store has that task."""
        if key != job.key:
            self.totals.discard(job.key)
            del self._live[job.key]
            self._live[key] = job
