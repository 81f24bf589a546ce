"""A bell that wakes a room: rung by events, waited for with a limit."""

from __future__ import annotations

import asyncio

import anyio


class Bell:
    """Remembers one ring until somebody has heard it. For one waiter at a time."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter, or the next who comes to wait."""
        self._rung.set()

    async def wait(self, seconds: float | None) -> None:
        """Wait for a ring, at most so many seconds (None: without end)."""
        with anyio.move_on_after(seconds):
            await self._rung.wait()
        self._rung.clear()
