"""Webhooks over real sockets: a sandbox calls an aiohttp.web server with the sub-application mounted."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from omni_async import ClientClosed, OmniClient, Polling
from omni_async.sandbox import Sandbox
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytest.importorskip("av", reason="the sandbox films with the extra `media`")
pytestmark = pytest.mark.timeout(120)

RARE = Polling(min_interval=600.0, max_interval=600.0)  # so only a webhook can report an end in time
TIMEOUT = 60.0


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@asynccontextmanager
async def mounted_webhook(
    folder: Path, *, polling: Polling = RARE, **options: Any
) -> AsyncIterator[tuple[OmniClient, Sandbox, str]]:
    """Yield a client, a sandbox, and the URL at which a server of the user receives webhook calls."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/omni"
    async with Sandbox(prerendered=True, **options) as sandbox:
        client = OmniClient(sandbox.api_key, base_url=sandbox.base_url, output_dir=folder, ledger=None, polling=polling)
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_subapp("/omni", client.webhook(address))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            async with client:
                yield client, sandbox, address
        finally:
            await runner.cleanup()


def callback_url(sandbox: Sandbox) -> str:
    """Return the URL that the sandbox calls, as the latest submit named it."""
    return str(list(sandbox.record.tasks.values())[-1].body["webhook"]) + "/callback"


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, "twice_webhook", "late_webhook"])
async def test_a_call_causes_the_check_of_its_job(tmp_path: Path, fault: str | None) -> None:
    """With checks ten minutes apart, each of ten jobs is done within seconds, and one check was enough."""
    faults = {fault: 1.0} if fault else {}
    async with mounted_webhook(tmp_path, median=0.5, speed=5.0, faults=faults) as (client, sandbox, _):
        async with asyncio.timeout(TIMEOUT):
            paths = await asyncio.gather(*(client.submit(f"p{number}") for number in range(10)))
            while len(sandbox.record.webhooks) < (20 if fault == "twice_webhook" else 10):
                await asyncio.sleep(0.02)
        assert len(set(paths)) == 10
        assert set(sandbox.record.checks_by_task.values()) == {1}
        assert {status for _, _, status in sandbox.record.webhooks} == {204}


async def test_the_server_may_run_in_another_thread(tmp_path: Path) -> None:
    """A call that is received in another event loop reaches the job in the client's loop."""
    async with mounted_webhook(tmp_path, median=0.5, faults={"lost_webhook": 1.0}) as (client, sandbox, _):
        job = client.submit("p")
        body = json.dumps({"id": await job.accepted()}).encode()
        async with asyncio.timeout(TIMEOUT):
            while sandbox.record.in_flight:
                await asyncio.sleep(0.02)

            async def receive() -> int:
                return client._webhook.handle_call(body)

            assert await asyncio.to_thread(asyncio.run, receive()) == 204
            await job


async def test_a_client_that_was_not_open_is_called_again(tmp_path: Path) -> None:
    """A call while no client is open is answered 503, and the caller tries again."""
    async with mounted_webhook(tmp_path, median=0.2, speed=20.0) as (client, sandbox, _):
        on_call, client._webhook._on_call = client._webhook._on_call, None
        job = client.submit("p")
        async with asyncio.timeout(TIMEOUT):
            while not sandbox.record.webhooks:
                await asyncio.sleep(0.02)
            client._webhook._on_call = on_call
            await job
        assert [status for _, _, status in sandbox.record.webhooks][:1] == [503]


@pytest.mark.slow
async def test_forged_calls_and_floods_do_no_harm(tmp_path: Path) -> None:
    """Wrong paths, forged ids, duplicates and bodies of 10 MB are answered immediately, and the jobs complete."""
    async with (
        mounted_webhook(tmp_path, median=4.0, sigma=0.0) as (client, sandbox, address),
        aiohttp.ClientSession() as caller,
    ):
        jobs = [client.submit(f"p{number}") for number in range(20)]
        ids = await asyncio.gather(*(job.accepted() for job in jobs))
        url = callback_url(sandbox)
        assert url.startswith(f"{address}/")

        async def call(url: str, body: Any, method: str = "POST") -> int:
            async with caller.request(method, url, data=body) as answer:
                return answer.status

        async def many() -> AsyncIterator[bytes]:
            for _ in range(160):
                yield bytes(65536)

        forged = [json.dumps({"id": f"task_{number}", "status": "completed"}).encode() for number in range(200)]
        assert {await call(url, body) for body in forged} == {204}
        assert await call(url, json.dumps({"data": {"id": 7}})) == 400
        assert await call(url, b"\xff\x00") == await call(url, b"") == 400
        assert await call(f"{address}/guessed/callback", forged[0]) == 404
        assert await call(f"{address}/%ff%80/callback", forged[0]) == 404
        assert await call(address, forged[0]) == await call(url.removesuffix("/callback"), forged[0]) == 404
        assert await call(url, None, "GET") == 405
        assert await send_oversized(url, length=10_000_000) == 413
        assert await send_oversized(url, length=None) == 413
        assert await call(url, b'{"id": "' + b"x" * 70_000) == 413
        genuine = [json.dumps({"id": task_id, "status": "completed", "result": {"videos": []}}) for task_id in ids]
        assert set(await asyncio.gather(*(call(url, body) for body in genuine * 10))) == {204}
        async with asyncio.timeout(TIMEOUT):
            assert len(set(await asyncio.gather(*jobs))) == 20
        # One for the first call, perhaps one for those that came while it was in progress, one for the real call.
        assert max(sandbox.record.checks_by_task.values()) <= 4
        assert set(sandbox.record.checks_by_task) == set(ids)


async def send_oversized(url: str, *, length: int | None) -> int:
    """Send 10 MB whatever the other side says, and return the status of its response."""
    target = URL(url)
    reader, writer = await asyncio.open_connection(target.host, target.port)
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    writer.write(f"POST {target.path} HTTP/1.1\r\nHost: here\r\n{framing}\r\n\r\n".encode())
    piece = bytes(50_000) if length is not None else b"c350\r\n" + bytes(50_000) + b"\r\n"
    try:
        for _ in range(200):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass  # it has closed the connection
    try:
        head = await asyncio.wait_for(reader.readline(), 10)
    finally:
        writer.close()
    return int(head.split()[1])


@pytest.mark.slow
async def test_an_incomplete_body_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that never ends is rejected after a timeout, and other calls are received meanwhile."""
    monkeypatch.setattr("omni_async.polling.webhook_server._READ_TIMEOUT", 0.2)
    async with mounted_webhook(tmp_path, median=0.3) as (client, sandbox, _):
        await client.submit("p")
        target = URL(callback_url(sandbox))
        reader, writer = await asyncio.open_connection(target.host, target.port)
        writer.write(f"POST {target.path} HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == b"408"
        writer.close()
        await client.submit("another")


@pytest.mark.slow
async def test_a_closed_client_answers_503_over_http(tmp_path: Path) -> None:
    """The user's server continues without it."""
    async with Sandbox(prerendered=True, median=0.1) as sandbox:
        async with OmniClient(sandbox.api_key, base_url=sandbox.base_url, output_dir=tmp_path, ledger=None) as client:
            app = web.Application()
            app.add_subapp("/omni", client.webhook("http://127.0.0.1:9/omni"))
            await client.submit("p")
            path = URL(callback_url(sandbox)).path
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with (
            aiohttp.ClientSession() as caller,
            caller.post(f"http://127.0.0.1:{port}{path}", data=b'{"id": "task_1"}') as answer,
        ):
            assert answer.status == 503
        await runner.cleanup()


@pytest.mark.slow
async def test_a_client_serves_its_webhook_itself(tmp_path: Path) -> None:
    """One check per job is enough; the port is free again when the client is left."""
    async with Sandbox(prerendered=True, median=0.5) as sandbox:
        client = OmniClient(sandbox.api_key, base_url=sandbox.base_url, output_dir=tmp_path, ledger=None, polling=RARE)
        port = free_port()
        async with client:
            assert await client.serve_webhook(f"http://127.0.0.1:{port}/omni", port=port) == port
            with pytest.raises(OSError, match="cannot listen"):
                await client.serve_webhook(f"http://127.0.0.1:{port}/omni", port=port)
            async with asyncio.timeout(TIMEOUT):
                await asyncio.gather(*(client.submit(f"p{number}") for number in range(10)))
            assert set(sandbox.record.checks_by_task.values()) == {1}
        assert {status for _, _, status in sandbox.record.webhooks} == {204}
        with socket.create_server(("127.0.0.1", port)):
            pass
        with pytest.raises(ClientClosed):
            await client.serve_webhook(f"http://127.0.0.1:{port}/omni", port=port)


async def test_a_url_that_is_never_called_is_refused_before_anything_listens(tmp_path: Path) -> None:
    """The same as for a receiver that is mounted."""
    async with OmniClient("sk-good", output_dir=tmp_path, ledger=None) as client:
        with pytest.raises(ValueError, match="ports 80 and 443"):
            await client.serve_webhook("https://example.com:8443/omni")
        assert client._webhook._servers == []
