"""Which job is to be looked at when: the queue of all that are followed, and who comes first where looks are scarce.

The queue says when a job is to be thought about; whether it is to be looked at then, the planner says with all it
knows at that moment. Jobs are looked at in turns, a few in a second: a loop that wakes for each of them alone needs a
quarter more CPU (benchmarks/cpu.py), and an eighth of the least gap too early or too late changes next to nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..jobs.lifecycle import JobStatus
from .due_queue import DueQueue
from .webhook_hints import WebhookHints

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..settings import Polling
    from ..timing import Clock, WakeEvent
    from .planner import CheckPlanner
    from .tracked_job import TrackedJob
    from .webhook import WebhookReceiver


_TURNS = 4  # in `Polling.min_interval`
_THOUGHTS = 64  # jobs that are thought about in a row; then others have a turn in the event loop
_MOST_PRESSURE = 16.0  # so many times may a look be worth what it is worth to its own job


class CheckSchedule:
    """Gives the jobs that are due, and rings when one has become so. Times are of the loop's clock."""

    def __init__(
        self,
        polling: Polling,
        planner: CheckPlanner,
        wake: WakeEvent,
        *,
        clock: Clock,
        webhook: WebhookReceiver,
        jitter: Callable[[], float],
    ) -> None:
        self.pressure: Callable[[], float] = float  # how much more a look at a job is worth to those who wait
        self.hints: WebhookHints = WebhookHints(webhook, self.add, clock)
        self._polling = polling
        self._planner = planner
        self._wake = wake
        self._clock = clock
        self._jitter = jitter
        self._tick = polling.min_interval / _TURNS
        self._queue: DueQueue[TrackedJob] = DueQueue(
            lambda watch: watch.is_superseded or watch.job.status is not JobStatus.RUNNING
        )

    def add(self, watch: TrackedJob) -> None:
        """Put it on the queue."""
        watch.is_being_checked = False
        self._put(watch, self._due(watch))

    def delay(self) -> float | None:
        """Give the seconds until a job is to be thought about, 0 for now; None where there is none."""
        due = self._queue.next_due()
        return None if due is None else max(0.0, due - self._clock.now())

    def pop_due(self, *, is_scarce: bool) -> TrackedJob | None:
        """Give a job that is due, of several the one first due, or worth most where looks are scarce.

        None if there is none among the first few that were to be thought about.
        """
        now = self._clock.now()
        for _ in range(_THOUGHTS):
            watch = self._queue.pop(now, self._priority if is_scarce else None)
            if watch is None:
                return None
            due = self._due(watch)
            if due <= now:
                return watch
            self._put(watch, due)
        return None

    def _put(self, watch: TrackedJob, due: float) -> None:
        """Put it on the queue for its look, or for when that is to be thought about again, if it comes before."""
        now = self._clock.now()
        again = self._planner.reevaluate_in(watch.history, now, tracked=len(self._queue))
        jitter = (1 + self._jitter()) / 2  # else those that began together would be looked at together, again and again
        thought = self._tick * math.ceil((now + again * jitter) / self._tick)
        if self._queue.put(watch, min(due, thought)):
            self._wake.set()

    def _due(self, watch: TrackedJob) -> float:
        is_called = watch.webhook_calls is not None and watch.webhook_calls.is_check_due
        if watch.has_probably_ended and not is_called:
            return watch.not_before
        ease = self.hints.cost_factor(watch) / min(1 + self.pressure(), _MOST_PRESSURE)
        turn = self._tick * round(self._planner.next_check(watch.history, cost_factor=ease) / self._tick)
        due = max(watch.not_before, turn)
        deadline = watch.accepted_at + self._polling.timeout
        due = min(due, deadline) if watch.history.last_check < deadline else due  # one last look when its time is up
        return min(due, watch.webhook_calls.due_at) if watch.webhook_calls is not None and is_called else due

    def _priority(self, watch: TrackedJob) -> float:
        """Give what a look is worth: the seconds that its job is expected to have been finished unnoticed."""
        if watch.has_probably_ended:  # as good as certainly finished
            return float("inf")
        return self._planner.expected_delay(watch.history, self._clock.now())
