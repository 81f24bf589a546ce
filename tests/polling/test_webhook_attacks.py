"""Webhook calls that no API sends, over raw sockets: each is answered or closed, quietly, and the next is received."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from omni_async.ledger import MemoryJobStore
from omni_async.polling import webhook as module
from omni_async.polling.webhook import WebhookReceiver, create_application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TIMEOUT = 10.0
WRONG = "/omni/guessed/callback"


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


class Server:
    """A server of the user's with the receiver mounted, and the task ids that it passed on."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.path = path
        self.called: list[str] = []

    def post(self, body: bytes, *headers: str, length: int | None = None, path: str = "") -> bytes:
        """Return a request."""
        framing = () if length == -1 else (f"Content-Length: {len(body) if length is None else length}",)
        head = [f"POST {path or self.path} HTTP/1.1", "Host: here", *framing, *headers, "", ""]
        return "\r\n".join(head).encode() + body

    async def ask(self, content: bytes) -> int:
        """Send something and return the status of the response; 0 if there is none."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(content)
            async with asyncio.timeout(TIMEOUT):
                line = await reader.readline()
            return int(line.split()[1]) if line else 0
        finally:
            writer.close()


@asynccontextmanager
async def served() -> AsyncIterator[Server]:
    """Serve a receiver that is enabled and open."""
    receiver = WebhookReceiver("http://127.0.0.1:9")
    receiver.enable("http://127.0.0.1:8/omni")
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.add_subapp("/omni", create_application(receiver))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = Server(runner.addresses[0][1], "")
    await receiver.open(MemoryJobStore(), server.called.append)
    server.path = f"/omni/{receiver._secret}/callback"
    try:
        yield server
    finally:
        await runner.cleanup()


BODY = b'{"id": "task_1"}'
BOMB = gzip.compress(bytes(50_000_000))


ODD_BODIES: dict[str, tuple[bytes, list[str], int | None, int]] = {
    "no gzip": (b"abc", ["Content-Encoding: gzip"], None, 400),
    "cut gzip": (gzip.compress(BODY)[:15], ["Content-Encoding: gzip"], None, 400),
    "bomb": (BOMB, ["Content-Encoding: gzip"], None, 413),
    "large": (b"x" * 70_000, [], None, 413),
    "announced": (b"x", [], 10_000_000, 413),
    "deep": (b"[" * 60_000, [], None, 400),
    "long number": (b'{"id": ' + b"9" * 60_000 + b"}", [], None, 400),
    "no text": (b"\xff\xfe", [], None, 400),
    "long id": (b'{"id": "' + b"x" * 300 + b'"}', [], None, 400),
    "gzip": (gzip.compress(BODY), ["Content-Encoding: gzip"], None, 204),
    "chunked": (b'10\r\n{"id": "task_1"}\r\n0\r\n\r\n', ["Transfer-Encoding: chunked"], -1, 204),
}


@pytest.mark.parametrize("kind", ODD_BODIES)
async def test_an_odd_body_is_answered_without_a_log_entry(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing above DEBUG; a call on the same server is received afterwards."""
    body, headers, length, status = ODD_BODIES[kind]
    async with served() as server:
        assert await server.ask(server.post(body, *headers, length=length)) == status
        assert await server.ask(server.post(BODY)) == 204
        assert set(server.called) == {"task_1"}
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize("is_reset", [True, False])
async def test_a_caller_that_leaves_is_no_error(is_reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Within the head, within the body, with the right path and a wrong one; no log entry above DEBUG."""
    async with served() as server:
        cut = server.post(b'{"id', length=100)
        for content in (b"", cut[:30], cut, server.post(b"x", length=100, path=WRONG), server.post(BODY)):
            connection = socket.create_connection(("127.0.0.1", server.port))
            if is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            connection.sendall(content)
            await asyncio.sleep(0.05)
            connection.close()
        await asyncio.sleep(0.05)
        assert await server.ask(server.post(BODY)) == 204
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize("path", [WRONG, "/omni/%ff/callback", "/omni/%ed%a0%80/callback", "/omni/%00/callback"])
async def test_a_wrong_path_costs_no_more_than_a_404(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes before the body, which is not decoded, and the connection ends soon, whatever is to come."""
    monkeypatch.setattr(module, "_SKIP_TIMEOUT", 0.1)
    async with served() as server:
        for content in (
            server.post(b"x", length=10_000_000, path=path),
            server.post(b"", "Transfer-Encoding: chunked", length=-1, path=path),
            server.post(BOMB[:1000], "Content-Encoding: gzip", length=len(BOMB), path=path),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(content)
            async with asyncio.timeout(1.0):
                assert (await reader.readline()).split()[1] == b"404"
                await reader.read()
            writer.close()
        assert server.called == []


async def test_bodies_that_are_read_at_the_same_time_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit a call gets 503, and the API calls again; a place is free when its caller leaves."""
    monkeypatch.setattr(module, "_MAX_BEING_READ", 3)
    async with served() as server:
        slow = []
        for _ in range(3):
            slow.append(await asyncio.open_connection("127.0.0.1", server.port))
            slow[-1][1].write(server.post(b"{", length=100))
        await asyncio.sleep(0.1)
        assert await server.ask(server.post(BODY)) == 503
        for _, writer in slow:
            writer.close()
        await asyncio.sleep(0.1)
        assert await server.ask(server.post(BODY)) == 204
