"""Listening sockets with a ceiling of connections, whose malformed requests are answered without a traceback."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from ..listening import Acceptor, Refusals, max_connections

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Connections of one server. Load tests open over a thousand at the same moment. Chosen, not measured.
MAX_CONNECTIONS = 4096
# The share of the process's file descriptors that the connections of one server may take. Both servers, API and clips,
# leave half for clips and rendering. At half, a small ulimit refuses load tests; at double, nothing is left.
DESCRIPTOR_SHARE = 4
# Connections that may wait until they are accepted. A load test opens hundreds at the same moment; beyond the backlog
# the kernel drops them and the client retries after a second, which would show in its timings. aiohttp's default of 128
# is too few for that; twice as many would make no difference. Chosen, not measured.
BACKLOG = 1024
# Seconds in which the head of a request must arrive, and for which a connection is kept after a response. Clients that
# keep connections for longer may meet a closed one. At half, that happens to more of them; at double, a connection that
# sends nothing counts for longer.
REQUEST_TIMEOUT = 75.0
# Seconds after which a refused client is told to try again. Chosen, not measured.
RETRY_AFTER = 1
# With this code, clients know that a refused submit was not executed, and may send it again.
REFUSAL = '{"error": {"code": "idempotency_unavailable", "message": "too many connections are open"}}'
# Seconds for which a connection that waits for its request, or for the rest of it, is not closed in favour of others.
# Clients on this machine take milliseconds. At half, a busy machine may cut some off while there is a crowd; at double,
# the crowd keeps others out for longer.
UNDISTURBED = 0.25


class _FaultOfClient(logging.Filter):
    """Drops what aiohttp logs about a request that is not HTTP, or whose connection ended too early."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is about an error of the sandbox itself."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError)


# What aiohttp logs about the servers of sandboxes: below its own logger, so that the filter hits no other server.
SERVER_LOG = logging.getLogger("aiohttp.server.sandbox")
SERVER_LOG.addFilter(_FaultOfClient())


class ApplicationListener:
    """The connections of one application. At their ceiling, one that is not being answered makes room for a new one.

    If all are being answered, the new one gets 503. `middleware` is to be the first of the application.
    """

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._limit = max_connections(MAX_CONNECTIONS, DESCRIPTOR_SHARE)
        # The open connections, those first that have been as they are for longest: since when, and the body that is
        # read. None instead of a body: there is no request.
        self._open: dict[asyncio.BaseProtocol, tuple[float, asyncio.WriteTransport, StreamReader | None]] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._refusals = Refusals(RETRY_AFTER, REFUSAL, "application/json")
        self._acceptor = Acceptor(self._accept)

    async def listen(self, server: web.Server, host: str, port: int) -> tuple[str, int]:
        """Pass the connections of an address to a server, and return the address. Raise `OSError` if it is taken."""
        self._server = server
        return await self._acceptor.listen(host, port, backlog=BACKLOG)

    async def aclose(self) -> None:
        """Accept no connection from now on."""
        await self._acceptor.aclose()
        await self._refusals.aclose()
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that the connection of a request is being answered meanwhile."""
        self._note(request.protocol, request.transport, request.content)
        try:
            return await handler(request)
        finally:
            self._note(request.protocol, request.transport, None)

    def _note(self, protocol: Any, transport: Any, body: StreamReader | None) -> None:
        self._open.pop(protocol, None)
        if transport is not None and not transport.is_closing():
            self._open[protocol] = (asyncio.get_running_loop().time(), transport, body)

    async def _accept(self, connection: socket.socket) -> None:
        while (delay := self._make_room()) is not None and delay <= UNDISTURBED:
            try:
                await asyncio.sleep(delay)  # the connections after this one wait for their turn in the system's backlog
            except asyncio.CancelledError:
                connection.close()
                raise
        if delay is not None:
            if self._tls is None:
                self._refusals.add(connection)
            else:
                connection.close()
            return
        # Not awaited: a TLS handshake takes as long as the client likes.
        task = asyncio.create_task(self._connect(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        task.add_done_callback(lambda done: connection.close() if done.cancelled() else None)

    async def _connect(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            transport, protocol = await loop.connect_accepted_socket(self._server, connection, ssl=self._tls)
            assert isinstance(transport, asyncio.WriteTransport)
            if protocol not in self._open:  # its first request may have arrived
                self._note(protocol, transport, None)

    def _make_room(self) -> float | None:
        """Close a connection if that is necessary for another one. Return None if there is room now.

        Otherwise return the seconds until a connection may be closed; infinity if all are being answered.
        """
        if len(self._open) + len(self._opening) < self._limit:
            return None
        self._open = {key: entry for key, entry in self._open.items() if not entry[1].is_closing()}
        if len(self._open) + len(self._opening) < self._limit:
            return None
        now = asyncio.get_running_loop().time()
        for protocol, (since, transport, body) in self._open.items():
            if body is not None and body.is_eof():
                continue
            if (undisturbed := since + UNDISTURBED - now) > 0:
                return undisturbed
            del self._open[protocol]
            transport.abort()
            return None
        return math.inf
