"""What is known of a run while it goes on: told by events and sums, cheap for thousands of jobs."""

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


_OPEN = frozenset({"running", "downloading", "timed_out", "download_failed"})
_LOUD = frozenset({EventKind.STATUS, EventKind.PROGRESS})  # told in any case; of requests, what went wrong with them
_FORECAST_EVERY = 1.0  # seconds: an estimate that changes faster is read by nobody


class RunObserver:
    """Hears every event, and keeps what a display and the last words need: the last one, and what is on the server.

    It begins with what the ledger knew before the run.
    """

    def __init__(self, tell: Callable[[JobEvent], object] | None = None, before: RecordedJobs | None = None) -> None:
        self._tell = tell
        self.last: JobEvent | None = None
        self.accepted: set[str] = set(before.accepted if before else ())  # keys: accepted, and not yet on disk
        self.in_doubt: set[str] = set(before.in_doubt if before else ())  # keys: sent, and not answered yet

    def hear(self, event: JobEvent) -> None:
        """Take in one event."""
        if event.kind in _LOUD or event.error:
            self.last = event
            if self._tell is not None:
                self._tell(event)
        elif event.kind is EventKind.DOWNLOAD_PROGRESS and event.bytes_received < (event.bytes_total or 0):
            self.last = event
        if event.task_id is not None and event.status in _OPEN:
            self.accepted.add(event.key)
        else:
            self.accepted.discard(event.key)
        if event.status == "submitting":
            self.in_doubt.add(event.key)
        else:
            self.in_doubt.discard(event.key)


@dataclass(frozen=True, kw_only=True)
class RunSnapshot:
    """One moment of a run. Seconds; what is None cannot be told yet.

    `left` and `projected` are expected (until the end, and in USD at the end); `per_minute` and `at_once` are the
    limits that were found.
    """

    total: int
    done: int
    failed: int
    running: int
    downloading: int
    cost: float
    elapsed: float
    left: float | None = None
    projected: float | None = None
    per_minute: float | None = None
    at_once: int | None = None
    is_stopped: bool = False
    last: JobEvent | None = None

    @property
    def ended(self) -> int:
        """Jobs about which nothing more will happen."""
        return self.done + self.failed

    @property
    def waiting(self) -> int:
        """Jobs not accepted yet, submitted or not."""
        return max(0, self.total - self.ended - self.running - self.downloading)


class RunProgress:
    """Turns snapshots into views: knows when the run began, and what is expected of it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._asked_at = -_FORECAST_EVERY
        self._forecast = Forecast()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._began

    def view(
        self,
        tally: RunTotals,
        sums: Statistics,
        foresee: Callable[[int], Forecast] = lambda _: Forecast(),
        last: JobEvent | None = None,
    ) -> RunSnapshot:
        """Give the run as it stands now; `foresee` tells what is expected, with so many jobs that are still to come."""
        if self.elapsed - self._asked_at >= _FORECAST_EVERY:
            self._asked_at = self.elapsed
            self._forecast = foresee(_upcoming(tally, sums))
        return RunSnapshot(
            total=tally.total,
            done=tally.done,
            failed=tally.failed + tally.unknown,
            running=sums.in_flight,
            downloading=sums.downloading,
            cost=sums.cost,
            elapsed=self.elapsed,
            left=self._forecast.seconds_left,
            projected=self._forecast.cost,
            per_minute=sums.learned_submits_per_minute,
            at_once=sums.learned_max_in_flight,
            is_stopped=bool(sums.stop_reason),
            last=last,
        )


def _upcoming(tally: RunTotals, sums: Statistics) -> int:
    """Give how many jobs of the run the client does not have yet, without those that were done before it."""
    known = sums.waiting + sums.in_flight + sums.downloading + sums.completed + sums.failed + sums.unresolved
    return max(0, tally.to_make - max(0, known - tally.there))
