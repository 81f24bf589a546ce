"""Responses that are cut off, mislabelled or not quite HTTP, over raw sockets: what the server has said counts."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import TYPE_CHECKING

import pytest

from omni_async import TransportError
from omni_async.api.http import Timeouts
from omni_async.api.outcomes import SubmitOutcome, classify_submit
from omni_async.api.parsing import parse_task_id
from tests.support.http_servers import error_of, open_transport, raw_server, respond

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from omni_async.api.http import HttpTransport
    from omni_async.api.parsing import Response

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_proxy")]

ACCEPTED = json.dumps({"code": 200, "data": [{"status": "submitted", "task_id": "task_01ABC"}]}).encode()
SIZE = b"%d" % len(ACCEPTED)
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: " + SIZE + b"\r\n"
CHUNK = b"%x\r\n%s\r\n" % (len(ACCEPTED), ACCEPTED)
ZIPPED = gzip.compress(ACCEPTED)
RAW_DEFLATE = zlib.compress(ACCEPTED, wbits=-15)


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


def sends(*headers: bytes, body: bytes = ACCEPTED, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """Return a response."""
    return b"\r\n".join([status, *headers, b"", body])


def packed(body: bytes, label: bytes | None) -> bytes:
    """Return a response with a body that is labelled as compressed."""
    labels = [] if label is None else [b"Content-Encoding: " + label]
    return sends(b"Content-Length: %d" % len(body), *labels, body=body)


CUT = {
    "length too large": sends(b"Content-Length: 5000"),
    "no last chunk": sends(b"Transfer-Encoding: chunked", body=CHUNK),
    "chunk cut after the object": sends(b"Transfer-Encoding: chunked", body=b"fff\r\n" + ACCEPTED),
    "bad chunk after the object": sends(b"Transfer-Encoding: chunked", body=CHUNK + b"zz\r\n"),
    "not chunked": sends(b"Transfer-Encoding: chunked"),
    "cut in the object": sends(b"Content-Length: " + SIZE, body=ACCEPTED[:-3]),
    "cut gzip": sends(b"Content-Encoding: gzip", b"Content-Length: 5000", body=ZIPPED[:-9]),
}
MISLABELLED = {
    **{f"plain as {label}": packed(ACCEPTED, label.encode()) for label in ("gzip", "br", "deflate", "zstd", "x-new")},
    "gzip without its end": packed(ZIPPED[:-6], b"gzip"),
    "gzip with a wrong checksum": packed(ZIPPED[:-8] + bytes(8), b"gzip"),
}
PACKED = {
    "gzip": packed(ZIPPED, b"gzip"),
    "x-gzip": packed(ZIPPED, b"x-gzip"),
    "gzip unlabelled": packed(ZIPPED, None),
    "gzip as identity": packed(ZIPPED, b"identity"),
    "gzip as br": packed(ZIPPED, b"br"),
    "gzip in gzip": packed(gzip.compress(ZIPPED), b"gzip, gzip"),
    "deflate": packed(zlib.compress(ACCEPTED), b"deflate"),
    "raw deflate": packed(RAW_DEFLATE, b"deflate"),
    "gzip in chunks": sends(
        b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(ZIPPED), ZIPPED)
    ),
}
REFUSED_BY_AIOHTTP = {
    "long header": sends(b"X-Policy: " + b"p" * 20_000, LENGTH.strip()),
    "huge header": sends(b"X-Policy: " + b"p" * 400_000, LENGTH.strip()),
    "many headers": sends(*[b"X-%d: 1" % number for number in range(400)], LENGTH.strip()),
    "long reason": sends(LENGTH.strip(), status=b"HTTP/1.1 200 " + b"o" * 20_000),
    "doubled length": sends(LENGTH.strip(), LENGTH.strip()),
    "two lengths": sends(LENGTH.strip(), b"Content-Length: 7"),
    "list of lengths": sends(b"Content-Length: %s, %s" % (SIZE, SIZE)),
    "length and chunks": sends(LENGTH.strip(), b"Transfer-Encoding: chunked", body=CHUNK + b"0\r\n\r\n"),
    "chunks and length": sends(b"Transfer-Encoding: chunked", LENGTH.strip(), body=CHUNK + b"0\r\n\r\n"),
    "end of the last chunk cut": sends(b"Transfer-Encoding: chunked", body=CHUNK + b"0\r\n"),
    "doubled chunked": sends(*[b"Transfer-Encoding: chunked"] * 2, body=CHUNK + b"0\r\n\r\n"),
    "bad length": sends(b"Content-Length: many"),
    "negative length": sends(b"Content-Length: -1"),
    "bytes after the body": sends(LENGTH.strip(), body=ACCEPTED + b"\r\n\r\nand more"),
    "bytes after a closing body": sends(b"Connection: close", LENGTH.strip(), body=ACCEPTED + b"<!-- 0.1 s -->"),
    "bytes after the last chunk": sends(b"Transfer-Encoding: chunked", body=CHUNK + b"0\r\n\r\nand more"),
    "another response": sends(LENGTH.strip()) + sends(LENGTH.strip(), body=ACCEPTED.replace(b"01ABC", b"02DEF")),
    "space in a name": sends(b"Bad Name: 1", LENGTH.strip()),
    "space before the colon": sends(b"Content-Length : " + SIZE),
    "no colon": sends(b"no colon", LENGTH.strip()),
    "no name": sends(b": value", LENGTH.strip()),
    "control characters": sends(b"X-A: \x00\x01\x7f", LENGTH.strip()),
    "not ASCII": sends("X-Ä: ü".encode("latin-1"), LENGTH.strip()),
    "bare line feeds": sends(b"X-A: 1", LENGTH.strip()).replace(b"\r\n", b"\n"),
    "folded header": sends(b"X-A: 1\r\n\tand 2", LENGTH.strip()),
    "folded length": sends(b"Content-Length:\r\n " + SIZE),
    "no reason": sends(LENGTH.strip(), status=b"HTTP/1.1 200"),
    "odd reason": sends(LENGTH.strip(), status="HTTP/1.1 200 Ünglück\x01".encode()),
    "lower case": sends(LENGTH.strip(), status=b"http/1.1 200 ok"),
    "another version": sends(LENGTH.strip(), status=b"HTTP/1.2 200 OK"),
    "HTTP/2": sends(LENGTH.strip(), status=b"HTTP/2 200"),
    "another name": sends(LENGTH.strip(), status=b"ICY 200 OK"),
    "status alone": sends(LENGTH.strip(), status=b"200 OK"),
    "line feeds first": b"\r\n\n" + sends(LENGTH.strip()),
    "after interim responses": b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" + sends(LENGTH.strip(), LENGTH.strip()),
    "no head": ACCEPTED,
    "no status": sends(LENGTH.strip(), status=b"HTTP/1.1 OK"),
}


async def submit_to(response: bytes) -> Response:
    """Return what the transport makes of a response to a submit, with the raw server's connection closed after it."""
    async with raw_server(respond(response)) as server, open_transport(server.url, Timeouts(submit=10)) as transport:
        reply = await transport.submit(b"{}", "k")
    assert len(server.requests) == 1
    return reply


@pytest.mark.parametrize("response", [*CUT.values(), *MISLABELLED.values()], ids=[*CUT, *MISLABELLED])
async def test_the_task_in_a_damaged_response_is_accepted(response: bytes) -> None:
    """A task id that has arrived counts, and the response says that it may not be complete."""
    reply = await submit_to(response)
    assert reply.cut_short
    assert classify_submit(reply, now=0).outcome is SubmitOutcome.ACCEPTED
    assert parse_task_id(reply) == "task_01ABC"


@pytest.mark.parametrize(
    "response", [*PACKED.values(), *REFUSED_BY_AIOHTTP.values()], ids=[*PACKED, *REFUSED_BY_AIOHTTP]
)
async def test_the_task_in_an_odd_response_is_accepted(response: bytes) -> None:
    """Whatever stands around it: what HTTP allows, and what servers send all the same."""
    assert parse_task_id(await submit_to(response)) == "task_01ABC"


@pytest.mark.parametrize("call", ["check", "get", "submit", "upload"])
async def test_every_call_returns_what_has_arrived(call: str, tmp_path: object) -> None:
    """Checks, queries and uploads are read like submits."""
    from pathlib import Path

    image = Path(str(tmp_path)) / "a.png"
    image.write_bytes(b"\x89PNG")
    calls: dict[str, Callable[[HttpTransport], Awaitable[Response]]] = {
        "check": lambda transport: transport.check("t"),
        "get": lambda transport: transport.get("/v1/balance"),
        "submit": lambda transport: transport.submit(b"{}", "k"),
        "upload": lambda transport: transport.upload(image),
    }
    async with raw_server(respond(CUT["length too large"])) as server, open_transport(server.url) as transport:
        reply = await calls[call](transport)
    assert reply.body == ACCEPTED
    assert reply.cut_short


@pytest.mark.parametrize("status", [200, 202, 400, 401, 409, 429, 500, 502])
async def test_every_status_may_be_cut_short(status: int) -> None:
    """The status, the headers and what there is of the body are kept."""
    response = sends(b"Retry-After: 7", b"Content-Length: 900", status=b"HTTP/1.1 %d x" % status)
    reply = await submit_to(response)
    assert (reply.status, reply.headers["retry-after"], reply.body) == (status, "7", ACCEPTED)
    assert reply.cut_short


@pytest.mark.parametrize("status", [302, 401, 429, 503])
async def test_the_head_of_a_refusal_counts(status: int) -> None:
    """A refusal whose body is lost is still this refusal."""
    reply = await submit_to(
        sends(b"Retry-After: 7", b"Content-Length: 900", body=b"", status=b"HTTP/1.1 %d x" % status)
    )
    assert (reply.status, reply.headers["retry-after"], reply.body) == (status, "7", b"")
    assert reply.cut_short


@pytest.mark.parametrize("ending", ["reset", "timeout"])
@pytest.mark.parametrize("size", [len(ACCEPTED), len(ACCEPTED) - 2])
async def test_what_arrived_before_a_reset_or_a_timeout_counts(ending: str, size: int) -> None:
    """The connection is reset, or nothing more comes."""

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(sends(b"Content-Length: 5000", body=ACCEPTED[:size]))
        await writer.drain()
        await asyncio.sleep(0.1 if ending == "reset" else 1.0)
        writer.transport.abort()

    async with raw_server(act) as server, open_transport(server.url) as transport:
        reply = await transport.submit(b"{}", "k")
    assert parse_task_id(reply) == "task_01ABC"
    assert ("in time" in reply.cut_short) == (ending == "timeout")


@pytest.mark.slow
async def test_a_whole_object_is_not_waited_for() -> None:
    """If all of a JSON object is there, its announced rest is waited for a second only, not for the whole timeout."""

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(sends(b"Transfer-Encoding: chunked", body=CHUNK))
        await writer.drain()
        await asyncio.sleep(20)

    async with raw_server(act) as server, open_transport(server.url, Timeouts(submit=15)) as transport:
        began = asyncio.get_running_loop().time()
        assert parse_task_id(await transport.submit(b"{}", "k")) == "task_01ABC"
        assert asyncio.get_running_loop().time() - began < 5


@pytest.mark.slow
async def test_an_object_that_goes_on_is_waited_for() -> None:
    """A pause after a closing brace does not end a response that is not whole yet."""

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        body = b'{"a": {}' + b" " * 10 + b', "data": [{"task_id": "task_9"}]}'
        writer.write(sends(b"Content-Length: %d" % len(body), body=body[:8]))
        await writer.drain()
        await asyncio.sleep(1.5)
        writer.write(body[8:])

    async with raw_server(act) as server, open_transport(server.url, Timeouts(submit=15)) as transport:
        reply = await transport.submit(b"{}", "k")
    assert parse_task_id(reply) == "task_9"
    assert not reply.cut_short


@pytest.mark.parametrize(
    "response",
    [
        sends(b"Content-Length: 900", body=ACCEPTED[:50]),
        sends(b"Content-Length: 900", body=ACCEPTED[: ACCEPTED.index(b"01ABC")]),
        packed(ZIPPED[:40], b"gzip"),
    ],
    ids=["before the id", "within the id", "gzip"],
)
async def test_an_id_that_is_cut_is_no_id(response: bytes) -> None:
    """Half a task id belongs to no task, or to another one."""
    reply = await submit_to(response)
    assert reply.cut_short
    assert parse_task_id(reply) is None


@pytest.mark.parametrize(
    "response",
    [
        b"",
        OK,
        sends(b"Content-Length: 900", body=b""),
        sends(b"Transfer-Encoding: chunked", body=b""),
    ],
    ids=["nothing", "half a head", "no body", "no chunk"],
)
async def test_without_any_body_there_is_no_response(response: bytes) -> None:
    """A disconnect before the body of a success leaves open whether the request was accepted."""
    async with raw_server(respond(response)) as server, open_transport(server.url) as transport:
        error = await error_of(transport.submit(b"{}", "k"))
    assert error.sent
    assert not error.responded


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


async def test_an_oversized_response_is_said_to_have_come() -> None:
    """A body of more than 8 MiB is not read, also if it is small on the wire."""
    bomb = gzip.compress(bytes(60 * 1024 * 1024), 9)
    for response in (packed(bomb, b"gzip"), packed(gzip.compress(bomb), b"gzip, gzip"), packed(bytes(9 << 20), None)):
        async with raw_server(respond(response)) as server, open_transport(server.url, Timeouts()) as transport:
            error = await error_of(transport.submit(b"{}", "k"))
        assert error.responded
        assert "more than" in str(error)


async def test_bytes_after_a_response_do_not_reach_the_next_request() -> None:
    """A second response that nobody asked for, early or late, whole or in part, is not taken for another request's."""
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
