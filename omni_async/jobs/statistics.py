"""Totals over jobs: `Statistics` of one client, `LedgerTotals` of a ledger, and `JobTotals`, which counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Self

from .lifecycle import JobStatus
from .spending import Spending, may_be_billed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..errors import OmniError
    from .records import JobRecord

_UNRESOLVED = (JobStatus.UNKNOWN, JobStatus.TIMED_OUT, JobStatus.DOWNLOAD_FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The totals of one client since it was opened, as a snapshot.

    Jobs, each key counted once: `waiting` (recorded, not accepted yet), `in_flight` (accepted, not finished on the
    server), `downloading`, `completed`, `failed`, `unresolved` (unknown, timed out, download failed or cancelled).

    Requests: `submits` (POSTs), `rate_limited` (POSTs answered with 429), `ambiguous_submits` (POSTs that the server
    may or may not have accepted), `checks`, `bytes_downloaded` (of clips).

    Money: `cost` in USD and `credits`, as the server reported them.

    Limits that were learned, None until one was found: `learned_submits_per_minute`, `learned_max_in_flight` (tasks at
    the same time) and `learned_max_downloads` (downloads at the same time; more would bring nothing, as measured so
    far). `stop_reason` says why submissions stopped; "" while they continue.
    """

    waiting: int = 0
    in_flight: int = 0
    downloading: int = 0
    completed: int = 0
    failed: int = 0
    unresolved: int = 0
    submits: int = 0
    rate_limited: int = 0
    ambiguous_submits: int = 0
    checks: int = 0
    bytes_downloaded: int = 0
    cost: float = 0.0
    credits: float = 0.0
    learned_submits_per_minute: float | None = None
    learned_max_in_flight: int | None = None
    learned_max_downloads: int | None = None
    stop_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTotals:
    """The totals over all jobs of a ledger.

    `jobs` is their number, `by_status` counts them by status. `submits` counts POSTs, `ambiguous_submits` those that
    the server may or may not have accepted, and `possibly_paid_twice` the jobs for which
    `JobRecord.possibly_paid_twice` is true. `cost` is in USD, `credits` as the server reported them.
    """

    jobs: int
    by_status: dict[JobStatus, int]
    submits: int
    ambiguous_submits: int
    possibly_paid_twice: int
    cost: float
    credits: float

    @classmethod
    def of(cls, by_status: Mapping[JobStatus, int], sums: Iterable[float]) -> Self:
        """Return the totals from the number of jobs of each status, and the sums of the other fields in their order.

        Raise `ValueError` if a sum is not finite.
        """
        submits, ambiguous, paid_twice, cost, credit = map(float, sums)
        if not all(map(isfinite, (submits, ambiguous, paid_twice, cost, credit))):
            raise ValueError("a sum over its jobs is not finite")
        return cls(
            jobs=sum(by_status.values()),
            by_status={status: by_status[status] for status in JobStatus if by_status.get(status)},
            submits=int(submits),
            ambiguous_submits=int(ambiguous),
            possibly_paid_twice=int(paid_twice),
            cost=round(cost, 6),
            credits=round(credit, 6),
        )


# Keys of ended jobs that are remembered: 2 MB. A key that comes again later is counted as another job.
_REMEMBERED = 10_000


class JobTotals:
    """Counts jobs, requests and money while they change. Owned by the registry of one client."""

    def __init__(self) -> None:
        self.counts: Counter[JobStatus] = Counter()
        self.cost: float = 0.0  # USD, since the client was opened
        self.spending: Spending = Spending()  # also of earlier runs, where a cost limit asks for it
        self._credits = 0.0
        # The last status of each key, so that a key is counted once: of live jobs, and of those that ended last.
        self._statuses: dict[str, JobStatus] = {}
        self._ended: dict[str, JobStatus] = {}
        self._requests: Counter[str] = Counter()

    def set_status(self, key: str, status: JobStatus) -> None:
        """Count a job under its status, and no longer under the one before."""
        before = self._statuses.get(key) or self._ended.pop(key, None)
        if before is not None:
            self.counts[before] -= 1
        self._statuses[key] = status
        self.counts[status] += 1

    def add_new(self, key: str, status: JobStatus) -> None:
        """Count a job unless its key is counted already."""
        if (ended := self._ended.pop(key, None)) is not None:
            self._statuses[key] = ended
        elif key not in self._statuses:
            self.set_status(key, status)

    def discard(self, key: str) -> None:
        """Count a key no longer."""
        self.counts[self._statuses.pop(key)] -= 1

    def end(self, key: str) -> None:
        """Forget the key of a job that has its outcome, and go on counting the job.

        The last ones are remembered for a while: a program may submit them again, for their clips.
        """
        status = self._statuses.pop(key, None)
        if status is not None:
            self._ended[key] = status
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def record_change(self, before: JobRecord, after: JobRecord) -> None:
        """Add what a change of a record means in requests and money."""
        self._requests["submits"] += after.submits - before.submits
        self._requests["ambiguous_submits"] += after.ambiguous_submits - before.ambiguous_submits
        self._credits += (after.credits or 0.0) - (before.credits or 0.0)
        if (after.cost, after.previous_cost) == (before.cost, before.previous_cost) and may_be_billed(
            after.status, after.task_id
        ) == may_be_billed(before.status, before.task_id):
            return
        spent, less = Spending.of(after), Spending.of(before)
        self.spending += spent - less
        self.cost += spent.paid - less.paid

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter of `Statistics`: rate_limited, checks, bytes_downloaded."""
        self._requests[name] += number

    @property
    def bytes_downloaded(self) -> int:
        """The bytes of clips that were received."""
        return self._requests["bytes_downloaded"]

    @property
    def awaits_prices(self) -> bool:
        """Whether the server may still report the cost of a job: of one that it runs, or that it may have accepted."""
        return bool(self.counts[JobStatus.RUNNING] or self.counts[JobStatus.SUBMITTING])

    def statistics(
        self,
        *,
        learned_submits_per_minute: float | None,
        learned_max_in_flight: int | None,
        learned_max_downloads: int | None,
        stopped: OmniError | None,
    ) -> Statistics:
        """Return a snapshot, with the limits that were learned and why submissions stopped."""
        counts, requests = self.counts, self._requests
        return Statistics(
            waiting=counts[JobStatus.WAITING] + counts[JobStatus.SUBMITTING],
            in_flight=counts[JobStatus.RUNNING],
            downloading=counts[JobStatus.DOWNLOADING],
            completed=counts[JobStatus.COMPLETED],
            failed=counts[JobStatus.FAILED],
            unresolved=sum(counts[status] for status in _UNRESOLVED),
            submits=requests["submits"],
            rate_limited=requests["rate_limited"],
            ambiguous_submits=requests["ambiguous_submits"],
            checks=requests["checks"],
            bytes_downloaded=self.bytes_downloaded,
            cost=round(self.cost, 6),
            credits=round(self._credits, 6),
            learned_submits_per_minute=learned_submits_per_minute,
            learned_max_in_flight=learned_max_in_flight,
            learned_max_downloads=learned_max_downloads,
            stop_reason="" if stopped is None else str(stopped),
        )
