"""What webhooks do to the plan of looks: a call brings one forward, and trust in calls puts the others off."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ..jobs.lifecycle import JobStatus
from .webhook_reliability import WebhookCalls, WebhookReliability

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..timing import Clock
    from .tracked_job import TrackedJob
    from .webhook import WebhookReceiver


class WebhookHints:
    """Finds the watch that a call is about; one that is on the queue already gets its new place by a fresh copy."""

    def __init__(self, webhook: WebhookReceiver, plan: Callable[[TrackedJob], None], clock: Clock) -> None:
        self.reliability: WebhookReliability = WebhookReliability()
        self._webhook = webhook
        self._reschedule = plan
        self._clock = clock
        self._tracked: WeakValueDictionary[str, TrackedJob] = WeakValueDictionary()  # by task_id

    def track(self, tracked: TrackedJob) -> None:
        """Let a job be called for from now on; perhaps it has been already."""
        task_id, now = str(tracked.job.task_id), self._clock.now()
        if self._webhook.expects(tracked.job.record):
            tracked.webhook_calls = WebhookCalls(is_expected=True)
        tracked.cost_factor = self.reliability.cost_factor
        self._tracked[task_id] = tracked
        if self.reliability.take_unmatched(task_id):
            tracked.webhook_calls = tracked.webhook_calls or WebhookCalls(is_expected=False)
            tracked.webhook_calls.record_call(now)

    def on_call(self, task_id: str) -> None:
        """Look at a task soon, because somebody says that it has ended; an unknown one costs nothing."""
        now = self._clock.now()
        watch = self._tracked.get(task_id)
        if watch is None or watch.job.status is not JobStatus.RUNNING:
            self.reliability.record_unmatched(task_id, now)
            return
        watch.webhook_calls = watch.webhook_calls or WebhookCalls(is_expected=False)
        if watch.webhook_calls.record_call(now) and not watch.is_being_checked:
            fresh = self._tracked[task_id] = watch.replace()
            self._reschedule(fresh)

    def observe_unfinished(self, tracked: TrackedJob) -> None:
        """Take note of a look that has found a job unfinished."""
        tracked.cost_factor = self.reliability.cost_factor
        if tracked.webhook_calls is not None:
            tracked.webhook_calls.record_unfinished()

    def cost_factor(self, tracked: TrackedJob) -> float:
        """Give how many times its cost an ordinary look at this job is thought to have.

        No look is put off any more once trust has grown: hooks that come are seen at once, those that are lost only
        by a look, so trust would grow on what has come alone (measured with every second hook lost and all jobs begun
        together: 52 s late in place of 2). Where trust has fallen, it comes forward.
        """
        is_expected = tracked.webhook_calls is not None and tracked.webhook_calls.is_expected
        return min(tracked.cost_factor, self.reliability.cost_factor) if is_expected else 1.0
