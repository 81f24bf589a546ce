"""What is known of a run while it goes on: told by events and sums, cheap for thousands of jobs."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omni_async import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async import JobEvent, Statistics

    from .ledger import Standing
    from .tally import Tally

_OPEN = frozenset({"running", "downloading", "overdue", "undelivered"})
_LOUD = frozenset({EventKind.CHANGE, EventKind.PROGRESS})  # told in any case; of requests, what went wrong with them
_WINDOW = 60  # samples, spaced so that they cover about the last two thirds of the run
_SPACING = 2.0  # seconds between two of them at least
_ENOUGH = 3  # jobs that must have ended within the window before it says anything


class Watch:
    """Hears every event, and keeps what a display and the last words need: the last one, and what is on the server.

    It begins with what the ledger knew before the run.
    """

    def __init__(self, tell: Callable[[JobEvent], object] | None = None, before: Standing | None = None) -> None:
        self._tell = tell
        self.last: JobEvent | None = None
        self.accepted = set(before.accepted if before else ())  # keys: accepted, and not yet on disk
        self.in_doubt = set(before.in_doubt if before else ())  # keys: sent, and not answered yet

    def hear(self, event: JobEvent) -> None:
        """Take in one event."""
        if event.kind in _LOUD or event.error:
            self.last = event
            if self._tell is not None:
                self._tell(event)
        if event.task_id is not None and event.status in _OPEN:
            self.accepted.add(event.key)
        else:
            self.accepted.discard(event.key)
        if event.status == "submitting":
            self.in_doubt.add(event.key)
        else:
            self.in_doubt.discard(event.key)


@dataclass(frozen=True, kw_only=True)
class View:
    """One moment of a run. Seconds; `left` and `per_minute` are None until they can be told."""

    total: int
    done: int
    failed: int
    running: int
    downloading: int
    cost: float
    elapsed: float
    left: float | None = None
    per_minute: float | None = None
    last: JobEvent | None = None

    @property
    def ended(self) -> int:
        """Jobs about which nothing more will happen."""
        return self.done + self.failed

    @property
    def waiting(self) -> int:
        """Jobs not accepted yet, submitted or not."""
        return max(0, self.total - self.ended - self.running - self.downloading)


class Course:
    """Turns snapshots into views: knows when the run began, and how fast it goes."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._samples: deque[tuple[float, int]] = deque(maxlen=_WINDOW)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._began

    def view(self, tally: Tally, sums: Statistics, last: JobEvent | None = None) -> View:
        """Give the run as it stands now."""
        return View(
            total=tally.total,
            done=tally.done,
            failed=tally.failed + tally.unknown,
            running=sums.in_flight,
            downloading=sums.downloading,
            cost=sums.cost,
            elapsed=self.elapsed,
            left=self._left(tally),
            per_minute=sums.submits_per_minute,
            last=last,
        )

    def _left(self, tally: Tally) -> float | None:
        """Estimate the seconds left from how many have ended lately; the wait for the first one tells nothing."""
        now, ended = self._clock(), tally.ended - tally.there
        if not ended:
            return None
        if not self._samples or now - self._samples[-1][0] >= max(_SPACING, self.elapsed / _WINDOW):
            self._samples.append((now, ended))
        since, before = self._samples[0]
        if ended - before < _ENOUGH or now - since < 2 * _SPACING:
            return None
        return max(0, tally.to_make - ended) * (now - since) / (ended - before)
