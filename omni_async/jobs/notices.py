"""Which of many equal faults are reported: the first one, and then only how many there were.

`Notices` counts faults by their cause. `Outages` knows what waits for a place that fails, and reports when it works
again. Otherwise a fault that affects every job would be reported once for each, and hide everything else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

# Causes that are counted apart; any further ones are reported every time. A program has a handful: the limit only
# bounds the memory, should causes hold text that is never the same.
_MAX_CAUSES = 1000


class Notices:
    """Counts how often each cause occurred."""

    def __init__(self) -> None:
        self._counts: Counter[Hashable] = Counter()
        self._said: dict[Hashable, int] = {}

    def count(self, cause: Hashable) -> int:
        """Count a cause. Return how often it has occurred if that is to be reported now: at 1, 10, 100...; else 0."""
        if cause not in self._counts and len(self._counts) >= _MAX_CAUSES:
            return 1
        self._counts[cause] = number = self._counts[cause] + 1
        if str(number).rstrip("0") != "1":
            return 0
        self._said[cause] = number
        return number

    def clear(self) -> int:
        """Forget every cause, because the faults are over. Return how often they occurred; 0 if there were none."""
        if not self._counts:
            return 0
        total = self._counts.total()
        self._counts.clear()
        self._said.clear()
        return total

    def unsaid(self) -> Iterator[tuple[Hashable, int]]:
        """Yield each cause whose last count was not reported yet, with that count: to be reported at the end."""
        for cause, number in self._counts.items():
            if number != self._said[cause]:
                self._said[cause] = number
                yield cause, number


class Recovery(NamedTuple):
    """The end of an outage that was reported: which place, after how many seconds, and how many had waited."""

    place: str
    seconds: float
    waiters: int


@dataclass(slots=True)
class _Outage:
    since: float
    waiting: set[Hashable] = field(default_factory=set)
    waiters: int = 0  # all that have waited
    kinds: set[str] = field(default_factory=set)
    is_said: bool = False


class Outages:
    """Which waits are reported: once for each place and kind of fault, however many wait there, and its end.

    A place that fails again and again is reported at its 1st, 10th, 100th... outage. Times are seconds of one clock.
    """

    def __init__(self) -> None:
        self._notices = Notices()
        self._outages: dict[str, _Outage] = {}
        self._place_of: dict[Hashable, str] = {}

    def failed(self, waiter: Hashable, place: str, kind: str, now: float) -> bool:
        """Record that something waits for a place. Return whether that is to be reported."""
        if self._place_of.get(waiter, place) != place:
            self.gave_up(waiter)
        self._place_of[waiter] = place
        outage = self._outages.setdefault(place, _Outage(now))
        if waiter not in outage.waiting:
            outage.waiting.add(waiter)
            outage.waiters += 1
        if kind in outage.kinds:
            return False
        outage.kinds.add(kind)
        is_to_be_said = self._notices.count((place, kind)) > 0
        outage.is_said = outage.is_said or is_to_be_said
        return is_to_be_said

    def recovered(self, waiter: Hashable, now: float) -> Recovery | None:
        """Record that a place works again for one of those that waited. Return what is to be reported, if anything."""
        place, outage = self._leave(waiter)
        if outage is None or not outage.is_said:
            return None
        return Recovery(place, now - outage.since, outage.waiters)

    def place_of(self, waiter: Hashable) -> str | None:
        """Return what something waits for; None if it does not wait."""
        return self._place_of.get(waiter)

    def gave_up(self, waiter: Hashable) -> None:
        """Record that something no longer waits, for another reason."""
        self._leave(waiter)

    def _leave(self, waiter: Hashable) -> tuple[str, _Outage | None]:
        """Remove one that waits. Return its place, and the outage if it was the last one there."""
        place = self._place_of.pop(waiter, None)
        if place is None:
            return "", None
        outage = self._outages[place]
        outage.waiting.discard(waiter)
        return place, None if outage.waiting else self._outages.pop(place)


def cause_of(error: BaseException) -> tuple[str, str, int]:
    """Return what makes two exceptions the same fault: their type, and the place where they were raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    return (type(error).__name__, *place)
