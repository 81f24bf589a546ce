"""The state of a run while it is in progress, derived from events and statistics cheaply enough for thousands of jobs.

`RunObserver` receives the client's events, `RunProgress` combines them with the statistics into a `RunSnapshot`, and
the display shows that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omni_async import EventKind, Forecast

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async import JobEvent, Statistics

    from .ledger import RecordedJobs
    from .results import RunTotals


_ON_SERVER = frozenset({"running", "downloading", "timed_out", "download_failed"})

# Shown in any case; the other kinds, which are single requests, only if they failed.
_ALWAYS_SHOWN = frozenset({EventKind.STATUS, EventKind.PROGRESS})

# Seconds between two forecasts. A forecast is a numerical search over the jobs in flight, too costly for every redraw,
# and an estimate that changes faster cannot be read. Twice as often doubles that cost for nothing that can be seen;
# half as often lets the displayed time left lag by two seconds. Chosen, not measured.
_FORECAST_INTERVAL = 1.0


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
        if event.kind in _ALWAYS_SHOWN or event.error:
            self.last_event = event
            if self._report is not None:
                self._report(event)
        elif event.kind is EventKind.DOWNLOAD_PROGRESS and event.bytes_received < (event.bytes_total or 0):
            self.last_event = event
        if event.task_id is not None and event.status in _ON_SERVER:
            self.accepted.add(event.key)
        else:
            self.accepted.discard(event.key)
        if event.status == "submitting":
            self.ambiguous.add(event.key)
        else:
            self.ambiguous.discard(event.key)


@dataclass(frozen=True, kw_only=True)
class RunSnapshot:
    """A run at one moment. Durations in seconds, costs in USD; None for what is not known yet.

    `seconds_left` and `projected_cost` are estimates of the time until the end and of the cost at the end.
    `learned_submits_per_minute` and `learned_max_in_flight` are the limits that the account has shown.
    """

    total: int
    completed: int
    failed: int
    running: int
    downloading: int
    cost: float
    elapsed: float
    seconds_left: float | None = None
    projected_cost: float | None = None
    learned_submits_per_minute: float | None = None
    learned_max_in_flight: int | None = None
    is_stopped: bool = False
    last_event: JobEvent | None = None

    @property
    def finished(self) -> int:
        """Number of jobs in a final status."""
        return self.completed + self.failed

    @property
    def waiting(self) -> int:
        """Number of jobs that are not accepted yet, submitted or not."""
        return max(0, self.total - self.finished - self.running - self.downloading)


class RunProgress:
    """Makes snapshots of a run; knows when the run began, and caches the forecast."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at = clock()
        self._forecast_at = -_FORECAST_INTERVAL
        self._forecast = Forecast()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._started_at

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
        if self.elapsed - self._forecast_at >= _FORECAST_INTERVAL:
            self._forecast_at = self.elapsed
            self._forecast = forecast(_upcoming(totals, statistics))
        return RunSnapshot(
            total=totals.total,
            completed=totals.completed,
            failed=totals.failed + totals.unknown,
            running=statistics.in_flight,
            downloading=statistics.downloading,
            cost=statistics.cost,
            elapsed=self.elapsed,
            seconds_left=self._forecast.seconds_left,
            projected_cost=self._forecast.cost,
            learned_submits_per_minute=statistics.learned_submits_per_minute,
            learned_max_in_flight=statistics.learned_max_in_flight,
            is_stopped=bool(statistics.stop_reason),
            last_event=last_event,
        )


def _upcoming(totals: RunTotals, statistics: Statistics) -> int:
    """Return how many jobs of the run the client has not received yet, without those completed before the run."""
    active = statistics.waiting + statistics.in_flight + statistics.downloading
    received = active + statistics.completed + statistics.failed + statistics.unresolved
    return max(0, totals.incomplete_before - max(0, received - totals.already_complete))
