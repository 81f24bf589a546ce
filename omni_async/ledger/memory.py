"""The ledger in memory: it lasts as long as its client, and no change has to be waited for.

Used by a client with `ledger=None` and by `omni_async.testing`.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

from ..jobs.filenames import FileNames
from ..jobs.lifecycle import NOT_RESUMABLE
from ..jobs.spending import Spending
from ..jobs.store import RecordPage, merge_accepted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

    from ..jobs.records import JobRecord
    from ..models.reference_files import Upload


_T = TypeVar("_T")


class MemoryJobStore:
    """The `JobStore` port over a dict. Each change is made at the call."""

    def __init__(self) -> None:
        self._records: dict[str, JobRecord] = {}  # in the order in which they came; none is ever removed
        self._names = FileNames()
        self._facts: dict[str, str] = {}
        self._uploads: dict[tuple[str, str], Upload] = {}

    async def open(self) -> None:
        """Do nothing: there is nothing to open."""

    def insert(self, record: JobRecord) -> _Completed[JobRecord | None]:
        """Record a new job, or return the record that has the same key or task already."""
        existing = self._records.get(record.key) or self._find_by_task(record)
        if existing is None:
            self._records[record.key] = record
            self._names.claim(record.key, name=record.name)
        return _Completed(existing)

    def save(self, record: JobRecord) -> _Completed[None]:
        """Record a job's present state."""
        self._records[record.key] = record
        return _Completed(None)

    def record_accepted(self, record: JobRecord) -> _Completed[None]:
        """Record that the server accepted a job, whatever its record says by now."""
        stored = self._records.get(record.key)
        self._records[record.key] = record if stored is None else merge_accepted(stored, record)
        return _Completed(None)

    def find(self, key: str) -> _Completed[JobRecord | None]:
        """Return the record of a key."""
        return _Completed(self._records.get(key))

    def claim_filename(self, key: str, index: int, *, taken: str = "") -> Awaitable[str]:
        """Return the file name of video number `index` of a job."""
        record = self._records.get(key)
        return _Completed(self._names.claim(key, index, taken=taken, name=record.name if record else None))

    def unfinished(self, after: int = 0, limit: int = 1000) -> _Completed[RecordPage]:
        """Return the next jobs with something left to do, oldest first."""
        found: list[JobRecord] = []
        for position, record in enumerate(islice(self._records.values(), after, None), start=after + 1):
            if record.status not in NOT_RESUMABLE:
                found.append(record)
                if len(found) == limit:
                    return _Completed(RecordPage(found, position))
        return _Completed(RecordPage(found, None))

    def spending(self) -> _Completed[Spending]:
        """Return what all jobs have cost so far."""
        return _Completed(sum((Spending.of(record) for record in self._records.values()), Spending()))

    def durations(self) -> _Completed[list[JobRecord]]:
        """Return the jobs whose duration on the server is known, oldest first."""
        return _Completed([record for record in self._records.values() if record.server_seconds is not None])

    def find_upload(self, server: str, digest: str) -> _Completed[Upload | None]:
        """Return the last upload of a content to a server."""
        return _Completed(self._uploads.get((server, digest)))

    def save_upload(self, server: str, digest: str, upload: Upload) -> _Completed[None]:
        """Record an upload."""
        self._uploads[server, digest] = upload
        return _Completed(None)

    def forget_upload(self, url: str) -> _Completed[None]:
        """Delete an upload by its URL."""
        self._uploads = {name: upload for name, upload in self._uploads.items() if upload.url != url}
        return _Completed(None)

    def set_fact(self, name: str, value: str) -> _Completed[None]:
        """Record a fact under a name, replacing the previous one."""
        self._facts[name] = value
        return _Completed(None)

    def get_fact(self, name: str) -> _Completed[str | None]:
        """Return the fact of a name."""
        return _Completed(self._facts.get(name))

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""

    def _find_by_task(self, record: JobRecord) -> JobRecord | None:
        if record.request or record.task_id is None:
            return None
        return next((each for each in self._records.values() if each.task_id == record.task_id), None)


class _Completed(Generic[_T]):
    """An awaitable whose value is there already."""

    __slots__ = ("_value",)

    def __init__(self, value: _T) -> None:
        self._value = value

    def __await__(self) -> Generator[None, None, _T]:
        return self._value
        yield  # makes this method a generator, as `await` requires
