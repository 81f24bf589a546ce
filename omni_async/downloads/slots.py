"""So many places for transfers; who rests after trouble leaves its place to others meanwhile."""

from __future__ import annotations

import asyncio

import anyio

RESTING = 64  # that may rest without a place: each keeps a file open


class DownloadSlots:
    """Hands out places for transfers, and counts who rests without one."""

    def __init__(self, most: int) -> None:
        self._free = anyio.Semaphore(most)
        self._resting = 0

    async def take(self) -> DownloadSlot:
        """Wait for a place, and give it."""
        await self.wait()
        return DownloadSlot(self)

    # What its places ask of it

    def give_back(self) -> None:
        """Take back a place."""
        self._free.release()

    def may_rest(self) -> bool:
        """Count one more at rest, if there is room for it."""
        if self._resting >= RESTING:
            return False
        self._resting += 1
        return True

    def stop_resting(self) -> None:
        """Count one less at rest."""
        self._resting -= 1

    async def wait(self) -> None:
        """Wait for a place; first come, first served."""
        await self._free.acquire()


class DownloadSlot:
    """One place, until it is left."""

    def __init__(self, places: DownloadSlots) -> None:
        self._places = places
        self._is_held = True
        self._is_over = asyncio.Event()

    def end(self) -> None:
        """Let no rest go on: whoever has it needs none any more."""
        self._is_over.set()

    def release(self) -> None:
        """Give it back."""
        if self._is_held:
            self._is_held = False
            self._places.give_back()

    async def back_off(self, seconds: float) -> float:
        """Let others have it for so long. Gives the seconds that it then took to get one again: nobody's failure."""
        if not self._places.may_rest():
            await self._sleep(seconds)
            return 0.0
        self.release()
        try:
            await self._sleep(seconds)
        finally:
            self._places.stop_resting()
        if self._is_over.is_set():
            return 0.0
        since = _now()
        await self._places.wait()
        self._is_held = True
        return _now() - since

    async def _sleep(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._is_over.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()
