"""Who looks at a live page: every reader gets all messages in order, and one who is too slow for them is let go."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import anyio
from aiohttp import web

from .serving import SECURITY_HEADERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


_BACKLOG = 64  # messages that a reader may be behind, at a few a second
_HEADERS = SECURITY_HEADERS | {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}


def message(event: str, data: object) -> bytes:
    """Give a server-sent event; JSON has no line breaks of its own."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), default=str)
    return f"event: {event}\ndata: {text}\n\n".encode()


class _Reader:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(_BACKLOG)
        self.scope = anyio.CancelScope()

    def take(self, content: bytes | None) -> None:
        try:
            self.queue.put_nowait(content)
        except asyncio.QueueFull:
            self.scope.cancel()  # its browser connects again, and begins with a fresh snapshot


class Subscribers:
    """All readers of one live page."""

    def __init__(self) -> None:
        self._readers: set[_Reader] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._readers)

    def tell(self, event: str, data: object) -> None:
        """Send a message to everybody."""
        if self._readers:
            content = message(event, data)
            for reader in self._readers:
                reader.take(content)

    def close(self) -> None:
        """Let everybody go who has heard all of it."""
        for reader in self._readers:
            reader.take(None)

    async def gone(self) -> None:
        """Wait until nobody is left."""
        await self._empty.wait()

    async def subscribe(self, request: web.Request, snapshot: Callable[[], AsyncIterator[bytes]]) -> web.StreamResponse:
        """Tell a new reader how it stands, and then all that is told, until it leaves."""
        response = web.StreamResponse(headers=_HEADERS)
        reader = _Reader()
        self._empty.clear()
        self._readers.add(reader)  # before the snapshot is made: what changes meanwhile comes after it
        try:
            with reader.scope:
                await response.prepare(request)
                async for part in snapshot():
                    await response.write(part)
                while (content := await reader.queue.get()) is not None:
                    await response.write(content)
                return response
        except ConnectionError:
            pass
        finally:
            self._readers.discard(reader)
            if not self._readers:
                self._empty.set()
        if reader.scope.cancelled_caught and request.transport is not None:
            request.transport.abort()  # it does not take what is in its way
        return response
