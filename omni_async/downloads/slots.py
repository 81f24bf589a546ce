"""Download slots: which transfers run now. A transfer that backs off leaves its slot to others.

Used by `Downloader`, which gets a slot for each job, and by `ClipDownload`, which backs off. How many run at once is
for `concurrency.py` to decide; here the slots are shared out fairly among the hosts of clips.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from ..exhaustion import open_files_limit
from ..timing import WakeEvent
from .concurrency import MAX_DOWNLOADS, START, DownloadConcurrency, HostLimit

if TYPE_CHECKING:
    from ..timing import Clock
    from .failures import AttemptFailure

# Transfers that may back off without a slot. Each keeps its part file open, and a process commonly has 1024 files: 64
# leave most of them to others. At half, a slot is blocked sooner when one host of clips fails for many jobs; at double,
# more files stay open. Chosen, not measured.
MAX_BACKING_OFF = 64

# Files that a transfer may have open at once (its connection, the part file, that file again while it is flushed, its
# folder), and the part of all files that transfers may take. At half, macOS (256 files) has 16 slots; at double,
# nothing is left to the program around the client. Chosen, not measured.
_FILES_PER_DOWNLOAD, _PART_OF_FILES = 4, 0.5

_Item = TypeVar("_Item")


def max_downloads(configured: int | None) -> int:
    """Return the most downloads at once: as configured, else as many as the open files of this process allow."""
    if configured is not None:
        return configured
    files = open_files_limit()
    if files is None:
        return MAX_DOWNLOADS
    return max(START, min(MAX_DOWNLOADS, int(_PART_OF_FILES * files / _FILES_PER_DOWNLOAD)))


@dataclass(slots=True)
class _Host(Generic[_Item]):
    """The transfers from one host: how many hold a slot, which wait for one again, and which have not begun."""

    limit: HostLimit = field(default_factory=HostLimit)
    active: int = 0
    returning: deque[asyncio.Future[None]] = field(default_factory=deque)
    waiting: deque[_Item] = field(default_factory=deque)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is known of it that matters later."""
        return not (self.active or self.returning or self.waiting) and self.limit.limit is None


class DownloadSlots(Generic[_Item]):
    """Hands out slots, and counts the transfers that back off without one. An item is what waits for its slot.

    The next slot is for the host that has the fewest: a host that stalls does not take those of the others.
    """

    def __init__(self, concurrency: DownloadConcurrency, clock: Clock) -> None:
        self.clock = clock
        self.concurrency = concurrency
        self._active = 0
        self._backing_off = 0
        self._hosts: dict[str, _Host[_Item]] = {}  # the one that got a slot last comes last
        self._wake = WakeEvent()

    def add(self, host: str, item: _Item) -> None:
        """Let an item wait for a slot, for a transfer from a host; first come, first served."""
        self._host(host).waiting.append(item)
        self._wake.set()

    async def next(self) -> tuple[_Item, DownloadSlot]:
        """Wait for the next slot that an item gets, and return both. Meanwhile, hand slots to those that had one."""
        while True:
            name = self._next_host() if self._active < self.concurrency.limit else None
            if name is None:
                await self._wake.wait(None)
                continue
            host = self._hosts[name] = self._hosts.pop(name)
            host.active += 1
            self._active += 1
            if not host.returning:
                return host.waiting.popleft(), DownloadSlot(self, name)
            turn = host.returning.popleft()
            if turn.cancelled():
                self.leave(name)
            else:
                turn.set_result(None)

    # What its slots call

    async def wait(self, name: str) -> None:
        """Wait for a slot again, before those that had none."""
        turn = asyncio.get_running_loop().create_future()
        self._host(name).returning.append(turn)
        self._wake.set()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it got its slot in the same moment
                self.leave(name)
            raise

    def leave(self, name: str) -> None:
        """Take back a slot."""
        self._hosts[name].active -= 1
        self._active -= 1
        self._forget_idle(name)
        self._wake.set()

    def observe(self, *, size: int = 0, ended: int = 0) -> None:
        """Record bytes that have arrived, or that a transfer that still holds its slot has ended."""
        is_full = self._next_host() is not None  # free slots are handed out immediately: none is free now
        limit = self.concurrency.limit
        self.concurrency.observe(self.clock.now(), is_full=is_full, size=size, ended=ended)
        if self.concurrency.limit > limit:
            self._wake.set()

    def succeeded(self, name: str) -> None:
        """Record that a clip of a host is complete."""
        host = self._hosts[name]
        host.limit.succeeded(host.active, self.concurrency.ceiling)

    def refused(self, name: str) -> None:
        """Record that a host has refused a transfer that holds a slot."""
        host = self._hosts[name]
        host.limit.refused(host.active)

    def begin_back_off(self) -> bool:
        """Count one more transfer that backs off without a slot. Return False if there are too many."""
        if self._backing_off >= MAX_BACKING_OFF:
            return False
        self._backing_off += 1
        return True

    def end_back_off(self) -> None:
        """Count one less."""
        self._backing_off -= 1

    def _host(self, name: str) -> _Host[_Item]:
        return self._hosts.setdefault(name, _Host())

    def _next_host(self) -> str | None:
        """Return the host that gets the next slot; None if no transfer waits whose host may have one more."""
        found, fewest = None, math.inf
        for name, host in self._hosts.items():
            if host.active < fewest and (host.waiting or host.returning) and host.limit.allows(host.active):
                found, fewest = name, host.active
                if not fewest:
                    break
        return found

    def _forget_idle(self, name: str) -> None:
        if self._hosts[name].is_idle:
            del self._hosts[name]


class DownloadSlot:
    """One slot, held until `release`."""

    def __init__(self, slots: DownloadSlots[Any], host: str) -> None:
        self._slots = slots
        self._host = host
        self._is_held = True
        self._was_refused = False
        self._job_done = asyncio.Event()

    def job_done(self) -> None:
        """End a back-off early: the job that holds the slot no longer needs it."""
        self._job_done.set()

    def received(self, size: int) -> None:
        """Record that this many bytes have arrived."""
        self._slots.observe(size=size)

    def record_attempt(self, failure: AttemptFailure | None, received: int) -> None:
        """Record the outcome of a request for the clip that brought this many bytes.

        Of refusals in a row only the first counts for the host: the fault may be that of this clip alone.
        """
        if failure is None:
            self._slots.succeeded(self._host)
        elif failure.may_be_overload(received):
            if received or not self._was_refused:
                self._slots.refused(self._host)
            self._was_refused = True

    def release(self) -> None:
        """Give the slot back at the end of the job, unless that has happened already."""
        if self._is_held:
            self._is_held = False
            self._slots.observe(ended=1)
            self._slots.leave(self._host)

    async def back_off(self, seconds: float) -> float:
        """Leave the slot to others for that long, then wait for one again. Return the seconds of that second wait.

        The transfer is not at fault for that time, so it must not count towards its timeout.
        """
        if not self._slots.begin_back_off():
            await self._sleep(seconds)
            return 0.0
        self._is_held = False
        self._slots.leave(self._host)
        try:
            await self._sleep(seconds)
        finally:
            self._slots.end_back_off()
        if self._job_done.is_set():
            return 0.0
        since = self._slots.clock.now()
        await self._slots.wait(self._host)
        self._is_held = True
        return self._slots.clock.now() - since

    async def _sleep(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._job_done.wait()
