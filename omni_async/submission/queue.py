"""The queue of jobs that wait to be submitted. Used by the submitter."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")


class SubmitQueue(Generic[T]):
    """A queue of hashable items that keep their position: one that was taken out may return to it, now or later."""

    def __init__(self) -> None:
        self._ready: list[tuple[int, T]] = []  # a heap by position
        self._delayed: list[tuple[float, int, T]] = []  # a heap by the time at which they return
        self._positions: dict[T, int] = {}
        self._first_position = 0
        self._next_position = 0

    def __len__(self) -> int:
        """Return the number of items, delayed ones included."""
        return len(self._ready) + len(self._delayed)

    def put(self, item: T) -> None:
        """Add an item: at the end, or at its old position."""
        heapq.heappush(self._ready, (self._position(item), item))

    def put_later(self, item: T, when: float) -> None:
        """Add an item that becomes available at the time `when`."""
        heapq.heappush(self._delayed, (when, self._position(item), item))

    def prioritize(self, item: T) -> None:
        """Give an item that is not in the queue now a position before all others."""
        self._first_position -= 1
        self._positions[item] = self._first_position

    def peek(self, now: float) -> T | None:
        """Return the first item that is available at the time `now`, and leave it in."""
        while self._delayed and self._delayed[0][0] <= now:
            _, position, item = heapq.heappop(self._delayed)
            heapq.heappush(self._ready, (position, item))
        return self._ready[0][1] if self._ready else None

    def pop(self) -> T:
        """Remove and return the first item. Its position is kept for it."""
        return heapq.heappop(self._ready)[1]

    def discard(self, item: T) -> None:
        """Forget the position of an item that does not return."""
        self._positions.pop(item, None)

    def next_due(self) -> float | None:
        """Return the time at which the next delayed item becomes available; None if none is delayed."""
        return self._delayed[0][0] if self._delayed else None

    def clear(self) -> None:
        """Remove everything."""
        self._ready.clear()
        self._delayed.clear()
        self._positions.clear()

    def _position(self, item: T) -> int:
        if item not in self._positions:
            self._positions[item] = self._next_position
            self._next_position += 1
        return self._positions[item]
