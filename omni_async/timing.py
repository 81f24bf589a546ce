"""A wake that wakes a room: rung by events, waited for with a limit."""

from __future__ import annotations

import asyncio


class WakeEvent:
    """Remembers one ring until somebody has heard it. For one waiter at a time."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def set(self) -> None:
        """Wake the waiter, or the next who comes to wait."""
        self._rung.set()

    async def wait(self, seconds: float | None) -> None:
        """Wait for a ring, at most so many seconds (None: without end)."""
        if seconds is None:
            await self._rung.wait()
        else:  # a wake that rings by itself costs a tenth of a cancel scope
            timer = asyncio.get_running_loop().call_later(seconds, self._rung.set)
            try:
                await self._rung.wait()
            finally:
                timer.cancel()
        self._rung.clear()
