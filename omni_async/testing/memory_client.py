"""The real client, connected to an in-memory server. Used by `MemoryServer.client` and by the benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omni_async import OmniClient

from ..ledger import MemoryJobStore
from ..timing import Clock

if TYPE_CHECKING:
    import os

    from ..api.transport import Transport


# The unix time at which the loop's clock shows zero: in 2027, a plausible date for code that compares wall time with
# timestamps from a server, and fixed, so that every run sees the same dates.
EPOCH = 1_800_000_000.0


class MemoryClock(Clock):
    """A wall clock that follows the event loop's clock, virtual or not."""

    def wall(self) -> float:
        """Return the loop's time as unix seconds, counted from `EPOCH`."""
        return EPOCH + self.now()


class MemoryClient(OmniClient):
    """An `OmniClient` whose requests go to an in-memory server and whose wall clock follows the event loop's clock.

    Takes the arguments of `OmniClient`. The ledger is in memory unless `ledger` names a file; several clients can share
    a `MemoryJobStore`, as several runs of a program share a file.
    """

    def __init__(
        self, server: Transport, *, ledger: str | os.PathLike[str] | MemoryJobStore | None = None, **settings: Any
    ) -> None:
        self._memory_server = server
        self._job_store = ledger if isinstance(ledger, MemoryJobStore) else None
        path = None if isinstance(ledger, MemoryJobStore) else ledger
        super().__init__(**{"api_key": "sk-memory", "base_url": "https://memory.test", "ledger": path} | settings)

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        return self._memory_server

    def _make_store(self) -> Any:
        return self._job_store or super()._make_store()

    def _make_clock(self) -> Clock:
        return MemoryClock()
