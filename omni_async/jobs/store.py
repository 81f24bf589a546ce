"""The `JobStore` port: the durable record of jobs. The stages write to it; the package `ledger` implements it.

Facts and decisions are kept apart. A *fact* is something that happened elsewhere and cost money: the server accepted a
job (`record_accepted`). It is recorded whatever the row says by now. A *decision* is this client's own (`save`). If
several processes share a store, it may reject a decision, with `LedgerFenced`, when another process has taken over.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .lifecycle import JobStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    from ..models.reference_files import Upload
    from .records import JobRecord
    from .spending import Spending
    from .statistics import LedgerTotals


_A = TypeVar("_A")
_T = TypeVar("_T")

# The fact that names the folder of the clips: its absolute path as a JSON string. Rows hold file names only.
OUTPUT_DIR = "output_dir"
# The fact that names the folders before it, the latest first: a JSON list. A clip may still be in one of them.
EARLIER_OUTPUT_DIRS = "earlier_output_dirs"
# The fact that holds what was learned of the account's limits, a JSON object, and the address of its server.
LIMITS = "limits"

# Statuses of a job that has not been accepted as far as its row says.
_NOT_ACCEPTED = frozenset({JobStatus.WAITING, JobStatus.SUBMITTING, JobStatus.UNKNOWN})


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Some records, and where to continue: `after` for the next call, None after the last page."""

    records: list[JobRecord]
    after: int | None


class JobStore(Protocol):
    """Records jobs durably.

    Changes are queued at the call, in the order of calls. Awaiting the result makes a change durable and may raise
    `LedgerError`; the call itself never raises. A queued change is carried out even if its result is not awaited.
    """

    async def open(self) -> None:
        """Get ready for use. Raise `LedgerError`."""

    def insert(self, record: JobRecord) -> Awaitable[JobRecord | None]:
        """Record a new job. If a job with the same key or task exists, change nothing and return its record.

        Only a record without a request (of a task submitted elsewhere) is compared by its task.
        """

    def save(self, record: JobRecord) -> Awaitable[None]:
        """Record a job's present state."""

    def record_accepted(self, record: JobRecord) -> Awaitable[None]:
        """Record that the server accepted a job under `record.task_id`, whatever its row says by now.

        See `merge_accepted`. A store never rejects this and never forgets it: the job may be billed.
        """

    def find(self, key: str) -> Awaitable[JobRecord | None]:
        """Return the record of a key."""

    def claim_filename(self, key: str, index: int, *, taken: str = "") -> Awaitable[str]:
        """Return the file name of video number `index` (from 0) of a job: always the same name, and no other job's.

        `taken` is a name that was returned before, under which there is a file that no job of this store has written.
        It is never given out again: the clip gets another name, for good.
        """

    def unfinished(self, after: int = 0, limit: int = 1000) -> Awaitable[RecordPage]:
        """Return the next jobs with something left to do, at most `limit`, oldest first.

        `after` is 0 for the first page, then `RecordPage.after` of the page before. Jobs that become unfinished while
        pages are read may be missing.
        """

    def spending(self) -> Awaitable[Spending]:
        """Return what all jobs in the store have cost, every change queued before this call included."""

    def durations(self) -> Awaitable[list[JobRecord]]:
        """Return the latest jobs whose duration on the server is known, oldest first."""

    def find_upload(self, server: str, digest: str) -> Awaitable[Upload | None]:
        """Return the last upload of a content (SHA-256) to a server."""

    def save_upload(self, server: str, digest: str, upload: Upload) -> Awaitable[None]:
        """Record an upload. Uploads that had expired when it was made may be deleted."""

    def forget_upload(self, url: str) -> Awaitable[None]:
        """Delete an upload: a request that named its URL failed."""

    def set_fact(self, name: str, value: str) -> Awaitable[None]:
        """Record a fact under a name, replacing the previous one."""

    def get_fact(self, name: str) -> Awaitable[str | None]:
        """Return the fact of a name."""

    async def aclose(self) -> None:
        """Make every change durable, and close. Raise `LedgerError` if that is impossible."""


class JobReader(Protocol):
    """Reads a ledger at any time, while others write it: `LedgerReader` that of a folder, `FleetReader` a fleet's.

    It blocks: use it in scripts, or in a thread. Every method may raise `LedgerError`.
    """

    def jobs(self, *statuses: JobStatus | str) -> Iterator[JobRecord]:
        """Yield the jobs in the order in which they came; if statuses are given, only those jobs."""

    def find(self, key: str) -> JobRecord | None:
        """Return the record of a key; None if there is none."""

    def find_task(self, task_id: str) -> JobRecord | None:
        """Return the job whose latest task this is; None if there is none."""

    def totals(self) -> LedgerTotals:
        """Return the sums over all jobs."""

    @property
    def output_dir(self) -> str | None:
        """The folder or the address of the clips; None before any client."""


def queued(call: Callable[[_A], Awaitable[_T]], argument: _A) -> Awaitable[_T]:
    """Call a method of a store. What it raises at the call, although no store should, is raised when it is awaited."""
    try:
        return call(argument)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - one row must not end the other jobs
        return _Failed(error)


class _Failed:
    """An awaitable that raises."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __await__(self) -> Generator[None, None, Any]:
        raise self._error
        yield  # makes this method a generator, as `await` requires


def merge_accepted(stored: JobRecord, accepted: JobRecord) -> JobRecord:
    """Return what a row becomes when the server has accepted its job under `accepted.task_id`.

    Normally that is `accepted` itself. If the row's status has moved on (a later decision, or another process, changed
    it), the status stays and only the facts are added. If the row has another task, or is being submitted under another
    idempotency key by now, the task id goes to `previous_task_ids`: no task that may be billed is forgotten.
    """
    task_id = accepted.task_id
    assert task_id is not None
    is_other_attempt = stored.idempotency_key not in {"", accepted.idempotency_key}
    if is_other_attempt or stored.task_id not in {None, task_id}:
        if task_id in (stored.task_id, *stored.previous_task_ids):
            return stored
        return replace(stored, previous_task_ids=(*stored.previous_task_ids, task_id))
    if stored.status in _NOT_ACCEPTED:
        return accepted
    accepted_at, submits = stored.accepted_at or accepted.accepted_at, max(stored.submits, accepted.submits)
    return replace(stored, task_id=task_id, accepted_at=accepted_at, submits=submits)
