"""The browsers that follow a live page through server-sent events.

Each reads the shared `Feed` at its own speed. One that has stopped reading is disconnected; its browser reconnects and
begins again. Above a number of browsers the rest get 503, and ask again later.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from omni_async.listening import RETRY_AFTER, max_connections

from .files import write_in_time

if TYPE_CHECKING:
    from .feed import Feed

_CONTENT_TYPE = "text/event-stream"


class Subscribers:
    """All subscribers of one live page."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._count = 0
        # Half of all connections, so that pages and clips can still be loaded.
        self._limit = max_connections() // 2
        self._has_news = asyncio.Event()  # replaced at each publication
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._is_closed = False

    def __len__(self) -> int:
        return self._count

    def publish(self) -> None:
        """Let every subscriber read what is new in the feed."""
        news, self._has_news = self._has_news, asyncio.Event()
        news.set()

    def close(self) -> None:
        """End each stream once its subscriber has read the feed to its end."""
        self._is_closed = True
        self.publish()

    async def wait_until_empty(self) -> None:
        """Wait until every subscriber is disconnected."""
        await self._is_empty.wait()

    async def subscribe(self, request: web.BaseRequest, headers: dict[str, str]) -> web.StreamResponse:
        """Send the feed until it is closed or the browser disconnects. Respond with 503 if there are too many."""
        if self._count >= self._limit:
            busy = {"Retry-After": str(RETRY_AFTER), "Cache-Control": "no-store"}
            return web.Response(status=503, text="too many browsers follow this run\n", headers=headers | busy)
        self._count += 1
        self._is_empty.clear()
        try:
            return await self._stream(request, headers)
        except ConnectionError:
            if request.transport is not None:
                # The send buffer of one that does not read is full: an orderly close would wait for it to be drained.
                request.transport.abort()
            raise
        finally:
            self._count -= 1
            if not self._count:
                self._is_empty.set()

    async def _stream(self, request: web.BaseRequest, headers: dict[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers | {"Content-Type": _CONTENT_TYPE, "Cache-Control": "no-store"})
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        reader, is_last = self._feed.reader(), False
        while not is_last:
            has_news, is_last = self._has_news, self._is_closed
            for message in reader.read():
                await write_in_time(response, message)
            if not is_last:
                await has_news.wait()
        await response.write_eof()
        return response
