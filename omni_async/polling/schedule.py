"""Which job is to be looked at when: the agenda of all that are followed, and who comes first where looks are scarce.

The agenda says when a job is to be thought about; whether it is to be looked at then, the cadence says with all it
knows at that moment. Jobs are looked at in turns, a few in a second: a loop that wakes for each of them alone needs a
quarter more CPU (benchmarks/cpu.py), and an eighth of the least gap too early or too late changes next to nothing.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from ..jobs.lifecycle import JobStatus
from .batch_answers import MOST
from .due_queue import Agenda
from .tracked_job import Watch
from .webhook_hints import Wakeups

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..settings import Polling
    from ..timing import Bell
    from .planner import Cadence
    from .webhook import Webhook


_TURNS = 4  # in `Polling.minimum`
_THOUGHTS = 64  # jobs that are thought about in a row; then others have a turn in the event loop
_MOST_PRESSURE = 16.0  # so many times may a look be worth what it is worth to its own job


class Schedule:
    """Gives the jobs that are due, and rings when one has become so. Times are of the loop's clock."""

    def __init__(
        self, polling: Polling, cadence: Cadence, bell: Bell, *, webhook: Webhook, dice: Callable[[], float]
    ) -> None:
        self.pressure: Callable[[], float] = float  # how much more a look at a job is worth to those who wait
        self.wakeups = Wakeups(webhook, self.plan)
        self._polling = polling
        self._cadence = cadence
        self._bell = bell
        self._dice = dice
        self._turn = polling.minimum / _TURNS
        self._agenda: Agenda[Watch] = Agenda(lambda watch: watch.is_void or watch.job.status is not JobStatus.RUNNING)

    def plan(self, watch: Watch) -> None:
        """Put it on the agenda."""
        watch.is_asked = False
        self._put(watch, self._due(watch))

    def opens_in(self) -> float | None:
        """Give the seconds until a job is to be thought about, 0 for now; None where there is none."""
        due = self._agenda.next_due()
        return None if due is None else max(0.0, due - _now())

    def take(self, *, is_scarce: bool) -> Watch | None:
        """Give a job that is due, of several the one first due, or worth most where looks are scarce.

        None if there is none among the first few that were to be thought about.
        """
        now = _now()
        for _ in range(_THOUGHTS):
            watch = self._agenda.take(now, self._worth if is_scarce else None)
            if watch is None:
                return None
            due = self._due(watch)
            if due <= now:
                return watch
            self._put(watch, due)
        return None

    def fellows(self, first: Watch) -> list[Watch]:
        """Give all that may be asked about in one question with this one, because they are due soon; or it alone."""
        found, others, soon = [first], list[Watch](), _now() + self._polling.minimum
        while not first.is_single and len(found) < MOST and len(others) < _THOUGHTS:
            watch = self._agenda.take(soon, None)
            if watch is None:
                break
            (others if watch.is_single or self._due(watch) > soon else found).append(watch)
        for watch in others:
            self.plan(watch)
        return found

    def _put(self, watch: Watch, due: float) -> None:
        """Put it on the agenda for its look, or for when that is to be thought about again, if it comes before."""
        now = _now()
        again = self._cadence.think_again_in(watch.course, now, followed=len(self._agenda))
        jitter = (1 + self._dice()) / 2  # else those that began together would be looked at together, again and again
        thought = self._turn * math.ceil((now + again * jitter) / self._turn)
        if self._agenda.put(watch, min(due, thought)):
            self._bell.ring()

    def _due(self, watch: Watch) -> float:
        is_called = watch.calls is not None and watch.calls.is_due
        if watch.is_single and not is_called:
            return watch.rests_until
        ease = self.wakeups.ease(watch) / watch.crowd / min(1 + self.pressure(), _MOST_PRESSURE)
        turn = self._turn * round(self._cadence.next_look(watch.course, ease=ease) / self._turn)
        due = max(watch.rests_until, turn)
        deadline = watch.since + self._polling.timeout
        due = min(due, deadline) if watch.course.seen < deadline else due  # one last look when its time is up
        return min(due, watch.calls.due_at) if watch.calls is not None and is_called else due

    def _worth(self, watch: Watch) -> float:
        """Give what a look is worth: the seconds that its job is expected to have been finished unnoticed."""
        if watch.is_single:  # as good as certainly finished
            return float("inf")
        return self._cadence.wasted(watch.course, _now())


def _now() -> float:
    return asyncio.get_running_loop().time()
