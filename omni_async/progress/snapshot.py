"""`RunSnapshot`: what a display shows of a run at one moment; `CachedForecast`: when the run will be done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omni_async import EventKind, Forecast

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async import JobEvent


# Shown in any case; the other kinds, which are single requests, only if they failed.
_ALWAYS_SHOWN = frozenset({EventKind.STATUS, EventKind.PROGRESS})

# Seconds between two forecasts. A forecast is a numerical search over the jobs in flight, too costly for every redraw,
# and an estimate that changes faster cannot be read. Twice as often doubles that cost for nothing that can be seen;
# half as often lets the displayed time left lag by two seconds. Chosen, not measured.
_FORECAST_INTERVAL = 1.0


@dataclass(frozen=True, kw_only=True)
class RunSnapshot:
    """A run at one moment. Durations in seconds, costs in USD; None for what is not known yet.

    `per_minute` is how many clips a minute were completed so far. `seconds_left` and `projected_cost` are estimates of
    the time until the end and of the cost at the end. `learned_submits_per_minute` and `learned_max_in_flight` are the
    limits that the account has shown, `learned_max_downloads` is how many concurrent downloads add throughput. With
    `is_ended`, nothing more happens.
    """

    total: int
    completed: int
    failed: int
    running: int
    downloading: int
    cost: float
    elapsed: float
    per_minute: float | None = None
    seconds_left: float | None = None
    projected_cost: float | None = None
    learned_submits_per_minute: float | None = None
    learned_max_in_flight: int | None = None
    learned_max_downloads: int | None = None
    is_stopped: bool = False
    is_ended: bool = False
    last_event: JobEvent | None = None

    @property
    def finished(self) -> int:
        """Number of jobs in a final status."""
        return self.completed + self.failed

    @property
    def waiting(self) -> int:
        """Number of jobs that are not accepted yet, submitted or not."""
        return max(0, self.total - self.finished - self.running - self.downloading)


class CachedForecast:
    """The time since a run began, and the forecast of its end, which is made at most once a second."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at = clock()
        self._made_at = -_FORECAST_INTERVAL
        self._forecast = Forecast()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._started_at

    def get(self, forecast: Callable[[int], Forecast], upcoming: int) -> Forecast:
        """Return the present forecast, with `upcoming` jobs that the client has not received yet."""
        if self.elapsed - self._made_at >= _FORECAST_INTERVAL:
            self._made_at = self.elapsed
            self._forecast = forecast(upcoming)
        return self._forecast

    def per_minute(self, completed: int) -> float | None:
        """Return how many clips a minute were completed since the run began; None before the first."""
        return 60 * completed / self.elapsed if completed and self.elapsed > 0 else None


def is_step(event: JobEvent) -> bool:
    """Return whether an event is a step of its job, or a request that failed."""
    return event.kind in _ALWAYS_SHOWN or bool(event.error)


def is_shown(event: JobEvent) -> bool:
    """Return whether a display shows an event: a step, or the share of a clip that was downloaded so far."""
    is_part = event.kind is EventKind.DOWNLOAD_PROGRESS and event.bytes_received < (event.bytes_total or 0)
    return is_part or is_step(event)
