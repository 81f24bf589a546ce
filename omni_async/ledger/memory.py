"""The ledger's form in memory: it lasts as long as the client does, and nothing is left to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from ..jobs.filenames import FileNames
from ..jobs.lifecycle import NOT_RESUMABLE
from ..jobs.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..jobs.records import JobRecord
    from ..models.reference_files import Upload


_T = TypeVar("_T")


class MemoryJobStore:
    """Keeps records in a dict: each change is made at the call."""

    def __init__(self) -> None:
        self._records: dict[str, JobRecord] = {}
        self._names = FileNames()
        self._facts: dict[str, str] = {}
        self._uploads: dict[tuple[str, str], Upload] = {}

    async def open(self) -> None:
        """Nothing is needed."""

    def insert(self, record: JobRecord) -> _Completed[JobRecord | None]:
        """Record a new job, or give the one that stands for the same key or task already."""
        existing = self._records.get(record.key) or self._of_same_task(record)
        if existing is None:
            self._records[record.key] = record
            self._names.claim(record.key)
        return _Completed(existing)

    def save(self, record: JobRecord) -> _Completed[None]:
        """Record how a job stands now."""
        self._records[record.key] = record
        return _Completed(None)

    def find(self, key: str) -> _Completed[JobRecord | None]:
        """Give what is recorded under a key."""
        return _Completed(self._records.get(key))

    def claim_filename(self, key: str, index: int) -> _Completed[str]:
        """Give the file name of video number `index` of a job."""
        return _Completed(self._names.claim(key, index))

    def unfinished(self) -> list[JobRecord]:
        """Give the jobs with something left to do, oldest first."""
        return [record for record in self._records.values() if record.status not in NOT_RESUMABLE]

    def spending(self) -> _Completed[Spending]:
        """Give what all jobs here have cost so far."""
        return _Completed(sum((Spending.of(record) for record in self._records.values()), Spending()))

    def durations(self) -> _Completed[list[JobRecord]]:
        """Give the jobs of which it is known how long the server took, oldest first."""
        return _Completed([record for record in self._records.values() if record.server_seconds is not None])

    def find_upload(self, server: str, digest: str) -> _Completed[Upload | None]:
        """Give the last upload of this content to a server."""
        return _Completed(self._uploads.get((server, digest)))

    def save_upload(self, server: str, digest: str, upload: Upload) -> _Completed[None]:
        """Remember an upload."""
        self._uploads[server, digest] = upload
        return _Completed(None)

    def forget_upload(self, url: str) -> _Completed[None]:
        """Forget where an upload is."""
        self._uploads = {name: upload for name, upload in self._uploads.items() if upload.url != url}
        return _Completed(None)

    def set_fact(self, name: str, value: str) -> _Completed[None]:
        """Keep a fact about the server under a name."""
        self._facts[name] = value
        return _Completed(None)

    def get_fact(self, name: str) -> _Completed[str | None]:
        """Give the fact that was kept under a name."""
        return _Completed(self._facts.get(name))

    async def aclose(self) -> None:
        """Let go of nothing: there is nothing to make sure."""

    def _of_same_task(self, record: JobRecord) -> JobRecord | None:
        if record.request or record.task_id is None:
            return None
        return next((each for each in self._records.values() if each.task_id == record.task_id), None)


class _Completed(Generic[_T]):
    """What is so already, for those who await it."""

    __slots__ = ("_value",)

    def __init__(self, value: _T) -> None:
        self._value = value

    def __await__(self) -> Generator[None, None, _T]:
        return self._value
        yield  # makes this a generator, as `await` needs
