"""Hosts of clips and the link to them, simulated on virtual time for the decisions about concurrent downloads."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omni_async.downloads.concurrency import DownloadConcurrency
from omni_async.downloads.failures import AttemptFailure
from omni_async.downloads.slots import DownloadSlots
from omni_async.timing import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from omni_async.downloads.slots import DownloadSlot


MB = 1e6


@dataclass
class SimulatedHost:
    """A host of clips: seconds until the first byte, bytes per second of each connection, and connections allowed."""

    latency: float = 0.05
    per_connection: float = 20 * MB
    connections: int | None = None
    is_stalled: bool = False
    active: int = 0
    most: int = 0
    served: int = 0
    refused: int = 0


@dataclass
class SimulatedLink:
    """The one link to all hosts. Its bandwidth may be changed while it is used. `limits` are the limits over time."""

    bandwidth: float
    seed: int = 0
    received: float = 0.0
    limits: list[int] = field(default_factory=list)
    _transferring: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    async def run(
        self,
        hosts: list[SimulatedHost],
        size: Callable[[random.Random], float],
        *,
        seconds: float,
        ceiling: int = 128,
    ) -> DownloadSlots[int]:
        """Download endlessly many clips, from each host in turn, for so many seconds."""
        slots = DownloadSlots[int](DownloadConcurrency(ceiling), Clock())
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._download_all(slots, hosts, size))
            watch = group.create_task(self._watch(slots))
            await asyncio.sleep(seconds)
            work.cancel()
            watch.cancel()
        return slots

    async def _watch(self, slots: DownloadSlots[int]) -> None:
        while True:
            await asyncio.sleep(0.1)
            self.limits.append(slots.concurrency.limit)

    async def _download_all(
        self, slots: DownloadSlots[int], hosts: list[SimulatedHost], size: Callable[[random.Random], float]
    ) -> None:
        for number in range(len(hosts)):
            for _ in range(200):
                slots.add(str(number), number)
        async with asyncio.TaskGroup() as group:
            while True:
                number, slot = await slots.next()
                slots.add(str(number), number)
                group.create_task(self._download(slot, hosts[number], size(self.random)))

    async def _download(self, slot: DownloadSlot, host: SimulatedHost, size: float) -> None:
        attempts = 0
        while (failure := await self._attempt(slot, host, size)) is not None:
            slot.record_attempt(failure, 0)
            await slot.back_off(min(30.0, 0.5 * 2**attempts) * self.random.uniform(0.5, 1))
            attempts += 1
        slot.record_attempt(None, int(size))
        await asyncio.sleep(0.01)  # verified, synced and renamed
        slot.release()

    async def _attempt(self, slot: DownloadSlot, host: SimulatedHost, size: float) -> AttemptFailure | None:
        host.active += 1
        host.most = max(host.most, host.active)
        try:
            if host.is_stalled:
                await asyncio.sleep(20)
                return AttemptFailure("nothing for 20 s", kind="silent")
            await asyncio.sleep(host.latency * self.random.uniform(0.7, 1.5))
            if host.connections is not None and host.active > host.connections:
                host.refused += 1
                return AttemptFailure("too many", kind="HTTP 503")
            await self._transfer(slot, host, size)
            host.served += 1
        finally:
            host.active -= 1
        return None

    async def _transfer(self, slot: DownloadSlot, host: SimulatedHost, size: float) -> None:
        self._transferring += 1
        try:
            left = size
            while left > 0:  # the rate is computed anew twice a second
                rate = min(host.per_connection, self.bandwidth / self._transferring)
                piece = min(left, max(rate / 2, size / 100))
                await asyncio.sleep(piece / rate)
                left -= piece
                self.received += piece
                slot.received(int(piece))
        finally:
            self._transferring -= 1
