"""Responses that are cut off or mislabelled, over raw sockets: what the server has said counts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omni_async.api.http import Timeouts
from omni_async.api.outcomes import SubmitOutcome, classify_submit
from omni_async.api.parsing import parse_task_id
from tests.support.http_servers import SHORT, error_of, open_transport, raw_server, respond
from tests.support.markers import slow_after
from tests.support.odd_replies import (
    ACCEPTED,
    CHUNK,
    CUT,
    MISLABELLED,
    OK,
    ZIPPED,
    packed,
    sends,
    submit_to,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from omni_async.api.http import HttpTransport
    from omni_async.api.parsing import Response

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_proxy")]


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.mark.parametrize("response", [*CUT.values(), *MISLABELLED.values()], ids=[*CUT, *MISLABELLED])
async def test_the_task_in_a_damaged_response_is_accepted(response: bytes) -> None:
    """A task id that has arrived counts, and the response says that it may not be complete."""
    reply = await submit_to(response)
    assert reply.cut_short
    assert classify_submit(reply, now=0).outcome is SubmitOutcome.ACCEPTED
    assert parse_task_id(reply) == "task_01ABC"


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
@pytest.mark.parametrize("size", slow_after(1, [len(ACCEPTED), len(ACCEPTED) - 2]))
async def test_what_arrived_before_a_reset_or_a_timeout_counts(ending: str, size: int) -> None:
    """The connection is reset, or nothing more comes."""

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(sends(b"Content-Length: 5000", body=ACCEPTED[:size]))
        await writer.drain()
        await asyncio.sleep(0.1 if ending == "reset" else 1.0)
        writer.transport.abort()

    async with raw_server(act) as server, open_transport(server.url, SHORT) as transport:
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
