"""A pace that somebody has told: so many a minute, evenly, as a strict server would count them."""

from __future__ import annotations

import asyncio

from aiolimiter import AsyncLimiter

_SLACK = 1.01  # of each interval: a server that keeps the pace strictly refuses what is a millisecond early


class Pace:
    """Gives turns, and spaces what leaves after them."""

    def __init__(self, per_minute: float) -> None:
        self._interval = 60 / per_minute * _SLACK
        self._turns = AsyncLimiter(1, self._interval)
        self._left_at = float("-inf")

    async def turn(self) -> None:
        """Wait for a turn."""
        await self._turns.acquire()

    async def departure(self) -> None:
        """Wait, after a turn, until enough time has passed since the one before has left.

        What is done between turn and departure (a row on the disk, a new connection) takes now longer and now less
        long; that must not bring two of them closer together.
        """
        while (wait := self._left_at + self._interval - _now()) > 0:  # noqa: ASYNC110 - for time, not for an event
            await asyncio.sleep(wait)
        self.left()

    def left(self) -> None:
        """Take note that one is leaving now."""
        self._left_at = _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
