"""What is due when, and what comes first when more is due than can be done."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")

_SHARE = 20  # of what is due, one part in so many is chosen at a time: ranking anew for each would cost too much
_LEAST = 16


class DueQueue(Generic[T]):
    """Items with times of any one clock. `is_over` tells which of them need not be done any more."""

    def __init__(self, is_obsolete: Callable[[T], bool]) -> None:
        self._is_over = is_obsolete
        self._later: list[tuple[float, int, T]] = []  # a heap
        self._due: list[T] = []
        self._chosen: deque[T] = deque()
        self._entries = 0

    def __len__(self) -> int:
        """Give how many there are, some of which may be over."""
        return len(self._later) + len(self._due) + len(self._chosen)

    def put(self, item: T, due: float) -> bool:
        """Put in; True if it is the next one now."""
        self._entries += 1
        heapq.heappush(self._later, (due, self._entries, item))
        return self._later[0][2] is item

    def next_due(self) -> float | None:
        """Give when the next item is due, minus infinity if some are overdue; None if there is nothing."""
        while self._chosen and self._is_over(self._chosen[0]):
            self._chosen.popleft()
        if self._chosen or self._due:
            return float("-inf")
        while self._later and self._is_over(self._later[0][2]):
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def pop(self, now: float, priority: Callable[[T], float] | None) -> T | None:
        """Take out what comes first of all that is due by now: what is due first, or what is worth most.

        None if there is nothing that need be done.
        """
        while True:
            if not self._chosen:
                self._choose(now, priority)
            if not self._chosen:
                return None
            item = self._chosen.popleft()
            if not self._is_over(item):
                return item

    def _choose(self, now: float, worth: Callable[[T], float] | None) -> None:
        while self._later and self._later[0][0] <= now:
            self._due.append(heapq.heappop(self._later)[2])
        self._due = [item for item in self._due if not self._is_over(item)]
        number = max(_LEAST, len(self._due) // _SHARE)
        if worth is None or len(self._due) <= 1:
            self._chosen.extend(self._due)
            self._due = []
        else:
            self._due.sort(key=worth)
            self._chosen.extend(reversed(self._due[-number:]))
            del self._due[-number:]
