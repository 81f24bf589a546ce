"""The real client in front of a server in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omni_async import OmniClient

from ..ledger import MemoryJobStore
from ..timing import Clock

if TYPE_CHECKING:
    import os

    from ..api.transport import Transport


EPOCH = 1_800_000_000.0  # unix time when the loop's clock shows zero


class MemoryClock(Clock):
    """A wall clock that follows the event loop's, so that it is virtual where that is."""

    def wall(self) -> float:
        """Return the loop's time as Unix seconds, counted from `EPOCH`."""
        return EPOCH + self.now()


class MemoryClient(OmniClient):
    """The real client in front of a server in memory; its wall clock goes with the loop's."""

    def __init__(
        self, server: Transport, *, ledger: str | os.PathLike[str] | MemoryJobStore | None = None, **settings: Any
    ) -> None:
        self._memory_server = server
        self._memory = ledger if isinstance(ledger, MemoryJobStore) else None
        path = None if isinstance(ledger, MemoryJobStore) else ledger
        super().__init__(**{"api_key": "sk-memory", "base_url": "https://memory.test", "ledger": path} | settings)

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        return self._memory_server

    def _make_store(self) -> Any:
        return self._memory or super()._make_store()

    def _make_clock(self) -> Clock:
        return MemoryClock()
