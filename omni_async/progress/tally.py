"""`EventTally`: counts jobs and money from events alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from omni_async import EventKind, JobStatus

if TYPE_CHECKING:
    from omni_async import JobEvent

_ENDED_WITHOUT_CLIP = frozenset(
    {JobStatus.FAILED, JobStatus.UNKNOWN, JobStatus.TIMED_OUT, JobStatus.DOWNLOAD_FAILED, JobStatus.CANCELLED}
)


class EventTally:
    """The jobs that events were about since it was made, each key counted once."""

    def __init__(self) -> None:
        self.cost: float = 0.0  # USD, charged since the first event
        self.already_complete: int = 0  # jobs that were complete before, and are counted as completed
        self._statuses: dict[str, JobStatus] = {}
        self._counts: Counter[JobStatus] = Counter()
        self._charged: dict[str, float] = {}
        self._abandoned: set[str] = set()  # keys: this client has given them up

    def add(self, event: JobEvent) -> None:
        """Count an event."""
        is_first = event.key not in self._statuses
        before = self._statuses.get(event.key)
        if before is not event.status:
            if before is not None:
                self._counts[before] -= 1
            self._counts[event.status] += 1
            self._statuses[event.key] = event.status
        if is_first:
            self.already_complete += event.status is JobStatus.COMPLETED
        self._add_cost(event, is_first=is_first)
        if event.kind is EventKind.ABANDONED:
            self._abandoned.add(event.key)
        else:
            self._abandoned.discard(event.key)

    def _add_cost(self, event: JobEvent, *, is_first: bool) -> None:
        cost, charged = event.cost or 0.0, self._charged.get(event.key, 0.0)
        if cost != charged:
            self._charged[event.key] = cost  # 0 again after a resubmit: what comes then is charged in addition
            self.cost += 0.0 if is_first else max(0.0, cost - charged)

    @property
    def total(self) -> int:
        """Number of jobs."""
        return len(self._statuses)

    @property
    def completed(self) -> int:
        """Number of jobs whose clip is on disk."""
        return self._counts[JobStatus.COMPLETED]

    @property
    def failed(self) -> int:
        """Number of jobs that ended without a clip, for whatever reason."""
        return sum(self._counts[status] for status in _ENDED_WITHOUT_CLIP)

    @property
    def running(self) -> int:
        """Number of jobs that the server is working on."""
        return self._counts[JobStatus.RUNNING]

    @property
    def downloading(self) -> int:
        """Number of jobs whose clip is being transferred."""
        return self._counts[JobStatus.DOWNLOADING]

    @property
    def has_abandoned(self) -> bool:
        """Whether the client has abandoned some of the jobs."""
        return bool(self._abandoned)

    @property
    def is_active(self) -> bool:
        """Whether more events are to come."""
        return sum(number for status, number in self._counts.items() if not status.is_final) > len(self._abandoned)
