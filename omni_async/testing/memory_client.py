"""The real client in front of a server in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from omni_async import OmniClient

from ..ledger import MemoryJobStore

if TYPE_CHECKING:
    import os
    from typing import Self

    from ..api.transport import Transport


EPOCH = 1_800_000_000.0  # unix time when the loop's clock shows zero


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

    def _make_ledger(self) -> Any:
        return self._memory or super()._make_ledger()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        assert self._runtime is not None
        self._runtime.registry.wall = lambda: EPOCH + asyncio.get_running_loop().time()
        return self
