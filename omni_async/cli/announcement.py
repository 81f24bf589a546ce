"""What `resume` says before it sends anything: how many jobs it submits, what they may cost, and what they send."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omni_async import JobStatus

from ..formatting import format_count, format_estimated_usd
from .exposure import Exposure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from omni_async import JobRecord, LedgerTotals


# USD for a job as long as the ledger has no prices, the same that --max-cost assumes.
_DEFAULT_COST = 1.0

# Files and addresses that a line names. They are examples: the line must stay readable, `status` has all jobs.
_LISTED = 3

_DOWNLOADS = (JobStatus.DOWNLOADING, JobStatus.DOWNLOAD_FAILED)


@dataclass(slots=True)
class Announcement:
    """The jobs that a run will continue, counted by what it does with them."""

    submits: int = 0
    ambiguous: int = 0
    follows: int = 0
    downloads: int = 0
    uploading: int = 0  # jobs with local files, among those that are or may be submitted
    reporting: int = 0  # jobs with a webhook, among the same
    files: dict[str, None] = field(default_factory=dict)
    webhooks: dict[str, None] = field(default_factory=dict)

    def add(self, record: JobRecord) -> None:
        """Add a job that will be continued."""
        is_retried = record.status in {JobStatus.FAILED, JobStatus.UNKNOWN}
        if record.task_id is not None and not is_retried:
            if record.status in _DOWNLOADS:
                self.downloads += 1
            else:
                self.follows += 1
            return
        if record.status is JobStatus.SUBMITTING:
            self.ambiguous += 1
        else:
            self.submits += 1
        exposure = Exposure.of(record)
        self.uploading += bool(exposure.files)
        self.reporting += bool(exposure.webhooks)
        self.files |= dict.fromkeys(map(repr, map(str, exposure.files)))
        self.webhooks |= dict.fromkeys(exposure.webhooks)

    def lines(self, totals: LedgerTotals) -> Iterator[str]:
        """Yield the lines to print: none if nothing is submitted.

        The cost is estimated from what the clips of this ledger have cost so far.
        """
        if not self.submits + self.ambiguous:
            return
        parts = [
            f"{format_count(self.submits, 'job')} to submit ({self._cost(totals)})" if self.submits else "",
            f"{self.ambiguous:,} sent without a response" if self.ambiguous else "",
            f"{self.follows:,} to follow" if self.follows else "",
            f"{self.downloads:,} to download" if self.downloads else "",
        ]
        yield f"resuming: {', '.join(filter(None, parts))}"
        if self.uploading:
            yield f"{format_count(self.uploading, 'job')} with local files that are uploaded: {_examples(self.files)}"
        if self.reporting:
            yield f"{format_count(self.reporting, 'job')} with a webhook: {_examples(self.webhooks)}"

    def _cost(self, totals: LedgerTotals) -> str:
        completed = totals.by_status.get(JobStatus.COMPLETED, 0)
        is_priced = completed and totals.cost > 0
        return format_estimated_usd(self.submits * (totals.cost / completed if is_priced else _DEFAULT_COST))


def _examples(texts: Iterable[str]) -> str:
    """Return the first texts of a list, and how many there are besides."""
    listed = list(texts)
    more = [f"and {len(listed) - _LISTED:,} more"] if len(listed) > _LISTED else []
    return ", ".join([*listed[:_LISTED], *more])
