"""A job being followed, and what its looks have come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._core.cadence import Course
    from ._job import Job


@dataclass(slots=True, eq=False)
class Watch:
    """A job being followed since it was accepted. Times are of the loop's clock."""

    job: Job
    since: float
    course: Course
    is_late: bool  # its time was over when it was taken up
    rests_until: float = 0.0  # after a look that has shown nothing
    missed_since: float = 0.0
    misses: int = 0
    not_found: int = 0
    linkless: int = 0

    @property
    def is_foreign(self) -> bool:
        """True where it was submitted elsewhere: a 404 for it is the truth, not a delay."""
        return not self.job._record.request

    def age(self, now: float) -> float:
        """Give for how long the server has had it."""
        return now - self.since
