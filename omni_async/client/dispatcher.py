"""`Dispatcher`: admits jobs and routes each to the stage that its status names.

A new job goes to the submitter. A job that the store knows continues where it was. The dispatcher waits for the store,
so that `OmniClient.submit` does not have to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio.lowlevel

from ..errors import DownloadError, JobError, KeyReused, LedgerError, ParentFailed
from ..jobs.failures import error_from_record, key_reused, unreadable_request_error
from ..jobs.job import JobState
from ..jobs.lifecycle import TRANSITIONS, JobStatus
from ..jobs.store import queued
from ..timing import WakeEvent, raise_if_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..downloads.delivery import Delivery
    from ..errors import OmniError
    from ..jobs.records import JobRecord
    from ..jobs.registry import JobRegistry
    from ..polling.poller import Poller
    from ..settings import Retry
    from ..submission.key_support import ServerKeySupport
    from ..submission.submitter import Submitter


# Jobs that are admitted before other asyncio tasks get a turn. Admitting one took 3 microseconds (20,000 jobs, store in
# memory), so that this many hold up the event loop for 0.2 ms. Half or double changes neither noticeably.
_ADMITTED_IN_A_ROW = 64

_EXTENDABLE = frozenset({JobStatus.DOWNLOADING, JobStatus.COMPLETED, JobStatus.DOWNLOAD_FAILED})


@dataclass(frozen=True, slots=True)
class _Admission:
    """A job that waits to be admitted, with the store's answer about its key.

    `new_idempotency_key` is set if it is to be resubmitted. With an `error`, it is admitted only if the store has it.
    `is_resumed` if it was made from its row.
    """

    job: JobState
    row: Awaitable[JobRecord | None]
    new_idempotency_key: str = ""
    error: OmniError | None = None
    is_resumed: bool = False


class Dispatcher:
    """Admits the jobs of one client, in the order in which they came."""

    def __init__(
        self,
        registry: JobRegistry,
        submitter: Submitter,
        poller: Poller,
        delivery: Delivery,
        *,
        keys: ServerKeySupport,
        retry: Retry,
    ) -> None:
        self._registry = registry
        self._keys = keys
        self._retry = retry
        self._submitter = submitter
        self._poller = poller
        self._delivery = delivery
        self._waiting: deque[_Admission] = deque()
        self._wake = WakeEvent()

    def admit(self, job: JobState, error: OmniError | None = None) -> None:
        """Admit a job that was just made; with an `error`, only if the store has it already."""
        store = self._registry.store
        row = queued(store.find, job.key) if error else queued(store.insert, job.record)
        self._enqueue_admission(_Admission(job, row, error=error))

    def resume(self, job: JobState) -> None:
        """Admit a job that was made from its row in the store.

        The row is read again: since the page was read, the job may have been submitted, finished, or cancelled.
        """
        self._enqueue_admission(_Admission(job, queued(self._registry.store.find, job.key), is_resumed=True))

    def resubmit(self, job: JobState, idempotency_key: str) -> None:
        """Submit a job of the store again. Only its key is known here."""
        row = queued(self._registry.store.find, job.key)
        self._enqueue_admission(_Admission(job, row, new_idempotency_key=idempotency_key))

    def cancel(self, job: JobState) -> bool:
        """Cancel a job that is not admitted yet, as soon as it is. Return False if it is admitted already."""
        job.cancel_requested = not job.is_admitted
        return job.cancel_requested

    async def run(self) -> None:
        """Admit and route each job once its row is durable, until cancelled."""
        await self._wake.wait(None)
        await self._check_output_dir()
        while True:
            for _ in range(min(len(self._waiting), _ADMITTED_IN_A_ROW)):
                await self._admit(self._waiting.popleft())
            if self._waiting:
                await anyio.lowlevel.checkpoint()
            else:
                await self._wake.wait(None)

    async def _check_output_dir(self) -> None:
        """Stop submissions if clips cannot be stored, before the first of them is paid."""
        try:
            await self._delivery.prepare()
        except Exception as error:  # noqa: BLE001 - mostly OSError; ValueError for a path that is not valid text
            path = str(getattr(error, "filename", None) or "")
            reason = getattr(error, "strerror", None) or error
            text = f"clips cannot be stored: {reason} ({path}). Nothing was sent; choose another folder"
            self._submitter.stop(DownloadError(text, path=path))

    def _enqueue_admission(self, admission: _Admission) -> None:
        self._registry.add(admission.job)
        self._waiting.append(admission)
        self._wake.set()

    async def _admit(self, admission: _Admission) -> None:
        try:
            await self._find_and_route(admission)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, it ends this job and no other
            raise_if_cancelled(error)
            self._registry.fail_unexpectedly(admission.job, error, "admitted")

    async def _find_and_route(self, admission: _Admission) -> None:
        job = admission.job
        try:
            existing = await admission.row
            await self._find_parent(job, existing, is_resumed=admission.is_resumed)
        except LedgerError as error:  # what cannot be recorded must not be submitted
            self._submitter.stop(error)
            self._registry.resolve(job, error)
            return
        finally:
            job.is_admitted = True
        if job.done():
            return  # submissions stopped meanwhile
        if job.cancel_requested:
            self._cancel_before_admission(job, existing)
        elif admission.new_idempotency_key:
            await self._resubmit(job, existing, admission.new_idempotency_key)
        elif existing is None and admission.error is not None:
            self._registry.discard(job, admission.error)
        elif existing is None:
            self._registry.admit(job)
            await self._route_new(job)
        elif existing.is_same_work(_requested_record(job)):
            await self._adopt_record(job, existing, is_resumed=admission.is_resumed)
        else:
            self._registry.reject(job, existing, key_reused(job.key))

    async def _adopt_record(self, job: JobState, existing: JobRecord, *, is_resumed: bool) -> None:
        """Continue a job where the store has it."""
        original = self._registry.find(existing.key)
        if original is not None and original is not job:  # attached by its task_id, and live under its own key
            job.duplicate_of = original
            job.mark_recorded()
            original.add_done_callback(lambda original: self._registry.copy_outcome(original, job))
            return
        self._registry.admit(job, existing)
        if is_resumed and existing.status is JobStatus.CANCELLED:  # since its page was read; only `attach` follows it
            self._registry.resolve(job, error_from_record(job.record))
        else:
            await self._route(job)

    async def _resubmit(self, job: JobState, existing: JobRecord | None, idempotency_key: str) -> None:
        """Submit a job again that failed or is unknown; a completed one returns its clip."""
        if existing is None:
            text = f"job {job.key!r}: the ledger has no such key, so there is nothing to resubmit"
            self._registry.resolve(job, JobError(text, key=job.key))
            return
        if not existing.request and existing.status is not JobStatus.COMPLETED:
            text = (
                f"job {job.key!r}: its task was submitted elsewhere, so its request is unknown here and cannot be "
                "resubmitted"
            )
            self._registry.reject(job, existing, JobError(text, key=job.key, task_id=existing.task_id))
            return
        self._registry.admit(job, existing)
        if existing.status is not JobStatus.COMPLETED and (error := unreadable_request_error(job)) is not None:
            self._registry.resolve(job, error)
            return
        may_be_accepted = existing.status is JobStatus.UNKNOWN or (
            existing.status is JobStatus.CANCELLED and existing.ambiguous_submits > 0 and existing.task_id is None
        )
        if may_be_accepted and existing.idempotency_key and self._is_key_valid(existing):
            # Under its old key the server recognizes the request, if it has accepted it.
            self._registry.transition_on_request(job, JobStatus.SUBMITTING, error="", finished_at=None)
            self._enqueue(job)
            return
        if existing.status is not JobStatus.COMPLETED:
            for link in existing.sent_references:  # it may have failed because the server could not fetch it
                self._registry.store.forget_upload(link)
            self._registry.reset_for_resubmit(job, idempotency_key)
        await self._route(job)

    def _cancel_before_admission(self, job: JobState, existing: JobRecord | None) -> None:
        """Cancel a job before it is admitted, also in the store: else a later run would submit it."""
        if existing is None:
            self._registry.cancel(job)
            return
        is_same = existing.is_same_work(_requested_record(job)) and self._registry.find(existing.key) in {None, job}
        if is_same and JobStatus.CANCELLED in TRANSITIONS[existing.status]:
            self._registry.admit(job, existing)
            self._registry.cancel(job)
        else:
            self._registry.reject(job, existing, self._registry.cancellation(job))

    async def _find_parent(self, job: JobState, existing: JobRecord | None, *, is_resumed: bool) -> None:
        """Set the parent of a job that was made from its row: the live job, or one rebuilt from the store.

        The parent of a resumed job is resumed too if it is still active: its row may come later than that of the job.
        """
        key = (existing or job.record).parent
        if job.parent is not None:
            job.parent = parent = job.parent.duplicate_of or job.parent
            if existing is None and parent.key != key:  # it was attached by a task that the store has under another key
                self._registry.update(job, parent=parent.key)
            return
        if key is None:
            return
        job.parent = self._registry.find(key)
        record = None if job.parent else await self._registry.store.find(key)
        job.parent = job.parent or self._registry.find(key)  # it may have been resumed meanwhile
        if job.parent is not None or record is None:
            return
        job.parent = parent = JobState(record)
        if parent.status in _EXTENDABLE:
            return
        if is_resumed and not parent.status.is_final:
            self.resume(parent)
        else:
            parent.outcome = error_from_record(parent.record)

    async def _route_new(self, job: JobState) -> None:
        """Route a new job, unless its parent's key was taken: a later run would then extend another job's clip."""
        parent = job.parent
        if parent is None or not isinstance(parent.outcome, KeyReused):
            if job.status is JobStatus.WAITING:
                self._enqueue(job)  # its request has just been checked
            else:
                await self._route(job)
            return
        text = f"job {job.key!r}: the job {parent.key!r} that it extends was rejected: {parent.outcome}"
        self._registry.transition(job, JobStatus.FAILED, error=text, finished_at=self._registry.clock.wall())
        self._registry.resolve(job, ParentFailed(text, key=job.key))

    async def _route(self, job: JobState) -> None:
        """Hand a job to the stage that its status names."""
        if job.status is JobStatus.SUBMITTING:  # the answer to its last POST was never received
            self._registry.update(job, ambiguous_submits=min(job.record.submits, job.record.ambiguous_submits + 1))
        match job.status:
            case JobStatus.WAITING | JobStatus.SUBMITTING if (error := unreadable_request_error(job)) is not None:
                self._registry.resolve(job, error)
            case JobStatus.SUBMITTING if self._retry.ambiguous == "hold":
                await self._registry.mark_unknown(job, "it was being sent when an earlier run ended")
            case JobStatus.WAITING | JobStatus.SUBMITTING:
                self._enqueue(job, is_interrupted=job.status is JobStatus.SUBMITTING)
            case JobStatus.RUNNING | JobStatus.TIMED_OUT | JobStatus.CANCELLED if job.task_id:
                self._follow(job)
            case JobStatus.DOWNLOADING | JobStatus.COMPLETED:
                self.download(job)
            case JobStatus.DOWNLOAD_FAILED:
                self._registry.transition(job, JobStatus.DOWNLOADING, error="")
                self.download(job)
            case _:
                self._registry.resolve(job, error_from_record(job.record))

    def _enqueue(self, job: JobState, *, is_interrupted: bool = False) -> None:
        parent = job.parent
        if job.record.parent is None or job.record.parent_task_id:
            self._submitter.add(job, is_interrupted=is_interrupted)
        elif parent is None:
            reason = f"job {job.key!r}: the job {job.record.parent!r} that it extends has no result"
            self._registry.resolve(job, ParentFailed(reason, key=job.key))
        elif parent.status in _EXTENDABLE:
            self._release_child(job, parent)
        elif self._submitter.stop_error is not None:
            self._registry.resolve(job, self._submitter.stop_error)
        else:
            self._registry.add_child(job, parent)

    def download(self, job: JobState) -> None:
        """Deliver the clips of a job that the server has finished, and submit the jobs that waited for it.

        Jobs wait for a running task, but also for a job whose row was not read yet when they were admitted.
        """
        self._delivery.add(job)
        for child in self._registry.pop_children(job):
            self._release_child(child, job)

    def _release_child(self, job: JobState, parent: JobState) -> None:
        """Submit a job whose parent is finished on the server."""
        self._registry.update(job, parent_task_id=parent.task_id)
        self._submitter.add(job)

    def _follow(self, job: JobState) -> None:
        age = 0.0  # a job that was cancelled or timed out gets its whole timeout again
        if job.status is not JobStatus.RUNNING:
            self._registry.transition(job, JobStatus.RUNNING, error="")
        else:
            age = self._seconds_since(job.record.accepted_at)
        self._submitter.limiter.job_started()
        self._poller.track(job, age=age, check_now=True)

    def _is_key_valid(self, record: JobRecord) -> bool:
        return self._keys.of(record.model).is_valid(self._seconds_since(record.submitted_at))

    def _seconds_since(self, then: float | None) -> float:
        return 0.0 if then is None else max(0.0, self._registry.clock.wall() - then)


def _requested_record(job: JobState) -> JobRecord:
    """Return the record that a user asked for, with its parent under the key that the store has for it."""
    return replace(job.record, parent=job.parent.key) if job.parent else job.record
