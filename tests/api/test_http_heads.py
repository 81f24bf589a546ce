"""Responses that are not quite HTTP, over raw sockets: they are read all the same."""

from __future__ import annotations

import asyncio
import socket

import pytest

from omni_async import TransportError
from omni_async.api.http import Timeouts
from omni_async.api.parsing import parse_task_id
from tests.support.http_servers import KEY, error_of, fetch, open_transport, raw_server, respond
from tests.support.markers import slow_after
from tests.support.odd_replies import (
    ACCEPTED,
    LENGTH,
    PACKED,
    REFUSED_BY_AIOHTTP,
    sends,
    submit_to,
)

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_proxy")]


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.mark.parametrize(
    "response", [*PACKED.values(), *REFUSED_BY_AIOHTTP.values()], ids=[*PACKED, *REFUSED_BY_AIOHTTP]
)
async def test_the_task_in_an_odd_response_is_accepted(response: bytes) -> None:
    """Whatever stands around it: what HTTP allows, and what servers send all the same."""
    assert parse_task_id(await submit_to(response)) == "task_01ABC"


@pytest.mark.parametrize("name", slow_after(8, sorted(REFUSED_BY_AIOHTTP.keys() - {"no head", "no status"})))
async def test_a_body_that_comes_after_an_odd_head_is_read(name: str) -> None:
    """Many servers send the head alone. Nothing of it may end the connection before the body is there."""
    response = REFUSED_BY_AIOHTTP[name]
    start = response.index(b'{"code"')

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        for part in (
            response[: start // 2],
            response[start // 2 : start],
            response[start : start + 9],
            response[start + 9 :],
        ):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_server(act) as server, open_transport(server.url, Timeouts(submit=10)) as transport:
        assert parse_task_id(await transport.submit(b"{}", "k")) == "task_01ABC"


async def test_what_is_not_http_is_not_waited_for() -> None:
    """A server of another protocol that says its name and waits is refused at once."""

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.0\r\n")
        await writer.drain()
        await asyncio.sleep(8)

    async with raw_server(act) as server, open_transport(server.url, Timeouts(submit=7)) as transport:
        began = asyncio.get_running_loop().time()
        assert (await error_of(transport.submit(b"{}", "k"))).responded
        assert asyncio.get_running_loop().time() - began < 3


@pytest.mark.parametrize(
    "response", [b"\x15\x03\x01\x00\x02\x02\x28", b"SSH-2.0-OpenSSH_9.0\r\n", b"<html></html>\r\n\r\n"]
)
async def test_what_is_not_http_is_said_to_have_come(response: bytes) -> None:
    """The same request would get the same again."""
    async with raw_server(respond(response)) as server, open_transport(server.url) as transport:
        error = await error_of(transport.submit(b"{}", "k"))
    assert error.sent
    assert error.responded
    assert "not valid HTTP" in str(error)
    assert "\n" not in str(error)


@pytest.mark.slow
async def test_bytes_after_a_response_do_not_reach_the_next_request() -> None:
    """A second response that was not requested, early or late, whole or in part, is not taken for another request's."""
    first, stray = sends(LENGTH.strip()), sends(LENGTH.strip(), body=ACCEPTED.replace(b"01ABC", b"66666"))

    for extra, pause in ((stray, 0.0), (stray, 0.05), (stray[:30], 0.05), (b"\r\n\r\n", 0.05), (b"junk", 0.05)):
        connections = 0

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, extra: bytes = extra, pause: float = pause
        ) -> None:
            nonlocal connections
            connections += 1
            try:
                while True:
                    await reader.readuntil(b"{}")
                    writer.write(first)
                    await asyncio.sleep(pause)
                    writer.write(extra)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, open_transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as transport:
            for _ in range(3):
                assert parse_task_id(await transport.submit(b"{}", "k")) == "task_01ABC"
                await asyncio.sleep(pause * 2)
        assert connections == 3


@pytest.mark.parametrize("extra", [sends(LENGTH.strip()), b"junk", None], ids=["response", "junk", "end"])
@pytest.mark.parametrize("call", ["submit", "check"])
async def test_what_is_not_read_yet_when_a_request_begins_is_not_its_response(call: str, extra: bytes | None) -> None:
    """Bytes, or the end of the connection, may be there while a busy event loop has not read them yet."""
    responded, sent = asyncio.Event(), asyncio.Event()

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(sends(LENGTH.strip(), body=ACCEPTED.replace(b"01ABC", b"%05d" % len(server.requests))))
        await responded.wait()
        if extra is None:
            writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        else:
            writer.write(extra)
        sent.set()

    async with raw_server(act) as server, open_transport(server.url) as transport:
        requests = [transport.submit(b"{}", "k") if call == "submit" else transport.check("t") for _ in range(2)]
        assert parse_task_id(await requests[0]) == "task_00001"
        responded.set()
        await sent.wait()  # its task is the next to run, before anything is read
        assert parse_task_id(await requests[1]) == "task_00002"


async def test_a_connection_is_kept_after_a_plain_response() -> None:
    """Nothing of this costs new connections."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                await reader.readuntil(b"{}")
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await asyncio.sleep(0.01)
                writer.write(sends(LENGTH.strip(), b"X-Long: " + b"x" * 9000))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, open_transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as transport:
        for _ in range(5):
            assert parse_task_id(await transport.submit(b"{}", "k")) == "task_01ABC"
    assert connections == 1


async def test_a_refused_tunnel_is_no_response_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a proxy says to CONNECT is not taken for the API's words, whatever it looks like."""
    async with raw_server(respond(sends(LENGTH.strip(), status=b"HTTP/1.1 503 no"))) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        async with open_transport("https://api.invalid") as transport:
            with pytest.raises(TransportError) as caught:
                await transport.submit(b"{}", "k")
    assert not caught.value.sent


@pytest.mark.parametrize(
    "name",
    sorted(
        REFUSED_BY_AIOHTTP.keys() - {"end of the last chunk cut", "bytes after the last chunk", "no head", "no status"}
    ),
)
async def test_a_clip_with_an_odd_head_is_downloaded(name: str) -> None:
    """A clip is paid for, and a head that aiohttp refuses would come again with every request."""
    async with (
        raw_server(respond(REFUSED_BY_AIOHTTP[name])) as server,
        open_transport("http://127.0.0.1:1") as transport,
    ):
        assert await fetch(transport, f"{server.url}/clip") == ACCEPTED
    assert len(server.requests) == 1


async def test_a_large_clip_with_an_odd_head_arrives_in_pieces() -> None:
    """Only the head is tidied, whatever the packets are; a redirect with such a head is followed too."""
    clip = bytes(range(256)) * 8000

    async def act(request: bytes, writer: asyncio.StreamWriter) -> None:
        size = b"Content-Length: %d" % len(clip)
        response = sends(size, size, b"ETag: x", body=clip)
        if request.startswith(b"GET /from "):
            response = sends(
                b"Content-Length: 0", b"Content-Length: 0", b"Location: /to", status=b"HTTP/1.1 302 x", body=b""
            )
        for start in (0, 10, 60, 100):
            writer.write(response[start : {0: 10, 10: 60, 60: 100}.get(start)])
            await writer.drain()
            await asyncio.sleep(0.01)

    async with (
        raw_server(act) as server,
        open_transport("http://127.0.0.1:1") as transport,
        transport.stream(f"{server.url}/from", {}) as response,
    ):
        assert response.headers["etag"] == "x"
        assert response.headers["content-length"] == str(len(clip))
        assert b"".join([chunk async for chunk in response.chunks()]) == clip
    assert len(server.requests) == 2


async def test_no_half_of_a_key_is_quoted() -> None:
    """A message about a header that is refused does not quote it, because the quotation is cut off."""
    response = sends(b"X-Echo: " + b"e" * 80 + KEY.encode() * 60_000, body=b"")
    async with raw_server(respond(response)) as server, open_transport(server.url, Timeouts()) as transport:
        error = await error_of(transport.submit(b"{}", "k"))
    assert KEY[:8] not in str(error)
