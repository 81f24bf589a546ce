"""The browsers that follow a live page through server-sent events.

Each subscriber gets every message in order. One that reads too slowly is disconnected, so that it holds up neither the
others nor the run; its browser reconnects and starts again from a snapshot.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import anyio
from aiohttp import web

from .serving import SECURITY_HEADERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


# Messages that a subscriber may be behind. `live` sends at most about three every half second, so 64 is about ten
# seconds. Trades memory (a message may hold 500 jobs) for patience with slow connections. Chosen, not measured: at
# half, a browser tab that is suspended for a few seconds reconnects; at double, a stalled one costs twice the memory.
_MAX_BACKLOG = 64

_HEADERS = SECURITY_HEADERS | {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}


def encode_event(name: str, data: object) -> bytes:
    """Return a server-sent event with JSON data. The JSON has no line breaks, so one `data:` line holds it."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), default=str)
    return f"event: {name}\ndata: {text}\n\n".encode()


class _Subscriber:
    """One connected browser."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(_MAX_BACKLOG)  # None ends the stream
        self.scope = anyio.CancelScope()

    def put(self, content: bytes | None) -> None:
        try:
            self.queue.put_nowait(content)
        except asyncio.QueueFull:
            self.scope.cancel()


class Subscribers:
    """All subscribers of one live page."""

    def __init__(self) -> None:
        self._subscribers: set[_Subscriber] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._subscribers)

    def broadcast(self, name: str, data: object) -> None:
        """Send an event to every subscriber."""
        if self._subscribers:
            content = encode_event(name, data)
            for subscriber in self._subscribers:
                subscriber.put(content)

    def close(self) -> None:
        """End each stream after the messages that are still queued for it."""
        for subscriber in self._subscribers:
            subscriber.put(None)

    async def wait_until_empty(self) -> None:
        """Wait until every subscriber is disconnected."""
        await self._empty.wait()

    async def subscribe(self, request: web.Request, snapshot: Callable[[], AsyncIterator[bytes]]) -> web.StreamResponse:
        """Send `snapshot` and then every broadcast until the stream is closed or the browser disconnects.

        `snapshot` is called once and yields encoded events.
        """
        response = web.StreamResponse(headers=_HEADERS)
        subscriber = _Subscriber()
        self._empty.clear()
        # Registered before the snapshot is read, so that a change during it is queued and sent after it.
        self._subscribers.add(subscriber)
        try:
            with subscriber.scope:
                await response.prepare(request)
                async for part in snapshot():
                    await response.write(part)
                while (content := await subscriber.queue.get()) is not None:
                    await response.write(content)
                return response
        except ConnectionError:  # the browser is gone
            pass
        finally:
            self._subscribers.discard(subscriber)
            if not self._subscribers:
                self._empty.set()
        if subscriber.scope.cancelled_caught and request.transport is not None:
            # A slow reader has a full send buffer: an orderly close would wait for it to be drained.
            request.transport.abort()
        return response
