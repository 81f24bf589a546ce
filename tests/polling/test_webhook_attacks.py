"""Webhook calls that no API sends, over raw sockets: each is answered or closed, quietly, and the next is received."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from omni_async import ClientClosed, listening
from omni_async.ledger import MemoryJobStore
from omni_async.polling import webhook_server as module
from omni_async.polling.webhook import WebhookReceiver
from omni_async.polling.webhook_server import create_application, serve
from tests.test_listening import JUNK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TIMEOUT = 10.0
WRONG = "/omni/guessed/callback"
WRONG_HEAD = f"POST {WRONG} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{{".encode()


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
async def mounted(receiver: WebhookReceiver) -> AsyncIterator[int]:
    """Serve a receiver as a sub-application of the user's, and yield the port."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.add_subapp("/omni", create_application(receiver))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def served(*, is_mounted: bool = False) -> AsyncIterator[Server]:
    """Serve a receiver that is enabled and open."""
    receiver = WebhookReceiver("http://127.0.0.1:9")
    receiver.enable("http://127.0.0.1:8/omni")
    server = Server(0, "")
    await receiver.open(MemoryJobStore(), server.called.append)
    server.path = f"/omni/{receiver._secret}/callback"
    async with AsyncExitStack() as stack:
        stack.push_async_callback(receiver.aclose)
        server.port = (
            await stack.enter_async_context(mounted(receiver)) if is_mounted else await serve(receiver, "127.0.0.1", 0)
        )
        yield server


each_way = pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "served"])

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


@each_way
@pytest.mark.parametrize("kind", ODD_BODIES)
async def test_an_odd_body_is_answered_without_a_log_entry(
    kind: str, is_mounted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing above DEBUG; a call on the same server is received afterwards."""
    body, headers, length, status = ODD_BODIES[kind]
    async with served(is_mounted=is_mounted) as server:
        assert await server.ask(server.post(body, *headers, length=length)) == status
        assert await server.ask(server.post(BODY)) == 204
        assert set(server.called) == {"task_1"}
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@each_way
@pytest.mark.parametrize("is_reset", [True, False])
async def test_a_caller_that_leaves_is_no_error(
    is_mounted: bool, is_reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Within the head, within the body, with the right path and a wrong one; no log entry above DEBUG."""
    async with served(is_mounted=is_mounted) as server:
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


@each_way
@pytest.mark.parametrize("path", [WRONG, "/omni/%ff/callback", "/omni/%ed%a0%80/callback", "/omni/%00/callback"])
async def test_a_wrong_path_costs_no_more_than_a_404(
    is_mounted: bool, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes before the body, which is not decoded, and the connection ends soon, whatever is to come."""
    monkeypatch.setattr(module, "_SKIP_TIMEOUT", 0.1)
    async with served(is_mounted=is_mounted) as server:
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


@each_way
async def test_bodies_that_are_read_at_the_same_time_are_limited(
    is_mounted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the limit a call gets 503, and the API calls again; a place is free when its caller leaves."""
    monkeypatch.setattr(module, "_MAX_BEING_READ", 3)
    async with served(is_mounted=is_mounted) as server:
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


# Only with a server of our own: what stands before a request is not this package's elsewhere


@pytest.mark.parametrize("prefix", ["", "/omni", "/another/one"])
async def test_a_proxy_may_pass_on_the_path_or_not(prefix: str) -> None:
    """Only the secret counts; other paths and methods are refused."""
    async with served() as server:
        path = prefix + server.path.removeprefix("/omni")
        assert await server.ask(server.post(BODY, path=path)) == 204
        assert await server.ask(server.post(BODY, path=path.removesuffix("/callback"))) == 404
        assert await server.ask(server.post(BODY, path=f"{path}/")) == 404
        assert await server.ask(server.post(BODY, path="/callback")) == 404
        assert await server.ask(server.post(b"", path=path).replace(b"POST", b"GET", 1)) == 405
    assert server.called == ["task_1"]


@pytest.mark.parametrize("kind", JUNK)
async def test_what_is_no_request_is_closed_quietly(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing above DEBUG is logged, and the next call is received."""
    async with served() as server:
        assert await server.ask(JUNK[kind]) in {0, 400, 404, 405}
        assert await server.ask(server.post(BODY)) == 204
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize("begin", [b"", b"POST /omni/", WRONG_HEAD])
async def test_a_call_is_received_through_a_crowd(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait longest give way, and the ceiling holds; a crowd that knows no secret holds no place for long."""
    monkeypatch.setattr(listening, "_UNDISTURBED", 0.0)
    monkeypatch.setattr(listening, "max_connections", lambda: 4)
    async with served() as server:
        crowd = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        for _, writer in crowd:
            writer.write(begin)
        async with asyncio.timeout(TIMEOUT):
            while await server.ask(server.post(BODY)) != 204:
                await asyncio.sleep(0.1)
        for _, writer in crowd:
            writer.close()


async def test_the_end_of_the_client_closes_everything() -> None:
    """Nothing listens any more, and open connections end."""
    async with served() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(server.post(b"{", length=100))
        await asyncio.sleep(0.05)
    async with asyncio.timeout(TIMEOUT):
        assert await reader.read() in {b"", b"HTTP/1.1 400 Bad Request"}
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await server.ask(b"")


async def test_a_receiver_that_is_closed_serves_nothing() -> None:
    """The error says so, and no socket stays open."""
    receiver = WebhookReceiver("http://127.0.0.1:9")
    with pytest.raises(ClientClosed, match="before it listened"):
        await serve(receiver, "127.0.0.1", 0)
