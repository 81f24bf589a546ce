"""`ProgressDisplay`: an `on_event` listener that shows the progress on a terminal or in a notebook."""

from __future__ import annotations

import asyncio
import sys
from contextvars import Context
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from omni_async import EventKind, Forecast, Statistics

from ..logs import get_logger
from .notebook import NotebookView, in_notebook
from .snapshot import CachedForecast, RunSnapshot, is_shown
from .streams import is_terminal
from .tally import EventTally

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async import JobEvent, OmniClient

_log = get_logger(__name__)

# Seconds without an unfinished job after which a run is over and the display is left as it is. A program that awaits
# one job after the other has one run. Chosen, not measured: less would draw a block for each of these jobs, more would
# delay the last state of a display.
_IDLE_SECONDS = 1.0


class ProgressView(Protocol):
    """Where snapshots are shown. `interval` is in seconds."""

    interval: float

    def place(self) -> object:
        """Return what tells one place from another: a notebook has one for each cell."""

    def show(self, snapshot: RunSnapshot) -> None:
        """Show a snapshot in place of the one before."""

    def finish(self, snapshot: RunSnapshot) -> None:
        """Show the last snapshot of a run, and leave it there."""


class ProgressDisplay:
    """Shows how many jobs are done and running, the rate, the cost and the time left::

        async with OmniClient(on_event=ProgressDisplay()) as client:
            ...

    On a terminal it redraws a few lines of stderr (which needs the extra `cli`), in a notebook the output of the
    running cell. Elsewhere, for example in a service or a pipe, it shows nothing. It is for one client at a time.

    Args:
        total: How many jobs are expected. Default: those that were submitted so far.
        on_event: A listener that gets each event, too.

    Raise `ImportError` on a terminal without rich.
    """

    def __init__(self, *, total: int | None = None, on_event: Callable[[JobEvent], object] | None = None) -> None:
        self._expected = total or 0
        self._on_event = on_event
        self._view = _choose_view()
        self._client: OmniClient | None = None
        self._run: _Run | None = None
        self._place: object = None  # where the run is shown
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, event: JobEvent) -> object:
        """Record an event."""
        if self._view is not None:
            self._take(event, self._view)
        return self._on_event(event) if self._on_event is not None else None

    def on_open(self, client: OmniClient) -> None:
        """Use the forecasts of this client. Called by the client when it opens."""
        self._client = client

    def on_close(self) -> None:
        """Leave the display as it is. Called by the client when it closes."""
        self._finish()
        self._client = None

    def _take(self, event: JobEvent, view: ProgressView) -> None:
        loop = asyncio.get_running_loop()
        if self._run is None:
            if event.kind is not EventKind.STATUS:
                return
            self._begin(loop, view)
        elif event.previous is None and event.kind is EventKind.STATUS and view.place() != self._place:
            self._move(loop, view)
        assert self._run is not None
        self._run.take(event)
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._redraw_later(view)

    def _begin(self, loop: asyncio.AbstractEventLoop, view: ProgressView) -> None:
        self._run, self._place = _Run(loop, self._client), view.place()

    def _move(self, loop: asyncio.AbstractEventLoop, view: ProgressView) -> None:
        """Continue in another cell, with a run of its own unless jobs of an earlier cell are unfinished."""
        run = self._run
        if run is not None and run.is_active:
            view.finish(self._last_snapshot(run))
            self._place = view.place()
        else:
            self._finish()
            self._begin(loop, view)

    def _redraw_later(self, view: ProgressView) -> None:
        assert self._loop is not None
        # In an empty context a notebook shows the output in the cell that is running now. In that of the client's own
        # asyncio tasks, it would be the cell that opened the client.
        self._timer = self._loop.call_later(view.interval, self._redraw, view, context=Context())

    def _redraw(self, view: ProgressView) -> None:
        self._timer = None
        run = self._run
        if run is None:
            return
        try:
            if run.is_over(self._expected):
                self._finish()
            else:
                view.show(run.snapshot(self._expected))
                self._redraw_later(view)
        except Exception:  # noqa: BLE001 - a display must never end a run that costs money
            _log.exception("the progress can no longer be shown; the jobs continue")
            self._run = self._view = None

    def _finish(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        run, self._run = self._run, None
        if run is not None and self._view is not None:
            self._view.finish(self._last_snapshot(run))

    def _last_snapshot(self, run: _Run) -> RunSnapshot:
        return replace(run.snapshot(self._expected), is_ended=True, last_event=None)


class _Run:
    """The jobs from the first event until all of them are finished."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: OmniClient | None) -> None:
        self._clock = loop.time
        self._client = client
        self._tally = EventTally()
        self._forecast = CachedForecast(clock=loop.time)
        self._cost_before = client.statistics().cost if client is not None else 0.0
        self._last_event: JobEvent | None = None
        self._idle_since: float | None = None

    def take(self, event: JobEvent) -> None:
        """Count an event."""
        self._tally.add(event)
        if is_shown(event):
            self._last_event = event
        self._idle_since = None if self._tally.is_active else self._clock()

    @property
    def is_active(self) -> bool:
        """Whether a job is unfinished."""
        return self._tally.is_active

    def is_over(self, expected: int) -> bool:
        """Return whether no job has been unfinished for a while, and none is expected."""
        is_idle = self._idle_since is not None and self._clock() - self._idle_since >= _IDLE_SECONDS
        return is_idle and self._tally.total >= expected

    def snapshot(self, expected: int) -> RunSnapshot:
        """Return the present state."""
        tally, client = self._tally, self._client
        total = max(expected, tally.total)
        statistics, forecast, is_stopped = Statistics(), Forecast(), tally.has_abandoned
        if client is not None:
            statistics, is_stopped = client.statistics(), client.stop_error is not None
            forecast = self._forecast.get(client.forecast, total - tally.total)
        return RunSnapshot(
            total=total,
            completed=tally.completed,
            failed=tally.failed,
            running=tally.running,
            downloading=tally.downloading,
            cost=tally.cost,
            elapsed=self._forecast.elapsed,
            per_minute=self._forecast.per_minute(tally.completed - tally.already_complete),
            seconds_left=forecast.seconds_left,
            projected_cost=None if forecast.cost is None else forecast.cost - self._cost_before,
            learned_submits_per_minute=statistics.learned_submits_per_minute,
            learned_max_in_flight=statistics.learned_max_in_flight,
            learned_max_downloads=statistics.learned_max_downloads,
            is_stopped=is_stopped,
            last_event=self._last_event,
        )


def _choose_view() -> ProgressView | None:
    if in_notebook():
        return NotebookView()
    if not is_terminal(sys.stderr):
        return None
    if find_spec("rich") is None:
        raise ImportError("ProgressDisplay needs rich on a terminal: pip install 'omni-async[cli]'", name="rich")
    from .terminal import TerminalView  # noqa: PLC0415 - rich is an extra, and slow to import

    return TerminalView()
