"""`RobustPlanner`: a `CheckPlanner` that, if planning fails for a job, checks that job at plain intervals.

When to check is statistics. No figure that a server reports, and no bug in the statistics, may keep a paid clip from
being fetched or end the checks of other jobs. The poller uses it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..jobs.exception_log import ExceptionLog
from ..logs import get_logger
from .planner import CheckHistory, CheckPlanner

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..models.responses import Task
    from ..settings import Polling
    from .durations import DurationDistribution

_T = TypeVar("_T")

_log = get_logger(__name__)


class RobustPlanner(CheckPlanner):
    """Plans the checks of all jobs. Where that fails, a job is checked at the longest interval."""

    def __init__(self, polling: Polling) -> None:
        super().__init__(polling)
        self._longest_gap = polling.max_interval
        self._failures = ExceptionLog(_log, "planning checks")

    def durations(self) -> DurationDistribution | None:
        """Return the durations of jobs, None if they are unknown."""
        return self._or_else(super().durations, lambda: None)

    def seed(self, model: str, seconds: float) -> None:
        """Learn how long a job took in an earlier run."""
        self._or_else(partial(super().seed, model, seconds), lambda: None)

    def begin(self, model: str, accepted_at: float, now: float, *, is_new: bool) -> CheckHistory:
        """Return the history of a job."""
        return self._or_else(
            partial(super().begin, model, accepted_at, now, is_new=is_new),
            lambda: CheckHistory(model, accepted_at, now),
        )

    def observe_running(self, history: CheckHistory, task: Task, now: float) -> None:
        """Learn from a check that found a job unfinished."""
        self._or_else(partial(super().observe_running, history, task, now), lambda: None)
        history.last_check = now

    def observe_finished(self, history: CheckHistory, task: Task, now: float) -> float | None:
        """Learn from a check that found a job finished. Return how long it took, None if unknown."""
        return self._or_else(partial(super().observe_finished, history, task, now), lambda: None)

    def next_check(self, history: CheckHistory, *, cost_factor: float = 1.0) -> float:
        """Return the time of the next check."""
        return self._finite_or_else(
            partial(super().next_check, history, cost_factor=cost_factor),
            lambda: history.last_check + self._longest_gap,
        )

    def reevaluate_in(self, history: CheckHistory, now: float, *, tracked: int) -> float:
        """Return the seconds after which `next_check` should be evaluated again."""
        return self._finite_or_else(
            partial(super().reevaluate_in, history, now, tracked=tracked), lambda: self._longest_gap
        )

    def expected_delay(self, history: CheckHistory, now: float) -> float:
        """Return for how many seconds a job is expected to be finished without having been noticed."""
        return self._finite_or_else(partial(super().expected_delay, history, now), lambda: now - history.last_check)

    def _finite_or_else(self, plan: Callable[[], float], fallback: Callable[[], float]) -> float:
        seconds = self._or_else(plan, fallback)
        return seconds if math.isfinite(seconds) else fallback()

    def _or_else(self, plan: Callable[[], _T], fallback: Callable[[], _T]) -> _T:
        try:
            return plan()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the checks
            self._failures.report(error, "planning a check failed; its job is checked at plain intervals")
            return fallback()
