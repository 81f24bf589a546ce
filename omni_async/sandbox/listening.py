"""Listening sockets with a ceiling of connections, whose malformed requests are answered without a traceback."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    import ssl

if sys.platform != "win32":
    import resource

# Connections of one server. Load tests open over a thousand at the same moment. Chosen, not measured.
MAX_CONNECTIONS = 4096
# The share of the process's file descriptors that the connections of one server may take. Both servers, API and clips,
# leave half for clips and rendering. At half, a small ulimit refuses load tests; at double, nothing is left.
DESCRIPTOR_SHARE = 4
# Connections that may wait until they are accepted. A load test opens hundreds at the same moment; beyond the backlog
# the kernel drops them and the client retries after a second, which would show in its timings. aiohttp's default of 128
# is too few for that; twice as many would make no difference. Chosen, not measured.
BACKLOG = 1024
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _FaultOfClient(logging.Filter):
    """Drops what aiohttp logs about a request that is not HTTP, or whose connection ended too early."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is about an error of the sandbox itself."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError)


# What aiohttp logs about the servers of sandboxes: below its own logger, so that the filter hits no other server.
SERVER_LOG = logging.getLogger("aiohttp.server.sandbox")
SERVER_LOG.addFilter(_FaultOfClient())


class _Refusal(asyncio.Protocol):
    """Answers a connection above the ceiling with a 503, whatever it sends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the response and close."""
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(REFUSAL)
        transport.close()


def max_connections() -> int:
    """Return how many connections one server may have, given the number of files that this process may open."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MAX_CONNECTIONS if limit == resource.RLIM_INFINITY else max(1, min(MAX_CONNECTIONS, limit // DESCRIPTOR_SHARE))
    )


async def listen(server: web.Server, host: str, port: int, tls: ssl.SSLContext | None) -> asyncio.Server:
    """Serve on an address; return the listening sockets. Raise `OSError` if it is not available."""
    limit = max_connections()

    def protocol() -> asyncio.Protocol:
        return server() if len(server.connections) < limit else _Refusal()

    return await asyncio.get_running_loop().create_server(protocol, host, port, backlog=BACKLOG, ssl=tls)
