"""`TrackedJob`: a job in flight, and what its checks have shown so far. All of the polling stage uses it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..jobs.job import JobState
    from .planner import CheckHistory
    from .webhook_reliability import WebhookCalls


@dataclass(slots=True, weakref_slot=True, eq=False)
class TrackedJob:
    """A job that was accepted and is checked until it finishes. Times are of the event loop's clock."""

    job: JobState
    accepted_at: float
    history: CheckHistory  # what the planner has learned about it
    had_timed_out: bool  # when tracking began; it still gets one conclusive check
    not_before: float = 0.0  # no routine check before this time; a webhook call may come first
    inconclusive_since: float = 0.0  # the first of the inconclusive checks in a row
    inconclusive_checks: int = 0  # in a row
    not_found_checks: int = 0  # in a row
    denied_checks: int = 0  # in a row
    checks_without_url: int = 0  # that showed the task finished, but no URL
    without_url_since: float = 0.0  # the first of these
    webhook_calls: WebhookCalls | None = None  # None if no call is expected and none was received
    cost_factor: float = 1.0  # `WebhookReliability.cost_factor` at the last check
    is_being_checked: bool = False  # then it is not in the queue
    is_superseded: bool = False  # `replace` has put another object in its place

    @property
    def is_external(self) -> bool:
        """Whether it was submitted elsewhere. Then a 404 is not a delay after acceptance, but the truth."""
        return not self.job.record.request

    @property
    def has_probably_ended(self) -> bool:
        """Whether the last check or a webhook call says that it has ended, although there is no URL of a video yet."""
        return self.checks_without_url > 0 or (self.webhook_calls is not None and self.webhook_calls.is_reported)

    def record_inconclusive(self, now: float, *, is_not_found: bool) -> None:
        """Record a check that said nothing about the task, or (`is_not_found`) that the server does not know it."""
        self.inconclusive_checks += 1
        self.inconclusive_since = now if self.inconclusive_checks == 1 else self.inconclusive_since
        self.not_found_checks = self.not_found_checks + 1 if is_not_found else 0

    def record_missing_url(self, now: float) -> None:
        """Record a check that showed the task finished, but no URL."""
        self.checks_without_url += 1
        self.without_url_since = now if self.checks_without_url == 1 else self.without_url_since

    def age(self, now: float) -> float:
        """Return the seconds since the server accepted it."""
        return now - self.accepted_at

    def replace(self) -> TrackedJob:
        """Return a copy that takes the place of this object, whose entry in the queue is obsolete from now on."""
        fresh = replace(self)
        self.is_superseded = True
        return fresh


def resume_hint(job: JobState) -> str:
    """Return the part of a message that says what to do about a job that is no longer tracked."""
    return f"task {job.task_id} may still be running; resume or attach follows it again, without paying"
