"""A server with a ceiling, under crowds and under requests that no browser sends, over raw sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from omni_async import listening
from omni_async.listening import BoundedServer, max_connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
TIMEOUT = 10.0


class Crowd:
    """Connections to one server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, content: bytes) -> asyncio.StreamReader:
        """Open a connection, send something, and leave it open."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.connections.append((reader, writer))
        writer.write(content)
        return reader

    async def ask(self, content: bytes = REQUEST) -> bytes:
        """Return the first line of the response, b"" if the connection is closed without one."""
        return await first_line(await self.send(content))


async def first_line(reader: asyncio.StreamReader) -> bytes:
    """Return the first line that is received."""
    async with asyncio.timeout(TIMEOUT):
        try:
            return (await reader.readline()).strip()
        except ConnectionError:
            return b""


@asynccontextmanager
async def served(limit: int, *, hold: asyncio.Event | None = None) -> AsyncIterator[tuple[BoundedServer, Crowd]]:
    """Serve at most so many connections. Requests for /hold are answered once `hold` is set."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        with server.answering(request):
            if request.path == "/hold" and hold is not None:
                await hold.wait()
            return web.Response(text="hello")

    server = BoundedServer(handle)
    server._limit = limit
    crowd = Crowd(await server.listen("127.0.0.1", 0))
    try:
        yield server, crowd
    finally:
        for _, writer in crowd.connections:
            writer.close()
        await server.aclose(0.5)


async def test_a_new_connection_takes_the_place_of_one_that_has_waited_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-sent requests keep no other client out; a connection that is being answered is not closed for another."""
    monkeypatch.setattr(listening, "_UNDISTURBED", 0.0)
    hold = asyncio.Event()
    async with served(4, hold=hold) as (server, crowd):
        busy = await crowd.send(REQUEST.replace(b"/ ", b"/hold "))
        half_sent = [await crowd.send(b"GET / HTTP/1.1\r\nHost: ") for _ in range(20)]
        assert await crowd.ask() == b"HTTP/1.1 200 OK"
        assert len(server._open) <= 4
        assert await half_sent[0].read() == b""
        hold.set()
        assert await first_line(busy) == b"HTTP/1.1 200 OK"


async def test_a_connection_has_a_moment_to_send_its_request() -> None:
    """A crowd of new connections is refused rather than closing those that came just before."""
    async with served(2) as (_, crowd):
        first, second = await crowd.send(b""), await crowd.send(b"")
        assert await crowd.ask() == b"HTTP/1.1 503 Service Unavailable"
        assert not first.at_eof()
        assert not second.at_eof()


async def test_above_the_ceiling_each_request_is_answered_503_at_once() -> None:
    """With a time to try again; once a place is free, a request is answered."""
    hold = asyncio.Event()
    async with served(3, hold=hold) as (server, crowd):
        busy = [await crowd.send(REQUEST.replace(b"/ ", b"/hold ")) for _ in range(3)]
        answers = await asyncio.gather(*(crowd.ask() for _ in range(50)))
        assert set(answers) == {b"HTTP/1.1 503 Service Unavailable"}
        _, writer = crowd.connections[0]
        writer.close()  # its handler is cancelled, and its place is free
        async with asyncio.timeout(TIMEOUT):
            while len(server._open) == 3:
                await asyncio.sleep(0.01)
        assert await crowd.ask() == b"HTTP/1.1 200 OK"
        hold.set()
        assert [await first_line(reader) for reader in busy[1:]] == [b"HTTP/1.1 200 OK"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("begin", [b"", b"GET / HT", REQUEST[:-2], REQUEST + b"GET", REQUEST])
async def test_a_connection_that_sends_no_request_in_time_is_closed(
    begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is silent, half-sent, idle after a response, or drips bytes."""
    monkeypatch.setattr(listening, "_REQUEST_TIMEOUT", 0.5)
    async with served(4) as (server, crowd):
        await crowd.send(begin)
        _, writer = crowd.connections[0]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(3.0):
            while server._open:
                if begin == REQUEST[:-2]:
                    writer.write(b"x")
                await asyncio.sleep(0.1)


JUNK = {
    "binary": bytes(range(256)) * 10,
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "http/0.9": b"GET /\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "long line": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "large header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "bad header": b"GET / HTTP/1.1\r\nHost a\r\n\r\n",
    "null in header": b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
    "bad length": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "bad chunk": b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "bad target": b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "bad port": b"GET http://a:99999999/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "connect": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
    "unsent body": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\nabc",
    "bad gzip": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "expect": b"GET / HTTP/1.1\r\nHost: a\r\nExpect: the impossible\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("kind", JUNK)
async def test_what_is_no_request_is_refused_quietly(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The connection ends, nothing above DEBUG is logged and no line of a traceback; the next request is answered."""
    caplog.set_level(logging.DEBUG)
    async with served(4) as (_, crowd):
        line = await crowd.ask(JUNK[kind])
        assert line == b"" or line.split()[1] in {b"400", b"200", b"405", b"417", b"404"}, line
        assert await crowd.ask() == b"HTTP/1.1 200 OK"
    shown = [record for record in caplog.records if record.name != "asyncio" or record.levelno > logging.DEBUG]
    assert len(shown) <= 1
    assert all(record.levelno == logging.DEBUG and not record.exc_info for record in shown)


async def test_a_connection_that_is_reset_at_any_moment_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever was sent before; no log entry, and no connection is still counted."""
    hold = asyncio.Event()
    async with served(50, hold=hold) as (server, crowd):
        for begin in (b"", b"GET", REQUEST, REQUEST.replace(b"/ ", b"/hold "), REQUEST * 20, JUNK["binary"]):
            connection = socket.create_connection(("127.0.0.1", crowd.port))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close sends a reset
            connection.sendall(begin)
            await asyncio.sleep(0.02)
            connection.close()
        async with asyncio.timeout(TIMEOUT):
            while server._open or server._waiting:
                await asyncio.sleep(0.01)
        assert await crowd.ask() == b"HTTP/1.1 200 OK"
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize(("files", "expected"), [(16, 2), (256, 32), (1024, 64), (1_000_000, 64)])
def test_the_ceiling_leaves_the_run_its_descriptors(files: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of what the process may open, and no more than 64."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))
    assert max_connections() == expected
