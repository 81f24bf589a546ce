"""`JobFactory`: makes the jobs of one open client, and gives each key one live job. Used by `OmniClient`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..jobs.failures import follow_duplicate, key_reused
from ..jobs.job import Job, JobState, state_of
from ..jobs.keys import new_idempotency_key, new_record, validate_key
from ..jobs.lifecycle import JobStatus
from ..jobs.records import JobRecord
from ..submission.local_files import first_reference_error, is_missing
from .arguments import build_request, validate_task_id
from .as_completed import ResumeIterator

if TYPE_CHECKING:
    from ..errors import InvalidReference
    from ..jobs.job import JobOwner
    from ..models.request import VideoRequest
    from .runtime import ClientRuntime

# Records that `resume` reads at a time. Larger pages hold more memory and delay other operations of the store, smaller
# ones cost a wait each. Chosen, not measured.
_LARGEST_PAGE = 1000


def check_files(request: VideoRequest, key: str | None) -> InvalidReference | None:
    """Raise `InvalidReference` for a local file that cannot be sent; return it if the file is missing under a key."""
    error = first_reference_error(request)
    if error is not None and (key is None or not is_missing(error)):
        raise error  # under a key, a later run may ask for a finished clip whose reference files are gone
    return error


class JobFactory:
    """Turns requests, task ids and records into jobs, and hands them to the dispatcher. `owner` is their client."""

    def __init__(self, owner: JobOwner, runtime: ClientRuntime) -> None:
        self._owner = owner
        self._runtime = runtime
        self._clock = runtime.registry.clock

    def submit(
        self, request: VideoRequest, key: str | None, name: str | None = None, parent: JobState | None = None
    ) -> Job:
        """Return the job of a request, new or live. Raise as `OmniClient.submit` does."""
        error = check_files(request, key)
        record = new_record(request, key, parent.key if parent else None, now=self._clock.wall(), name=name)
        return self._enter(record, parent, error)

    def find(self, key: str) -> Job | None:
        """Return the live job of a key, None if there is none."""
        live = self._runtime.registry.find(key)
        return self._handle(live) if live else None

    def extend(self, job: Job, prompt: str | None, key: str | None, name: str | None, fields: dict[str, Any]) -> Job:
        """Return a new job that extends another one."""
        inherited = job.request.inherited_fields(fields.get("model")) if job.request else {}
        request = build_request(prompt, inherited | fields)
        request.validate_extension()
        return self.submit(request, key, name, state_of(job))

    def attach(self, task_id: str, key: str | None) -> Job:
        """Return a job that follows a task which was submitted elsewhere, or earlier."""
        validate_task_id(task_id)
        key = validate_key(key) or task_id
        record = JobRecord(key=key, status=JobStatus.RUNNING, task_id=task_id, created_at=self._clock.wall())
        return self._enter(record)

    def resume(self, max_pending: int) -> ResumeIterator:
        """Return an iterator that takes up the unfinished jobs of the ledger."""
        store, size = self._runtime.registry.store, min(max_pending, _LARGEST_PAGE)
        return ResumeIterator(
            lambda after: store.unfinished(after, size),
            max_pending=max_pending,
            take_up=self._take_up,
            spawn=self._runtime.spawn,
        )

    def resubmit(self, key: str) -> Job:
        """Return the live job of a key, or one that is submitted again once its record was read."""
        live = self._runtime.registry.find(validate_key(key) or "")
        if live is not None:
            return self._handle(live)
        state = JobState(JobRecord(key=key, created_at=self._clock.wall()))
        job = Job(self._owner, state)
        self._runtime.dispatcher.resubmit(state, new_idempotency_key())
        return job

    def _enter(self, record: JobRecord, parent: JobState | None = None, error: InvalidReference | None = None) -> Job:
        live = self._runtime.registry.find(record.key)
        if live is not None and live.record.is_same_work(record):
            return self._handle(live)
        state = JobState(record, parent)
        job = Job(self._owner, state)
        if live is None:
            self._runtime.dispatcher.admit(state, error)
        elif live.is_unread:
            follow_duplicate(state, live)
        else:
            state.resolve(key_reused(record.key))
        return job

    def _take_up(self, record: JobRecord) -> Job:
        live = self._runtime.registry.find(record.key)
        if live is not None:
            return self._handle(live)
        state = JobState(record)
        job = Job(self._owner, state)
        self._runtime.dispatcher.resume(state)
        return job

    def _handle(self, state: JobState) -> Job:
        return state.job or Job(self._owner, state)
