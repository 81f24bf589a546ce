"""A TCP proxy that a test can cut: it closes every connection, or swallows every byte as an unplugged cable does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class TcpProxy:
    """Forwards bytes between its own port and another one of this machine."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._open = asyncio.Event()
        self._open.set()
        self._is_refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def black_hole(self) -> None:
        """Swallow what arrives from now on: connections stay open, are accepted, and never answer."""
        self._open.clear()

    def refuse(self) -> None:
        """Close every connection, and each new one at once."""
        self._is_refusing = True
        for writer in self._writers:
            writer.transport.abort()

    def heal(self) -> None:
        """Forward again. What was held back while nothing was forwarded arrives late, as it would from a network."""
        self._is_refusing = False
        self._open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection in both directions until either side closes it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._open.wait()
            if not self._is_refusing:
                other_reader, other = await asyncio.open_connection("127.0.0.1", self._target_port)
                self._writers.add(other)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._forward(reader, other))
                    group.create_task(self._forward(other_reader, writer))
        except (OSError, ExceptionGroup):
            pass  # a connection that was cut is what the test wants
        finally:
            for each in (writer, *(each for each in self._writers if each.is_closing())):
                self._writers.discard(each)
                each.close()
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def aclose(self) -> None:
        """Close every connection and wait for the tasks that served them."""
        self.refuse()
        self._open.set()
        for task in list(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def tcp_proxy(target_port: int) -> AsyncIterator[TcpProxy]:
    """Run a proxy to a port of this machine."""
    proxy = TcpProxy(target_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()


@asynccontextmanager
async def proxy_before(url: str) -> AsyncIterator[tuple[TcpProxy, str]]:
    """Run a proxy before the server of a URL; yield it, and the URL that leads through it."""
    port = urlsplit(url).port or 0
    async with tcp_proxy(port) as proxy:
        yield proxy, url.replace(f":{port}/", f":{proxy.port}/")
