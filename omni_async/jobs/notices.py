"""`Notices`: which of many equal faults are to be said. The first is, and then only how many there were.

A fault that concerns every job would otherwise be said once for each, and hide everything else.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

# Causes that are counted apart; any further ones are said every time. A program has a handful: the limit only bounds
# the memory, should causes hold text that is never the same.
_MAX_CAUSES = 1000


class Notices:
    """Counts how often each cause occurred."""

    def __init__(self) -> None:
        self._counts: Counter[Hashable] = Counter()
        self._said: dict[Hashable, int] = {}

    def count(self, cause: Hashable) -> int:
        """Count a cause. Return how often it has occurred if that is to be said now: at 1, 10, 100...; else 0."""
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
        """Yield each cause whose last count was not said yet, with that count: to be said at the end."""
        for cause, number in self._counts.items():
            if number != self._said[cause]:
                self._said[cause] = number
                yield cause, number


def cause_of(error: BaseException) -> tuple[str, str, int]:
    """Return what makes two exceptions the same fault: their type, and the place where they were raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    return (type(error).__name__, *place)
