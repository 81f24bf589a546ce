"""The state of a run while it is in progress, derived from events and statistics cheaply enough for thousands of jobs.

`RunObserver` receives the client's events, `RunProgress` combines them with the statistics into a `RunSnapshot`, and
the display shows that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from omni_async import Forecast

from ..progress.snapshot import CachedForecast, RunSnapshot, is_shown, is_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async import JobEvent, Statistics

    from .ledger import RecordedJobs
    from .results import RunTotals


_ON_SERVER = frozenset({"running", "downloading", "timed_out", "download_failed"})


class RunObserver:
    """Receives every event and keeps what display and summary need: the last one, and which jobs are on the server.

    It starts from what the ledger recorded before the run.
    """

    def __init__(
        self, report: Callable[[JobEvent], object] | None = None, recorded: RecordedJobs | None = None
    ) -> None:
        self._report = report
        self.last_event: JobEvent | None = None
        self.accepted: set[str] = set(recorded.accepted if recorded else ())  # keys: accepted, clip not on disk yet
        self.ambiguous: set[str] = set(recorded.ambiguous if recorded else ())  # keys: sent, no response yet

    def on_event(self, event: JobEvent) -> None:
        """Process one event."""
        if is_shown(event):
            self.last_event = event
        if self._report is not None and is_step(event):
            self._report(event)
        if event.task_id is not None and event.status in _ON_SERVER:
            self.accepted.add(event.key)
        else:
            self.accepted.discard(event.key)
        if event.status == "submitting":
            self.ambiguous.add(event.key)
        else:
            self.ambiguous.discard(event.key)


class RunProgress:
    """Makes snapshots of a run; knows when the run began, and caches the forecast."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._forecast = CachedForecast(clock=clock)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._forecast.elapsed

    def snapshot(
        self,
        totals: RunTotals,
        statistics: Statistics,
        forecast: Callable[[int], Forecast] = lambda _: Forecast(),
        last_event: JobEvent | None = None,
    ) -> RunSnapshot:
        """Return the current state of the run.

        `forecast` is called at most once a second, with the number of jobs that the client has not received yet.
        """
        expected = self._forecast.get(forecast, _upcoming(totals, statistics))
        return RunSnapshot(
            total=totals.total,
            completed=totals.completed,
            failed=totals.failed + totals.unknown,
            running=statistics.in_flight,
            downloading=statistics.downloading,
            cost=statistics.cost,
            elapsed=self.elapsed,
            per_minute=self._forecast.per_minute(totals.completed - totals.already_complete),
            seconds_left=expected.seconds_left,
            projected_cost=expected.cost,
            learned_submits_per_minute=statistics.learned_submits_per_minute,
            learned_max_in_flight=statistics.learned_max_in_flight,
            learned_max_downloads=statistics.learned_max_downloads,
            is_stopped=bool(statistics.stop_reason),
            last_event=last_event,
        )


def _upcoming(totals: RunTotals, statistics: Statistics) -> int:
    """Return how many jobs of the run the client has not received yet, without those completed before the run."""
    active = statistics.waiting + statistics.in_flight + statistics.downloading
    received = active + statistics.completed + statistics.failed + statistics.unresolved
    return max(0, totals.incomplete_before - max(0, received - totals.already_complete))
