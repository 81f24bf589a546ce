"""Servers on real sockets for tests of the transport: one that sends raw bytes, and one of aiohttp."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from omni_async import TransportError
from omni_async.api.http import HttpTransport, Timeouts

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

KEY = "sk-s3cr3t-0123456789abcdef"
# SHORT is for tests that wait for a timeout. A busy machine may take as long for what is to succeed.
SHORT = Timeouts(connect=1.0, submit=0.4, check=0.4, upload=1.0, idle=0.4)
PATIENT = Timeouts(connect=10, submit=10, check=10, upload=10, idle=10)


class RawServer:
    """A server that reads one request from a connection, and then does what it was given, byte by byte."""

    def __init__(self, act: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]], *, reads: bool = True) -> None:
        self.act = act
        self.reads = reads
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            request = b""
            if self.reads:
                request = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in request.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                request += await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
            self.requests.append(request)
            await self.act(request, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(
    act: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]], *, reads: bool = True, host: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    """Open a raw server; without `reads`, it acts as soon as a client connects."""
    server = RawServer(act, reads=reads)
    listener = await asyncio.start_server(server.serve, host, 0)
    server.url = f"http://{host}:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()


def respond(response: bytes) -> Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]:
    """Return an action for a raw server: write these bytes and close the connection."""

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(response)

    return act


@asynccontextmanager
async def web_server(handler: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Open an HTTP server with one handler for every request, and yield its URL."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def open_transport(url: str, timeouts: Timeouts = PATIENT) -> AsyncIterator[HttpTransport]:
    """Open a transport."""
    transport = HttpTransport(url, KEY, timeouts=timeouts)
    try:
        yield transport
    finally:
        await transport.aclose()


def all_text(error: BaseException) -> str:
    """Return all text that a traceback, a log or a pickle of an error could show."""
    texts, seen = [], set[int]()
    queue: list[BaseException | None] = [error]
    while queue:
        each = queue.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        texts += [str(each), repr(each), repr(each.args), repr(vars(each)), "".join(traceback.format_exception(each))]
        queue += [each.__cause__, each.__context__]
        for name, value in vars(each).items():
            texts.append(f"{name}={getattr(value, '__dict__', value)!r}")
    texts.append(repr(pickle.dumps(error)))
    return "\n".join(texts)


async def error_of(work: Awaitable[object]) -> TransportError:
    """Return the error that a request raises. It shows no API key, and has no cause or context that could."""
    with pytest.raises(TransportError) as caught:
        await work
    assert KEY not in all_text(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


class TwoOrigins:
    """The API's origin and another one. Each records the Authorization headers that it receives."""

    def __init__(self) -> None:
        self.api = ""
        self.cdn = ""
        self.seen: dict[str, list[str | None]] = {"api": [], "cdn": []}

    def handler(self, name: str) -> Any:
        """Return the handler of an origin: /to/STATUS?URL redirects, any other path is a clip."""

        async def handle(request: web.BaseRequest) -> web.Response:
            self.seen[name].append(request.headers.get("Authorization"))
            if request.path.startswith("/to"):
                return web.Response(status=int(request.path[4:] or 302), headers={"Location": request.query_string})
            return web.Response(body=b"clip")

        return handle


@asynccontextmanager
async def two_origins() -> AsyncIterator[tuple[TwoOrigins, HttpTransport]]:
    """Open both origins, and a transport for the API's."""
    origins = TwoOrigins()
    servers = web_server(origins.handler("api")), web_server(origins.handler("cdn"))
    async with servers[0] as origins.api, servers[1] as origins.cdn, open_transport(origins.api) as transport:
        yield origins, transport


async def fetch(transport: HttpTransport, url: str) -> bytes:
    """Return the body at a URL."""
    async with transport.stream(url, {"Accept-Encoding": "identity"}) as response:
        return b"".join([chunk async for chunk in response.chunks()])
