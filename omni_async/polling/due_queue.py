"""`DueQueue`: items ordered by when they are due, or by priority while more is due than can be done.

`CheckSchedule` keeps the tracked jobs in one.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")

# How many of the due items are selected per ranking: one in 20, and at least 16. Ranking all due items for every `pop`
# would cost n log n each time. A larger selection costs less, but its last items were ranked longer ago: with 1,000
# items due and 10 checks a second, a selection of 50 is up to 5 s old. Both were chosen, not measured.
_SELECTIONS = 20
_MIN_SELECTION = 16


class DueQueue(Generic[T]):
    """A queue of items by the times at which they are due. All times are of one clock.

    `is_obsolete` returns whether an item is no longer wanted. It is asked when an item comes up, so an item that is
    obsolete need not be removed.
    """

    def __init__(self, is_obsolete: Callable[[T], bool]) -> None:
        self._is_obsolete = is_obsolete
        self._later: list[tuple[float, int, T]] = []  # a heap; the number keeps items from being compared
        self._due: list[T] = []
        self._selected: deque[T] = deque()
        self._added = 0

    def __len__(self) -> int:
        """Return the number of items, obsolete ones included."""
        return len(self._later) + len(self._due) + len(self._selected)

    def put(self, item: T, due: float) -> bool:
        """Add an item. Return whether it is now the first in time of those that are not due yet."""
        self._added += 1
        heapq.heappush(self._later, (due, self._added, item))
        return self._later[0][2] is item

    def next_due(self) -> float | None:
        """Return when the next item is due: minus infinity if one was due at an earlier `pop`, None if empty."""
        while self._selected and self._is_obsolete(self._selected[0]):
            self._selected.popleft()
        if self._selected or self._due:
            return float("-inf")
        while self._later and self._is_obsolete(self._later[0][2]):
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def pop(self, now: float, priority: Callable[[T], float] | None) -> T | None:
        """Remove and return the first item that is due at `now`, None if none is due.

        With `priority`, that is one of the highest priority among the due items; without, the one due first.
        """
        while True:
            if not self._selected:
                self._select(now, priority)
            if not self._selected:
                return None
            item = self._selected.popleft()
            if not self._is_obsolete(item):
                return item

    def _select(self, now: float, priority: Callable[[T], float] | None) -> None:
        while self._later and self._later[0][0] <= now:
            self._due.append(heapq.heappop(self._later)[2])
        self._due = [item for item in self._due if not self._is_obsolete(item)]
        number = max(_MIN_SELECTION, len(self._due) // _SELECTIONS)
        if priority is None or len(self._due) <= 1:
            self._selected.extend(self._due)
            self._due = []
        else:
            self._due.sort(key=priority)
            self._selected.extend(reversed(self._due[-number:]))
            del self._due[-number:]
