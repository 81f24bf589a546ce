"""`CheckSchedule`: the queue of all tracked jobs, and which of them is checked first when checks are scarce.

The poller takes from it what is due. An entry in the queue is the time at which a job is evaluated: only then does the
planner decide, with all it knows at that moment, whether to check the job now or later. Times are rounded to ticks, a
few a second, so that one wake-up of the event loop serves several jobs. A wake-up per job took a quarter more CPU
(benchmarks.cpu), and half a tick too early or too late changes the delay of detection by next to nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..jobs.exception_log import ExceptionLog
from ..jobs.lifecycle import JobStatus
from ..logs import get_logger
from .due_queue import DueQueue
from .webhook_hints import WebhookHints

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..settings import Polling
    from ..timing import Clock, WakeEvent
    from .planner import CheckPlanner
    from .tracked_job import TrackedJob
    from .webhook import WebhookReceiver

_log = get_logger(__name__)

# Ticks per `Polling.min_interval`. Half as many would move checks by up to a quarter of that interval; twice as many
# would wake the event loop more often, towards the quarter more CPU of no ticks at all.
_TICKS = 4
# Jobs evaluated in a row before other asyncio tasks run. One evaluation takes some 10 microseconds, so 64 of them hold
# up the event loop for less than a millisecond. Chosen, not measured.
_MAX_EVALUATIONS = 64
# The highest factor by which a check may be worth more because other jobs wait for the slot. By the square-root rule
# gaps shrink to a quarter at 16. Without a limit, a long queue would check every job at the minimum interval. Chosen,
# not measured.
_MAX_PRESSURE = 16.0


class CheckSchedule:
    """Returns the jobs that are due, and sets `wake` when one has become due earlier than expected.

    Times are of the event loop's clock. `jitter` returns a random number from 0 to 1.
    """

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
        # Called for each evaluation; returns how much a check is worth to the jobs that wait for a slot, in multiples
        # of what it is worth to its own job. The runtime replaces it.
        self.pressure: Callable[[], float] = float
        self.hints: WebhookHints = WebhookHints(webhook, self.add, clock)
        self._polling = polling
        self._planner = planner
        self._wake = wake
        self._clock = clock
        self._jitter = jitter
        self._failures = ExceptionLog(_log, "webhook hints")
        self._tick = polling.min_interval / _TICKS
        self._queue: DueQueue[TrackedJob] = DueQueue(
            lambda tracked: tracked.is_superseded or tracked.job.record.status is not JobStatus.RUNNING
        )

    def add(self, tracked: TrackedJob) -> None:
        """Put a job into the queue; it must not be in it."""
        tracked.is_being_checked = False
        self._put(tracked, self._due(tracked))

    def delay(self) -> float | None:
        """Return the seconds until a job is to be evaluated: 0 for now, None if there is no job."""
        due = self._queue.next_due()
        return None if due is None else max(0.0, due - self._clock.now())

    def pop_due(self, *, is_scarce: bool) -> TrackedJob | None:
        """Remove and return a job that is due for a check, None if none of the first few in the queue is.

        If checks `is_scarce`, that is one whose check is worth most, else the one due first.
        """
        now = self._clock.now()
        for _ in range(_MAX_EVALUATIONS):
            tracked = self._queue.pop(now, self._priority if is_scarce else None)
            if tracked is None:
                return None
            due = self._due(tracked)
            if due <= now:
                return tracked
            self._put(tracked, due)
        return None

    def _put(self, tracked: TrackedJob, due: float) -> None:
        """Put a job into the queue for its check, or for its next evaluation if that comes first."""
        now = self._clock.now()
        seconds = self._planner.reevaluate_in(tracked.history, now, tracked=len(self._queue))
        # Without jitter, jobs that were submitted together would be evaluated together every time.
        jitter = (1 + self._jitter()) / 2
        evaluation = self._tick * math.ceil((now + seconds * jitter) / self._tick)
        if self._queue.put(tracked, min(due, evaluation)):
            self._wake.set()

    def _due(self, tracked: TrackedJob) -> float:
        """Return when to check a job, as far as is known now."""
        calls = tracked.webhook_calls
        is_called = calls is not None and calls.is_check_due
        if tracked.has_probably_ended and not is_called:
            return tracked.not_before
        cost_factor = self._cost_factor(tracked) / min(1 + self.pressure(), _MAX_PRESSURE)
        planned = self._planner.next_check(tracked.history, cost_factor=cost_factor)
        due = max(tracked.not_before, self._tick * round(planned / self._tick))
        deadline = tracked.accepted_at + self._polling.timeout
        if tracked.history.last_check < deadline:
            due = min(due, deadline)  # one last check at the very end of `Polling.timeout`
        return min(due, calls.due_at) if calls is not None and is_called else due

    def _cost_factor(self, tracked: TrackedJob) -> float:
        try:
            return self.hints.cost_factor(tracked)
        except Exception as error:  # noqa: BLE001 - a hint must not end the checks
            text = "webhook hints failed for job %r; it is checked as without webhooks"
            self._failures.report(error, text, tracked.job.key)
            return 1.0

    def _priority(self, tracked: TrackedJob) -> float:
        """Return what a check is worth: for how many seconds its job is expected to have been finished undetected."""
        if tracked.has_probably_ended:
            return float("inf")
        return self._planner.expected_delay(tracked.history, self._clock.now())
