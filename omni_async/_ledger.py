"""The record of every job. This is its form in memory: it lasts as long as the client does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from ._core.lifecycle import JobStatus

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._core.record import JobRecord

_T = TypeVar("_T")

_NOTHING_LEFT_TO_DO = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.UNKNOWN})


class MemoryLedger:
    """Keeps records in a dict: each change is made at the call, and nothing is left to wait for."""

    def __init__(self) -> None:
        self._records: dict[str, JobRecord] = {}

    def insert(self, record: JobRecord) -> _Sure[JobRecord | None]:
        """Record a new job, or give the one that has its key already."""
        existing = self._records.setdefault(record.key, record)
        return _Sure(None if existing is record else existing)

    def save(self, record: JobRecord) -> _Sure[None]:
        """Record how a job stands now."""
        self._records[record.key] = record
        return _Sure(None)

    def find(self, key: str) -> _Sure[JobRecord | None]:
        """Give what is recorded under a key."""
        return _Sure(self._records.get(key))

    def unfinished(self) -> list[JobRecord]:
        """Give the jobs with something left to do, oldest first."""
        return [record for record in self._records.values() if record.status not in _NOTHING_LEFT_TO_DO]

    async def aclose(self) -> None:
        """Let go of nothing: there is nothing to make sure."""


class _Sure(Generic[_T]):
    """What is so already, for those who await it."""

    __slots__ = ("_value",)

    def __init__(self, value: _T) -> None:
        self._value = value

    def __await__(self) -> Generator[None, None, _T]:
        return self._value
        yield  # makes this a generator, as `await` needs
