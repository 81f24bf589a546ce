"""All live jobs, and the one place where anything about a job changes: table, ledger, sums and events in one step."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import ClientClosed, JobCancelled, LedgerError, OmniError, ParentFailed, SubmitOutcomeUnknown
from .emitter import EventEmitter
from .lifecycle import NOT_RESUMABLE, JobStatus, check_transition
from .spending import Spending
from .statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ..models.responses import Task
    from .events import JobEvent
    from .job import Job
    from .records import JobRecord
    from .store import JobStore


_log = logging.getLogger("omni_async.registry")

_STOPPED = (JobStatus.UNKNOWN, JobStatus.TIMED_OUT, JobStatus.DOWNLOAD_FAILED, JobStatus.CANCELLED)


class JobRegistry:
    """Knows every job whose waiters have no outcome yet, by key."""

    def __init__(
        self, ledger: JobStore, on_event: Callable[[JobEvent], object] | None, *, wall: Callable[[], float] = time.time
    ) -> None:
        self.store = ledger
        self.wall = wall
        self.on_store_failure: Callable[[LedgerError], None] | None = None
        self.events = EventEmitter(on_event, lambda: self.wall())  # noqa: PLW0108 - the clock may be changed
        self._live: dict[str, Job] = {}
        self._known: dict[str, JobStatus] = {}  # how each key stood last: the sums count it once
        self.counts: Counter[JobStatus] = Counter()
        self._sums: Counter[str] = Counter()
        self.cost = 0.0
        self._credits = 0.0
        self.spending = Spending()
        self._empty = asyncio.Event()
        self._empty.set()

    # Who is here

    def find(self, key: str) -> Job | None:
        """Give the live job of this key."""
        return self._live.get(key)

    def live(self) -> list[Job]:
        """Give all live jobs, oldest first."""
        return list(self._live.values())

    def running(self) -> list[Job]:
        """Give the live jobs that the server works on, oldest first."""
        running = (job for job in self._live.values() if job.status is JobStatus.RUNNING)
        return list(islice(running, self.counts[JobStatus.RUNNING]))

    def close(self, reason: str, cause: BaseException | None) -> None:
        """End every job that has no outcome yet: nobody waits for ever."""
        for job in self.live():
            task = f"; the server goes on with task {job.task_id}" if job.task_id else ""
            text = f"{reason} before job {job.key!r} ({job.status}) was finished{task}"
            error = ClientClosed(text, key=job.key, task_id=job.task_id)
            error.__cause__ = cause
            self.resolve(job, error)

    async def wait_until_empty(self) -> None:
        """Wait until no job is live."""
        await self._empty.wait()

    def add(self, job: Job) -> None:
        """Take a job in, which the ledger may know already under its key."""
        self._live[job.key] = job
        self._empty.clear()
        if job.key not in self._known:
            self._set_status(job.key, job.status)

    def admit(self, job: Job, record: JobRecord | None = None) -> None:
        """Let a job in for good: it is new, or it stands for what the ledger already knew."""
        if record is None:
            self.spending += Spending.of(job._record)
        else:
            self._rename(job, record.key)
            self._set_status(record.key, record.status)
            job._record = record
        self.events.admitted(job)

    # What happens to them

    def transition(self, job: Job, status: JobStatus, **facts: Any) -> Awaitable[None]:
        """Move a job on the table and record it; awaiting what this gives makes it durable.

        Raises `InvalidTransition` (and changes nothing) where the table has no such way.
        """
        check_transition(job.status, status)
        return self._change(job, status, facts)

    def update(self, job: Job, **facts: Any) -> Awaitable[None]:
        """Record facts about a job that stays where it is."""
        return self._change(job, job.status, facts)

    async def persist(self, change: Awaitable[None]) -> None:
        """Make a change durable. Where the ledger fails, what is paid still goes on; nothing new is bought."""
        try:
            await change
        except LedgerError as error:
            _log.critical("could not be recorded: %s", error)
            if self.on_store_failure is not None:
                self.on_store_failure(error)

    def reject(self, job: Job, record: JobRecord, reason: OmniError) -> None:
        """End a job whose key stands for something else in the ledger, which stays as it is."""
        if record.status.is_final:
            self._set_status(job.key, record.status)
            self.resolve(job, reason)
        else:  # nobody follows it here: whoever waits for bills would wait for ever
            self.discard(job, reason)

    def discard(self, job: Job, reason: OmniError) -> None:
        """End a job that was never taken in, and count it no more."""
        self.counts[self._known.pop(job.key)] -= 1
        self.resolve(job, reason)

    def reset_for_resubmit(self, job: Job, idempotency_key: str) -> None:
        """Let a job be bought once more, because a person says so; what is known of the time before is kept."""
        before = job._record
        facts: dict[str, Any] = dict.fromkeys(
            (
                "task_id",
                "submitted_at",
                "accepted_at",
                "finished_at",
                "server_seconds",
                "cost",
                "partial_download",
                "webhook",
            )
        )
        facts |= {
            "error": "",
            "paths": (),
            "sent_references": (),
            "idempotency_key": idempotency_key,
            "previous_cost": before.total_cost,
        }
        if before.task_id is not None:
            facts["previous_task_ids"] = (*before.previous_task_ids, before.task_id)
        if before.parent is not None:
            facts["parent_task_id"] = None
        self._change(job, JobStatus.WAITING, facts)

    def record_check(self, job: Job, task: Task) -> None:
        """Take in what a check has shown."""
        is_news = job._task is None or job._task.progress != task.progress
        job._task = task
        if is_news and task.progress is not None:
            self.events.progress_changed(job)

    def copy_outcome(self, original: Job, job: Job) -> None:
        """Give a job the outcome of its twin, which stands for the same task and has just ended."""
        if original._outcome is None or job.done():
            return
        self.counts[self._known.pop(job.key)] -= 1  # its twin is counted
        self.resolve(job, original._outcome)
        job._record, job._task = original._record, original._task

    def add_child(self, child: Job, parent: Job) -> None:
        """Let a job wait until its parent is finished on the server, or comes to nothing."""
        if isinstance(parent._outcome, BaseException):
            self._fail_child(child, parent, parent._outcome)
        else:
            parent._children = parent._children or []
            parent._children.append(child)

    def pop_children(self, job: Job) -> list[Job]:
        """Give the jobs that waited for this one, which is finished on the server now."""
        children, job._children = job._children or [], None
        return [child for child in children if not child.done()]

    def cancel(self, job: Job) -> None:
        """Give a job up, wherever it has got to."""
        error = self.cancellation(job)
        self.transition(job, JobStatus.CANCELLED, error=str(error), finished_at=self.wall())
        self.resolve(job, error)

    def cancellation(self, job: Job) -> JobCancelled:
        """Give the error of a job that is given up."""
        bill = ""
        if job.task_id:
            bill = "; the server goes on with it and bills it"
        elif job.status is JobStatus.SUBMITTING:
            bill = "; a submit of it had no clear answer: the server may have taken it, and would bill it"
        return JobCancelled(f"job {job.key!r} was cancelled here{bill}", key=job.key, task_id=job.task_id)

    async def mark_unknown(self, job: Job, reason: str, *, is_key_spent: bool = False) -> None:
        """End a job of which nobody can know whether the server took it; nor will it say more under a spent key."""
        text = (
            f"job {job.key!r}: nobody can know whether the server took it (and bills it): {reason}. It was sent "
            f"{job._record.submits} time(s) and is not sent again by itself; look at the account's usage first"
        )
        key = "" if is_key_spent else job._record.idempotency_key
        facts = {"error": text, "finished_at": self.wall(), "idempotency_key": key}
        await self.persist(self.transition(job, JobStatus.UNKNOWN, **facts))
        self.resolve(job, SubmitOutcomeUnknown(text, key=job.key))

    def resolve(self, job: Job, outcome: Path | BaseException) -> None:
        """Give a job's waiters their outcome."""
        if job.done():
            return
        del self._live[job.key]
        if isinstance(outcome, BaseException) and job.status is not JobStatus.CANCELLED:
            _log.debug("job %r (%s, task_id %s) ends with: %s", job.key, job.status, job.task_id, outcome)
        job._resolve(outcome)
        if isinstance(outcome, BaseException):
            self.events.abandoned(job, outcome)
        if isinstance(outcome, OmniError):  # of a closed client, each job is told for itself
            for child in self.pop_children(job):
                self._fail_child(child, job, outcome)
        if not self._live:
            self._empty.set()

    # What it comes to

    def count(self, name: str, number: int = 1) -> None:
        """Add to a sum of `Statistics`: refused, checks, bytes."""
        self._sums[name] += number

    @property
    def awaits_prices(self) -> bool:
        """True while jobs are followed, or may be on the server, that will tell their cost."""
        return bool(self.counts[JobStatus.RUNNING] or self.counts[JobStatus.SUBMITTING])

    def statistics(
        self, *, submits_per_minute: float | None, at_once: int | None, stopped: OmniError | None
    ) -> Statistics:
        """Give all sums as of now, with the limits that the gate has found, and why the line has stopped."""
        standing = self.counts
        return Statistics(
            waiting=standing[JobStatus.WAITING] + standing[JobStatus.SUBMITTING],
            in_flight=standing[JobStatus.RUNNING],
            downloading=standing[JobStatus.DOWNLOADING],
            completed=standing[JobStatus.COMPLETED],
            failed=standing[JobStatus.FAILED],
            unresolved=sum(standing[status] for status in _STOPPED),
            submits=self._sums["submits"],
            rate_limited=self._sums["rate_limited"],
            ambiguous_submits=self._sums["ambiguous_submits"],
            checks=self._sums["checks"],
            bytes_downloaded=self._sums["bytes_downloaded"],
            cost=round(self.cost, 6),
            credits=round(self._credits, 6),
            learned_submits_per_minute=submits_per_minute,
            learned_max_in_flight=at_once,
            stop_reason="" if stopped is None else str(stopped),
        )

    def _fail_child(self, child: Job, parent: Job, reason: BaseException) -> None:
        """End a job whose parent has come to nothing; where the parent may go on one day, so may the child."""
        if parent.status.is_final:
            text = f"job {child.key!r}: the job {parent.key!r} that it extends has no result: {reason}"
            reason = ParentFailed(text, key=child.key)
            if parent.status in NOT_RESUMABLE:
                self.transition(child, JobStatus.FAILED, error=text, finished_at=self.wall())
        self.resolve(child, reason)

    def _change(self, job: Job, status: JobStatus, facts: dict[str, Any]) -> Awaitable[None]:
        before = job._record
        job._record = record = replace(before, status=status, **facts)
        self._sums["submits"] += record.submits - before.submits
        self._sums["ambiguous_submits"] += record.ambiguous_submits - before.ambiguous_submits
        self._credits += (record.credits or 0.0) - (before.credits or 0.0)
        spent, less = Spending.of(record), Spending.of(before)
        if spent != less:
            self.spending += spent - less
            self.cost += spent.paid - less.paid
        saved = self.store.save(record)  # before anybody hears of it, who might change it again
        if status is not before.status:
            self._set_status(job.key, status)
            _log.debug("job %r: %s", job.key, status)
            self.events.changed(job, before.status)
        return saved

    def _rename(self, job: Job, key: str) -> None:
        """Let a job that was attached by its task have the key under which the ledger knows that task."""
        if key != job.key:
            self.counts[self._known.pop(job.key)] -= 1
            del self._live[job.key]
            self._live[key] = job

    def _set_status(self, key: str, status: JobStatus) -> None:
        before = self._known.get(key)
        if before is not None:
            self.counts[before] -= 1
        self.counts[status] += 1
        self._known[key] = status
