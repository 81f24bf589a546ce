"""The queue of jobs that wait to be submitted, and the jobs whose last submit has an ambiguous outcome."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ..ratelimit.backoff import retry_delay

if TYPE_CHECKING:
    from ..settings import Retry


T = TypeVar("T")


class SubmitQueue(Generic[T]):
    """Hashable things in a line. One that was taken out may come back, at once or at a time, to its old place."""

    def __init__(self) -> None:
        self._ready: list[tuple[int, T]] = []  # a heap by place
        self._delayed: list[tuple[float, int, T]] = []  # a heap by the time when they come back
        self._positions: dict[T, int] = {}
        self._first_place = 0
        self._next_place = 0

    def __len__(self) -> int:
        """Give how many are in it."""
        return len(self._ready) + len(self._delayed)

    def put(self, item: T) -> None:
        """Put in: behind all others, or at its old place."""
        heapq.heappush(self._ready, (self._place(item), item))

    def put_later(self, item: T, when: float) -> None:
        """Put in once it is `when`."""
        heapq.heappush(self._delayed, (when, self._place(item), item))

    def prioritize(self, item: T) -> None:
        """Give one that is not in the line now a place before all others."""
        self._first_place -= 1
        self._positions[item] = self._first_place

    def peek(self, now: float) -> T | None:
        """Give the first of those who are there by now, and leave it in."""
        while self._delayed and self._delayed[0][0] <= now:
            _, place, item = heapq.heappop(self._delayed)
            heapq.heappush(self._ready, (place, item))
        return self._ready[0][1] if self._ready else None

    def pop(self) -> T:
        """Take out the first; its place is kept for it."""
        return heapq.heappop(self._ready)[1]

    def discard(self, item: T) -> None:
        """Give up the place of one that was taken out for good."""
        self._positions.pop(item, None)

    def next_due(self) -> float | None:
        """Give the time when the next one comes back; None if nobody is to."""
        return self._delayed[0][0] if self._delayed else None

    def clear(self) -> None:
        """Send everybody away."""
        self._ready.clear()
        self._delayed.clear()
        self._positions.clear()

    def _place(self, item: T) -> int:
        if item not in self._positions:
            self._positions[item] = self._next_place
            self._next_place += 1
        return self._positions[item]


@dataclass(slots=True)
class _Attempts:
    attempts: int = 0
    spent: float = 0.0  # seconds on POSTs without a clear answer and on rests; waiting at the gate does not count


class AmbiguousSubmits(Generic[T]):
    """Whoever is in here may hold a place on the server, and may be billed."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._attempts: dict[T, _Attempts] = {}

    def __contains__(self, item: object) -> bool:
        return item in self._attempts

    def __len__(self) -> int:
        return len(self._attempts)

    def add(self, item: T) -> bool:
        """Take one in; False if it is in already."""
        return self._attempts.setdefault(item, doubt := _Attempts()) is doubt

    def next_delay(self, item: T, seconds: float, *, retry_after: float | None, jitter: float) -> float | None:
        """Give the seconds to rest after a POST that took so long; None when the budget is used up."""
        doubt = self._attempts[item]
        doubt.spent += seconds
        if doubt.spent > self._retry.timeout:
            return None
        pause = retry_delay(retry_after, doubt.attempts, self._retry, jitter)
        doubt.attempts += 1
        doubt.spent += pause
        return pause

    def discard(self, item: T) -> None:
        """Let one go: it has an outcome."""
        self._attempts.pop(item, None)
