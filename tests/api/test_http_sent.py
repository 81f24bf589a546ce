"""Whether a request was sent: real sockets that fail at every stage of a connection."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from omni_async import TransportTimeout
from omni_async.api.http import Timeouts
from tests.support.http_servers import (
    KEY,
    SHORT,
    error_of,
    open_transport,
    raw_server,
    respond,
    web_server,
)
from tests.support.ports import free_port

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_proxy")]


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


async def test_a_refused_connection_is_not_sent() -> None:
    """No server listens on the port, so no byte was sent."""
    async with open_transport(f"http://127.0.0.1:{free_port()}") as transport:
        assert not (await error_of(transport.submit(b"{}", "k"))).sent


async def test_an_unknown_host_is_not_sent() -> None:
    """The host name does not resolve, so no byte was sent."""
    async with open_transport("http://no-such-host.invalid") as transport:
        assert not (await error_of(transport.submit(b"{}", "k"))).sent


async def test_a_connect_timeout_is_not_sent() -> None:
    """The connect timeout of a full backlog is a timeout, and no byte was sent."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        async with open_transport(
            f"http://127.0.0.1:{listener.getsockname()[1]}", Timeouts(connect=0.3, submit=5)
        ) as transport:
            error = await error_of(transport.submit(b"{}", "k"))
        for filler in fillers:
            filler.close()
    assert not error.sent
    assert isinstance(error, TransportTimeout)


async def test_a_failed_tls_handshake_is_not_sent() -> None:
    """TLS to a plain server fails before any byte of the request is sent."""
    plain = respond(b"HTTP/1.1 400 no\r\n\r\n")
    async with (
        raw_server(plain, reads=False) as server,
        open_transport(server.url.replace("http:", "https:")) as transport,
    ):
        assert not (await error_of(transport.submit(b"{}", "k"))).sent


async def test_a_tls_handshake_that_hangs_is_not_sent() -> None:
    """A server that accepts the connection but does not answer the handshake gets no byte of the request."""

    async def silent(_: bytes, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3)

    async with (
        raw_server(silent, reads=False) as server,
        open_transport(server.url.replace("http:", "https:"), SHORT) as transport,
    ):
        error = await error_of(transport.submit(b"{}", "k"))
    assert not error.sent
    assert isinstance(error, TransportTimeout)


async def test_a_disconnect_after_the_body_counts_as_sent() -> None:
    """A disconnect after the request proves nothing, and the transport does not resend a POST."""
    async with raw_server(respond(b"")) as server, open_transport(server.url) as transport:
        assert (await error_of(transport.submit(b"{}", "k"))).sent
    assert len(server.requests) == 1, "a POST is never resent by the transport itself"


async def test_a_disconnect_before_reading_is_not_retried() -> None:
    """A disconnect right after connecting is an error; the transport does not try again."""
    async with raw_server(respond(b""), reads=False) as server, open_transport(server.url) as transport:
        await error_of(transport.submit(b"{}", "k"))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
        b"HTTP/1.1 200 OK\r\nX: y",
        b"\x00\x01\x02garbage",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"HTTP/9.9 999999 what\r\n\r\n",
        b"HTTP/1.1 2oo OK " + KEY.encode() + b"\r\n\r\n",
        KEY.encode() + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["no body", "no chunk", "head cut", "garbage", "ssh", "version", "bad line with key", "key alone", "only 100"],
)  # fmt: skip
async def test_an_unreadable_response_counts_as_sent(response: bytes) -> None:
    """Any nonsense from the server is one `TransportError` that says "sent", without the API key."""
    async with raw_server(respond(response)) as server, open_transport(server.url) as transport:
        assert (await error_of(transport.submit(b"{}", "k"))).sent
    assert len(server.requests) == 1


async def test_a_response_timeout_counts_as_sent() -> None:
    """A server that reads the request and does not answer may have accepted it."""

    async def silent(_: bytes, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)

    async with raw_server(silent) as server, open_transport(server.url, SHORT) as transport:
        error = await error_of(transport.submit(b"{}", "k"))
        assert error.sent
        assert isinstance(error, TransportTimeout)


async def test_a_slow_response_ends_with_the_timeout() -> None:
    """A response that arrives byte by byte does not outlast the timeout, and what has arrived is returned."""

    async def trickle(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _number in range(40):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with raw_server(trickle) as server, open_transport(server.url, SHORT) as transport:
        response = await transport.check("t")
    assert set(response.body) == set(b"x")
    assert len(response.body) <= 1 + SHORT.check / 0.05
    assert "no complete response in time" in response.cut_short


@pytest.mark.slow
async def test_an_idle_connection_is_not_reused() -> None:
    """The next request uses the same connection; soon, before any server closes an idle one, a new one."""
    visitors = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        visitors.append(request.transport.get_extra_info("peername"))
        return web.json_response({})

    async with web_server(handler) as url, open_transport(url) as transport:
        await transport.check("t")
        await transport.check("t")
        await asyncio.sleep(1.5)  # the shortest usual limit is two seconds, and the network takes some of them
        await transport.submit(b"{}", "k")
    assert visitors[0] == visitors[1] != visitors[2]


async def test_a_submit_on_a_closing_connection_is_not_resent() -> None:
    """A POST on a kept connection that the server closes counts as sent, and is not resent."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        seen.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, open_transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as transport:
        await transport.check("t")
        error = await error_of(transport.submit(b"{}", "k"))
        assert error.sent
        assert seen == [b"GET", b"POST"]
