"""Takes jobs in: a new one goes to the line, one that the ledger knows goes on where it stood."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio.lowlevel

from ..api.outcomes import is_key_valid, may_resend
from ..errors import DownloadError, JobError, KeyReused, LedgerError, ParentFailed
from ..jobs.failures import error_from_record, key_reused, unreadable_request_error
from ..jobs.job import JobState
from ..jobs.lifecycle import TRANSITIONS, JobStatus
from ..timing import WakeEvent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

    from ..downloads.downloader import Downloader
    from ..errors import OmniError
    from ..jobs.records import JobRecord
    from ..jobs.registry import JobRegistry
    from ..polling.poller import Poller
    from ..settings import Retry
    from ..submission.submitter import Submitter


_AT_A_STRETCH = 64  # jobs taken in before everybody else gets a turn

_EXTENDABLE = frozenset({JobStatus.DOWNLOADING, JobStatus.COMPLETED, JobStatus.DOWNLOAD_FAILED})


@dataclass(frozen=True, slots=True)
class _Admission:
    """A job at the door, with what the ledger says of it; with a new idempotency key if it is to be bought again.

    One with a `fault` may come in only if the ledger knows it already.
    """

    job: JobState
    row: Awaitable[JobRecord | None]
    new_idempotency_key: str = ""
    fault: OmniError | None = None


class _Resolved:
    """A row that is there already, for those who await it."""

    def __init__(self, record: JobRecord) -> None:
        self._record = record

    def __await__(self) -> Generator[None, None, JobRecord]:
        return self._record
        yield  # makes this a generator, as `await` needs


class Dispatcher:
    """The way in for every job of one client; it waits for the ledger so that `submit` need not."""

    def __init__(
        self, registry: JobRegistry, submitter: Submitter, poller: Poller, downloader: Downloader, *, retry: Retry
    ) -> None:
        self._registry = registry
        self._retry = retry
        self._submitter = submitter
        self._poller = poller
        self._downloader = downloader
        self._coming: deque[_Admission] = deque()
        self._wake = WakeEvent()

    def admit(self, job: JobState, fault: OmniError | None = None) -> None:
        """Take in a job that has just been made; one with a fault only where the ledger knows it."""
        ledger = self._registry.store
        row = ledger.find(job.key) if fault else ledger.insert(job.record)
        self._enter(_Admission(job, row, fault=fault))

    def resume(self, job: JobState) -> None:
        """Take in a job that was made from its row in the ledger."""
        self._enter(_Admission(job, _Resolved(job.record)))

    def resubmit(self, job: JobState, idempotency_key: str) -> None:
        """Take in a job of which only the key is known, to be bought once more; the ledger must know it."""
        self._enter(_Admission(job, self._registry.store.find(job.key), new_idempotency_key=idempotency_key))

    def cancel(self, job: JobState) -> bool:
        """Give up a job that is not admitted yet, as soon as it is; False if it is already."""
        job.cancel_requested = not job.is_admitted
        return job.cancel_requested

    async def run(self) -> None:
        """Send each job where it belongs once its row is safe, for ever."""
        await self._wake.wait(None)
        await self._check_output_dir()
        while True:
            for _ in range(min(len(self._coming), _AT_A_STRETCH)):
                await self._admit(self._coming.popleft())
            if self._coming:
                await anyio.lowlevel.checkpoint()
            else:
                await self._wake.wait(None)

    async def _check_output_dir(self) -> None:
        """See that clips can be stored, before the first of them is paid."""
        try:
            await self._downloader.prepare()
        except OSError as error:
            path = str(error.filename or "")
            text = (
                f"clips cannot be stored: {error.strerror or error} ({path}). Nothing was sent; choose another folder"
            )
            self._submitter.stop(DownloadError(text, path=path))

    def _enter(self, arrival: _Admission) -> None:
        self._registry.add(arrival.job)
        self._coming.append(arrival)
        self._wake.set()

    async def _admit(self, arrival: _Admission) -> None:
        job = arrival.job
        try:
            existing = await arrival.row
            await self._find_parent(job, existing)
        except LedgerError as error:  # what cannot be recorded must not be bought
            self._submitter.stop(error)
            self._registry.resolve(job, error)
            return
        finally:
            job.is_admitted = True
        if job.done():
            return  # the line was stopped meanwhile
        if job.cancel_requested:
            self._cancel_before_admission(job, existing)
        elif arrival.new_idempotency_key:
            await self._resubmit(job, existing, arrival.new_idempotency_key)
        elif existing is None and arrival.fault is not None:
            self._registry.discard(job, arrival.fault)
        elif existing is None:
            self._registry.admit(job)
            await self._route_new(job)
        elif existing.is_same_work(_as_meant(job)):
            await self._adopt_record(job, existing)
        else:
            self._registry.reject(job, existing, key_reused(job.key))

    async def _adopt_record(self, job: JobState, existing: JobRecord) -> None:
        """Let a job go on where the ledger says that it stands."""
        twin = self._registry.find(existing.key)
        if twin is not None and twin is not job:  # it was attached by the task of another job that is live
            job.duplicate_of = twin
            twin.add_done_callback(lambda twin: self._registry.copy_outcome(twin, job))
            return
        self._registry.admit(job, existing)
        await self._route(job)

    async def _resubmit(self, job: JobState, existing: JobRecord | None, idempotency_key: str) -> None:
        """Buy a job once more that came to nothing, or of which nobody knows; any other goes on where it stands."""
        if existing is None:
            text = f"job {job.key!r}: the ledger knows no such key, so there is nothing to buy again"
            self._registry.resolve(job, JobError(text, key=job.key))
            return
        if not existing.request and existing.status is not JobStatus.COMPLETED:
            text = (
                f"job {job.key!r}: its task was submitted elsewhere, and nobody here knows the request to buy it again"
            )
            self._registry.reject(job, existing, JobError(text, key=job.key, task_id=existing.task_id))
            return
        self._registry.admit(job, existing)
        if existing.status is JobStatus.UNKNOWN and existing.idempotency_key and self._is_remembered(existing):
            # Under its old key the server recognizes the request, if it has accepted it.
            self._registry.transition_on_request(job, JobStatus.SUBMITTING, error="", finished_at=None)
            self._enqueue(job)
            return
        if existing.status is not JobStatus.COMPLETED:
            for link in existing.sent_references:  # it may have failed because nobody could fetch it
                self._registry.store.forget_upload(link)
            self._registry.reset_for_resubmit(job, idempotency_key)
        await self._route(job)

    def _cancel_before_admission(self, job: JobState, existing: JobRecord | None) -> None:
        """Cancel a job at the door; also as the ledger knows it, else a later run would send it after all."""
        if existing is None:
            self._registry.cancel(job)
            return
        is_same = existing.is_same_work(_as_meant(job)) and self._registry.find(existing.key) in {None, job}
        if is_same and JobStatus.CANCELLED in TRANSITIONS[existing.status]:
            self._registry.admit(job, existing)
            self._registry.cancel(job)
        else:
            self._registry.reject(job, existing, self._registry.cancellation(job))

    async def _find_parent(self, job: JobState, existing: JobRecord | None) -> None:
        """Link a job made from its row to the job that it extends, live or as the ledger knows it."""
        key = (existing or job.record).parent
        if job.parent is not None:
            job.parent = parent = job.parent.duplicate_of or job.parent
            if existing is None and parent.key != key:  # it was attached by a task that the ledger knows by another key
                self._registry.update(job, parent=parent.key)
            return
        if key is None:
            return
        job.parent = self._registry.find(key)
        record = None if job.parent else await self._registry.store.find(key)
        if record is not None:
            job.parent = parent = JobState(record)
            parent.outcome = None if parent.status in _EXTENDABLE else error_from_record(parent)

    async def _route_new(self, job: JobState) -> None:
        """Send a new job on, unless what it was to extend was turned away: a later run would extend another's clip."""
        parent = job.parent
        if parent is None or not isinstance(parent.outcome, KeyReused):
            if job.status is JobStatus.WAITING:
                self._enqueue(job)  # its request has just been checked
            else:
                await self._route(job)
            return
        text = f"job {job.key!r}: the job {parent.key!r} that it extends was not taken: {parent.outcome}"
        self._registry.transition(job, JobStatus.FAILED, error=text, finished_at=self._registry.clock.wall())
        self._registry.resolve(job, ParentFailed(text, key=job.key))

    async def _route(self, job: JobState) -> None:
        """Send a job where its status says that it belongs."""
        if job.status is JobStatus.SUBMITTING:  # the answer to its last POST was never heard
            self._registry.update(job, ambiguous_submits=min(job.record.submits, job.record.ambiguous_submits + 1))
        match job.status:
            case JobStatus.WAITING | JobStatus.SUBMITTING if (fault := unreadable_request_error(job)) is not None:
                self._registry.resolve(job, fault)
            case JobStatus.SUBMITTING if not may_resend(self._since(job.record.submitted_at), self._retry):
                await self._registry.mark_unknown(job, "it was being sent when an earlier run ended")
            case JobStatus.WAITING | JobStatus.SUBMITTING:
                self._enqueue(job)
            case JobStatus.RUNNING | JobStatus.TIMED_OUT | JobStatus.CANCELLED if job.task_id:
                self._follow(job)
            case JobStatus.DOWNLOADING | JobStatus.COMPLETED:
                self._downloader.add(job)
            case JobStatus.DOWNLOAD_FAILED:
                self._registry.transition(job, JobStatus.DOWNLOADING, error="")
                self._downloader.add(job)
            case _:
                self._registry.resolve(job, error_from_record(job))

    def _enqueue(self, job: JobState) -> None:
        parent = job.parent
        if job.record.parent is None or job.record.parent_task_id:
            self._submitter.add(job)
        elif parent is None:
            reason = f"job {job.key!r}: the job {job.record.parent!r} that it extends has no result"
            self._registry.resolve(job, ParentFailed(reason, key=job.key))
        elif parent.status in _EXTENDABLE:
            self.release_child(job, parent)
        elif self._submitter.stop_error is not None:
            self._registry.resolve(job, self._submitter.stop_error)
        else:
            self._registry.add_child(job, parent)

    def release_child(self, job: JobState, parent: JobState) -> None:
        """Send a job on its way whose parent is finished on the server."""
        self._registry.update(job, parent_task_id=parent.task_id)
        self._submitter.add(job)

    def _follow(self, job: JobState) -> None:
        age = 0.0  # who asks again for a job that was given up or timed_out gives it all its time again
        if job.status is not JobStatus.RUNNING:
            self._registry.transition(job, JobStatus.RUNNING, error="")
        else:
            age = self._since(job.record.accepted_at)
        self._submitter.limiter.job_started()
        self._poller.follow(job, age=age, at_once=True)

    def _is_remembered(self, record: JobRecord) -> bool:
        return is_key_valid(self._since(record.submitted_at))

    def _since(self, then: float | None) -> float:
        return 0.0 if then is None else max(0.0, self._registry.clock.wall() - then)


def _as_meant(job: JobState) -> JobRecord:
    """Give the record of a job that was just made, with its parent under the key by which the ledger knows that."""
    return replace(job.record, parent=job.parent.key) if job.parent else job.record
