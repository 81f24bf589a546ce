"""Money as a ceiling: what has been paid, what is still to be billed, and whether one more job fits under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import CostLimitReached
from .lifecycle import JobStatus

if TYPE_CHECKING:
    from .records import JobRecord


DEFAULT_COST = 1.0  # USD that a clip is thought to cost as long as none has told its cost

_S = JobStatus

_MAY_BE_BILLED = frozenset(
    {_S.SUBMITTING, _S.UNKNOWN, _S.RUNNING, _S.TIMED_OUT, _S.DOWNLOADING, _S.DOWNLOAD_FAILED, _S.COMPLETED}
)


def may_be_billed(status: JobStatus, task_id: str | None) -> bool:
    """Tell whether the server has, or may have, taken a job that it does not give the money back for."""
    return status in _MAY_BE_BILLED or (status is _S.CANCELLED and task_id is not None)


@dataclass(frozen=True, slots=True)
class Spending:
    """Sums over jobs: `paid` in USD, `bills` of which the amount is known, `open` jobs whose cost is not known yet.

    Open are those that the server has, or may have, taken and that have not named a cost. A job that failed without
    one counts as free: the service gives that money back.
    """

    paid: float = 0.0
    priced_jobs: int = 0
    unpriced_jobs: int = 0

    @classmethod
    def of(cls, record: JobRecord) -> Spending:
        """Give what one job adds to the sums."""
        is_open = record.cost is None and may_be_billed(record.status, record.task_id)
        return cls(record.total_cost, int(record.total_cost > 0), int(is_open))

    def __add__(self, other: Spending) -> Spending:
        return Spending(
            self.paid + other.paid, self.priced_jobs + other.priced_jobs, self.unpriced_jobs + other.unpriced_jobs
        )

    def __sub__(self, other: Spending) -> Spending:
        return Spending(
            self.paid - other.paid, self.priced_jobs - other.priced_jobs, self.unpriced_jobs - other.unpriced_jobs
        )

    @property
    def mean_cost(self) -> float:
        """What one job costs: the mean of the bills so far, `DEFAULT_COST` before there is one."""
        return self.paid / self.priced_jobs if self.priced_jobs else DEFAULT_COST

    def fits_one_more(self, ceiling: float, *, leaving: int = 0) -> bool:
        """Tell whether what is paid, what is open, what is about to leave and one more job stay under a ceiling."""
        return self.paid + (self.unpriced_jobs + leaving + 1) * self.mean_cost <= ceiling + 1e-9


def cost_limit_reached(spent: Spending, ceiling: float) -> CostLimitReached:
    """Give the error for a ceiling that leaves no room for one more job."""
    still_open = f" and {spent.unpriced_jobs} job(s) have not named their cost" if spent.unpriced_jobs else ""
    return CostLimitReached(
        f"the cost limit of ${ceiling:.2f} leaves no room: ${spent.paid:.2f} is paid{still_open}, and one more is "
        f"thought to cost ${spent.mean_cost:.2f}. Raise the limit to go on"
    )
