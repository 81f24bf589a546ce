"""Money under a limit: what is paid, what is still to be priced, and whether one more job fits. Pure values.

The registry keeps a `Spending` up to date; the submitter asks it before every submit (`Limits.max_cost`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import CostLimitReached
from ..models.amounts import plausible_usd
from .lifecycle import JobStatus

if TYPE_CHECKING:
    from .records import JobRecord

# USD that a clip is assumed to cost before the server has priced one. Documented prices go from $0.08 to $0.88 a clip
# (10 s at $0.088), so this is the safe side: half of it could exceed the limit with the most expensive clips, double
# would stop a run under a limit of $1.99 before its first submit.
DEFAULT_COST = 1.0

# What a sum of dollars may differ from the limit and still count as equal: floats, not money.
_ROUNDING = 1e-9

_S = JobStatus

_MAY_BE_BILLED = frozenset(
    {_S.SUBMITTING, _S.UNKNOWN, _S.RUNNING, _S.TIMED_OUT, _S.DOWNLOADING, _S.DOWNLOAD_FAILED, _S.COMPLETED}
)


def may_be_billed(status: JobStatus, task_id: str | None) -> bool:
    """Return whether the server accepted the job, or may have, and does not refund it."""
    return status in _MAY_BE_BILLED or (status is _S.CANCELLED and task_id is not None)


@dataclass(frozen=True, slots=True)
class Spending:
    """Sums over jobs: `paid` in USD, how many jobs are priced, and how many may be billed without a known price.

    A job that failed without a price counts as free, because the service refunds it.
    """

    paid: float = 0.0
    priced_jobs: int = 0
    unpriced_jobs: int = 0

    @classmethod
    def of(cls, record: JobRecord) -> Spending:
        """Return what one job adds to the sums."""
        cost = plausible_usd(record.cost)
        is_unpriced = cost is None and may_be_billed(record.status, record.task_id)
        paid = (cost or 0.0) + (plausible_usd(record.previous_cost) or 0.0)
        return cls(paid, int(paid > 0), int(is_unpriced))

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
        """The mean price of a job in USD; `DEFAULT_COST` before one is priced."""
        return self.paid / self.priced_jobs if self.priced_jobs else DEFAULT_COST

    def fits_one_more(self, limit: float, *, leaving: int = 0) -> bool:
        """Return whether one more job stays under `limit` (USD), besides the paid, the unpriced and `leaving` ones."""
        return self.paid + (self.unpriced_jobs + leaving + 1) * self.mean_cost <= limit + _ROUNDING


def cost_limit_reached(spending: Spending, limit: float) -> CostLimitReached:
    """Return the error for a limit under which no further job fits."""
    unpriced = f" and {spending.unpriced_jobs} job(s) are not priced yet" if spending.unpriced_jobs else ""
    return CostLimitReached(
        f"the cost limit of ${limit:.2f} leaves no room: ${spending.paid:.2f} is paid{unpriced}, and one more job is "
        f"expected to cost ${spending.mean_cost:.2f}. Raise the limit to continue"
    )
