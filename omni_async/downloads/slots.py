"""Download slots: how many transfers run concurrently. A transfer that backs off leaves its slot to others.

Used by `Downloader`, which acquires a slot for each job, and by `ClipDownload`, which backs off.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from ..timing import Clock

# Transfers that may back off without a slot. Each keeps its part file open, and a process commonly has 1024 files: 64
# leave most of them to others. At half, a slot is blocked sooner when one host of clips fails for many jobs; at double,
# more files stay open. Chosen, not measured.
MAX_BACKING_OFF = 64


class DownloadSlots:
    """Hands out slots in the order of requests, and counts the transfers that back off without one."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self.clock = clock
        self._free = anyio.Semaphore(limit)
        self._backing_off = 0

    async def acquire(self) -> DownloadSlot:
        """Wait for a slot and return it."""
        await self.wait()
        return DownloadSlot(self)

    # What its slots call

    def release(self) -> None:
        """Take back a slot."""
        self._free.release()

    def begin_back_off(self) -> bool:
        """Count one more transfer that backs off without a slot. Return False if there are too many."""
        if self._backing_off >= MAX_BACKING_OFF:
            return False
        self._backing_off += 1
        return True

    def end_back_off(self) -> None:
        """Count one less."""
        self._backing_off -= 1

    async def wait(self) -> None:
        """Wait for a slot; first come, first served."""
        await self._free.acquire()


class DownloadSlot:
    """One slot, held until `release`."""

    def __init__(self, slots: DownloadSlots) -> None:
        self._slots = slots
        self._is_held = True
        self._job_done = asyncio.Event()

    def job_done(self) -> None:
        """End a back-off early: the job that holds the slot needs none any more."""
        self._job_done.set()

    def release(self) -> None:
        """Give the slot back, unless that was done already."""
        if self._is_held:
            self._is_held = False
            self._slots.release()

    async def back_off(self, seconds: float) -> float:
        """Leave the slot to others for that long, then wait for one again. Return the seconds of that second wait.

        That time is no failure of the transfer, so it must not count towards its timeout.
        """
        if not self._slots.begin_back_off():
            await self._sleep(seconds)
            return 0.0
        self.release()
        try:
            await self._sleep(seconds)
        finally:
            self._slots.end_back_off()
        if self._job_done.is_set():
            return 0.0
        since = self._slots.clock.now()
        await self._slots.wait()
        self._is_held = True
        return self._slots.clock.now() - since

    async def _sleep(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._job_done.wait()
