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
        self.reliability = WebhookReliability()
        self._webhook = webhook
        self._plan = plan
        self._clock = clock
        self._watched: WeakValueDictionary[str, TrackedJob] = WeakValueDictionary()  # by task_id

    def expect(self, watch: TrackedJob) -> None:
        """Let a job be called for from now on; perhaps it has been already."""
        task_id, now = str(watch.job.task_id), self._clock.now()
        if self._webhook.expects(watch.job.record):
            watch.webhook_calls = WebhookCalls(is_expected=True)
        watch.cost_factor = self.reliability.cost_factor
        self._watched[task_id] = watch
        if self.reliability.has_heard_of(task_id):
            watch.webhook_calls = watch.webhook_calls or WebhookCalls(is_expected=False)
            watch.webhook_calls.come(now)

    def on_call(self, task_id: str) -> None:
        """Look at a task soon, because somebody says that it has ended; an unknown one costs nothing."""
        now = self._clock.now()
        watch = self._watched.get(task_id)
        if watch is None or watch.job.status is not JobStatus.RUNNING:
            self.reliability.record_unmatched(task_id, now)
            return
        watch.webhook_calls = watch.webhook_calls or WebhookCalls(is_expected=False)
        if watch.webhook_calls.come(now) and not watch.is_being_checked:
            fresh = self._watched[task_id] = watch.replace()
            self._plan(fresh)

    def observe_unfinished(self, watch: TrackedJob) -> None:
        """Take note of a look that has found a job unfinished."""
        watch.cost_factor = self.reliability.cost_factor
        if watch.webhook_calls is not None:
            watch.webhook_calls.unfinished()

    def cost_factor(self, watch: TrackedJob) -> float:
        """Give how many times its cost an ordinary look at this job is thought to have.

        No look is put off any more once trust has grown: hooks that come are seen at once, those that are lost only
        by a look, so trust would grow on what has come alone (measured with every second hook lost and all jobs begun
        together: 52 s late in place of 2). Where trust has fallen, it comes forward.
        """
        is_expected = watch.webhook_calls is not None and watch.webhook_calls.is_expected
        return min(watch.cost_factor, self.reliability.cost_factor) if is_expected else 1.0
