"""Responses with a body above the limit are judged by their status and their beginning, over real sockets."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest

from omni_async.api.http import Timeouts
from omni_async.api.outcomes import CheckOutcome, SubmitOutcome, classify_check, classify_submit
from omni_async.api.reading import MAX_RESPONSE_BYTES
from tests.support.http_servers import fetch, open_transport, raw_server
from tests.support.markers import slow_after

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("no_proxy")]

PADDING = b"x" * (MAX_RESPONSE_BYTES + 1000)
ACCEPTED = b'{"code": 200, "data": [{"status": "submitted", "task_id": "task_01"}], "padding": "'
REFUSED = b'{"error": {"message": "invalid prompt"}, "padding": "'
PATIENT = Timeouts(connect=5, submit=20, check=20, upload=20, idle=5)


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


def chunked(body: bytes) -> bytes:
    """Return a body in chunks, without the last one."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:100], body[100:]))


FRAMINGS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "length": (b"Content-Length: 99999999\r\n", bytes),
    "chunks": (b"Transfer-Encoding: chunked\r\n", chunked),
    "until the end": (b"", bytes),
    "gzip": (b"Content-Encoding: gzip\r\n", gzip.compress),
    "deflate": (b"Content-Encoding: deflate\r\n", zlib.compress),
    "gzip twice": (b"Content-Encoding: gzip\r\n", lambda body: gzip.compress(gzip.compress(body))),
}


def answer(status: int, beginning: bytes, framing: str) -> Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]:
    """Return an action that sends a head and a body that is too long."""
    head, pack = FRAMINGS[framing]

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d Status\r\nContent-Type: application/json\r\n%s\r\n" % (status, head))
        writer.write(pack(beginning + PADDING))

    return act


@pytest.mark.parametrize("framing", slow_after(2, FRAMINGS))
@pytest.mark.parametrize(
    ("status", "beginning", "outcome"),
    [
        (200, ACCEPTED, SubmitOutcome.ACCEPTED),
        (502, ACCEPTED, SubmitOutcome.ACCEPTED),
        (400, REFUSED, SubmitOutcome.REJECTED),
        (401, b"<html>", SubmitOutcome.STOP_ALL),
        (402, REFUSED, SubmitOutcome.STOP_ALL),
        (429, b"", SubmitOutcome.RETRY_LATER),
        (200, b"<html>", SubmitOutcome.UNREADABLE),
    ],
)
async def test_a_submit_is_judged_by_status_and_beginning(
    framing: str, status: int, beginning: bytes, outcome: SubmitOutcome
) -> None:
    """An endless refusal is a refusal, and an id at the beginning of an endless body is an id."""
    async with raw_server(answer(status, beginning, framing)) as server, open_transport(server.url, PATIENT) as api:
        response = await api.submit(b"{}", "k")
    assert response.status == status
    assert len(response.body) <= MAX_RESPONSE_BYTES
    assert "more than 8388608 bytes" in response.cut_short
    result = classify_submit(response, now=0.0)
    assert result.outcome is outcome
    assert result.task_id == ("task_01" if outcome is SubmitOutcome.ACCEPTED else None)


async def test_a_check_is_judged_by_status_and_beginning() -> None:
    """A refusal is a refusal. A task that is cut short says nothing, because the rest may be what matters."""
    running = b'{"data": {"id": "task_01", "status": "processing", "progress": 5}, "padding": "'
    for status, beginning, outcome in (
        (200, running, CheckOutcome.INCONCLUSIVE),
        (401, REFUSED, CheckOutcome.DENIED),
    ):
        async with (
            raw_server(answer(status, beginning, "length")) as server,
            open_transport(server.url, PATIENT) as api,
        ):
            response = await api.check("task_01")
        assert classify_check(response, "task_01", now=0.0).outcome is outcome


async def test_a_clip_has_another_limit() -> None:
    """What is too long for a response is not for a clip."""
    size = len(PADDING)

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + PADDING)

    async with raw_server(act) as server, open_transport(server.url, PATIENT) as api:
        assert len(await fetch(api, server.url)) == size
