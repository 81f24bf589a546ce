"""A job being followed, and what its looks have come to."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..models.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from ..jobs.job import JobState
    from ..jobs.records import JobRecord
    from .planner import CheckHistory
    from .webhook_reliability import WebhookCalls


@dataclass(slots=True, weakref_slot=True, eq=False)
class TrackedJob:
    """A job being followed since it was accepted. Times are of the loop's clock."""

    job: JobState
    accepted_at: float
    history: CheckHistory
    had_timed_out: bool  # its time was over when it was taken up
    not_before: float = 0.0  # no look before that, unless a hook says that there is something to see
    inconclusive_since: float = 0.0
    inconclusive_checks: int = 0
    not_found_checks: int = 0
    checks_without_url: int = 0
    webhook_calls: WebhookCalls | None = None  # of webhooks; None where none is expected and none has come
    cost_factor: float = 1.0  # how far hooks were trusted at the last look
    is_being_checked: bool = False  # so it is not on the queue
    is_superseded: bool = False  # another watch stands for the job now

    @property
    def is_external(self) -> bool:
        """True where it was submitted elsewhere: a 404 for it is the truth, not a delay."""
        return not self.job.record.request

    @property
    def has_probably_ended(self) -> bool:
        """Whether the last check or a webhook says so; only the video's URL was missing."""
        return self.checks_without_url > 0 or (self.webhook_calls is not None and self.webhook_calls.is_reported)

    def record_inconclusive(self, now: float, *, is_not_found: bool) -> None:
        """Take note of a look that has shown nothing."""
        self.inconclusive_checks += 1
        self.inconclusive_since = now if self.inconclusive_checks == 1 else self.inconclusive_since
        self.not_found_checks = self.not_found_checks + 1 if is_not_found else 0

    def age(self, now: float) -> float:
        """Give for how long the server has had it."""
        return now - self.accepted_at

    def replace(self) -> TrackedJob:
        """Give a watch in place of this one, whose entry on the queue is then void."""
        fresh = replace(self)
        self.is_superseded = True
        return fresh


def model_of(record: JobRecord) -> str:
    """Give the model of a job; "" for one that was submitted elsewhere."""
    return str(json.loads(record.request).get("model", DEFAULT_MODEL)) if record.request else ""


def resume_hint(job: JobState) -> str:
    """Say that a job is not lost."""
    return f"task {job.task_id} may still be running, and can be followed again by that id"
