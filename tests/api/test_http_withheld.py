"""A submit may be withheld until its first byte leaves: `may_send` is called on the open connection, and decides."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from omni_async import SubmitWithheld
from omni_async.api.http import HttpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def anyio_backend() -> str:
    """Real sockets, real time."""
    return "asyncio"


class Peer:
    """A server that records its connections and what arrives on them, and answers every request alike."""

    def __init__(self) -> None:
        self.connections = 0
        self.received = b""
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the other side closes."""
        self.connections += 1
        while chunk := await reader.read(65536):
            self.received += chunk
            writer.write(ANSWER)
        writer.close()


@asynccontextmanager
async def peer() -> AsyncIterator[tuple[Peer, HttpTransport]]:
    """Open a peer and a transport connected to it."""
    server = Peer()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    transport = HttpTransport(server.url, "sk-test")
    try:
        yield server, transport
    finally:
        await transport.aclose()
        listener.close()


async def test_a_withheld_submit_sends_no_byte() -> None:
    """`may_send` is called once the connection is open; if it refuses, the server receives nothing at all."""
    async with peer() as (server, transport):
        asked: list[int] = []

        def may_send() -> bool:
            asked.append(server.connections)
            return False

        with pytest.raises(SubmitWithheld, match="withheld") as caught:
            await transport.submit(b"{}", "key", may_send=may_send)
        await asyncio.sleep(0.05)
        assert caught.value.sent is False
        assert (len(asked), server.connections, server.received) == (1, 1, b"")


async def test_a_permitted_submit_calls_may_send_once_and_then_on_sent() -> None:
    """`may_send` comes before `on_sent`, each once, also on a connection that is used again."""
    async with peer() as (server, transport):
        calls: list[str] = []

        def may_send() -> bool:
            calls.append("may send")
            return True

        for number in range(2):
            reply = await transport.submit(
                b"{}", f"key-{number}", may_send=may_send, on_sent=lambda: calls.append("sent")
            )
            assert reply.status == 200
        assert calls == ["may send", "sent"] * 2
        assert (server.connections, server.received.count(b"POST ")) == (1, 2)


async def test_the_next_submit_after_a_withheld_one_is_sent() -> None:
    """A withheld submit leaves the transport usable."""
    async with peer() as (server, transport):
        with pytest.raises(SubmitWithheld):
            await transport.submit(b"{}", "a", may_send=lambda: False)
        assert (await transport.submit(b"{}", "b", may_send=lambda: True)).status == 200
        assert server.received.count(b"Idempotency-Key: b") == 1
        assert b"Idempotency-Key: a" not in server.received
