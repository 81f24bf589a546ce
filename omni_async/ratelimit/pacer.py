"""A pace that somebody has told: so many a minute, evenly, as a strict server would count them."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

if TYPE_CHECKING:
    from collections.abc import Callable


_SLACK = 1.01  # of each interval: a server that keeps the pace strictly refuses what is a millisecond early
_REMEMBERED = 3  # of the ways out: one alone may have been a new connection


class Pacer:
    """Gives turns, and spaces what leaves after them."""

    def __init__(self, per_minute: float) -> None:
        self._interval = 60 / per_minute * _SLACK
        self._turns = AsyncLimiter(1, self._interval)
        self._left_at = float("-inf")
        self._needed: deque[float] = deque(maxlen=_REMEMBERED)  # seconds from a departure until it had really left

    async def acquire(self) -> None:
        """Wait for a turn."""
        await self._turns.acquire()

    async def wait_for_interval(self) -> Callable[[], None]:
        """Wait, after a turn, until enough time has passed since the one before has left.

        What is done after a turn (a row on the disk, a new connection) takes now longer and now less long; that must
        not bring two of them closer together. To be called, with what this gives, when the request really leaves.
        """
        while (wait := self._left_at + self._interval - _now()) > 0:  # noqa: ASYNC110 - for time, not for an event
            await asyncio.sleep(wait)
        self._left_at = departed_at = _now()
        return partial(self._leave, departed_at)

    def _leave(self, departed_at: float) -> None:
        needed = _now() - departed_at
        usual = min(self._needed, default=0.0)  # the next will need that as well, by all that is known
        self._left_at = max(self._left_at, departed_at + needed - usual)
        self._needed.append(needed)


def _now() -> float:
    return asyncio.get_running_loop().time()
