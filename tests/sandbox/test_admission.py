"""The sandbox answers no other site's pages and no other host's name, survives crowds, and is quiet about garbage."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from omni_async.sandbox import listening
from tests.support.sandbox_client import open_sandbox

if TYPE_CHECKING:
    from tests.support.sandbox_client import SandboxClient

SCRIPT = {"kind": "submit", "names": ["http_500"]}


def _queued(client: SandboxClient) -> int:
    return len(client.sandbox._fault_injector._scripts["submit"])


@pytest.mark.parametrize("host", ["evil.test", "evil.test:{port}", "127.0.0.1.evil.test", "localhost.evil.test", "["])
@pytest.mark.parametrize("server", ["api", "clips"])
async def test_another_host_name_is_refused(client: SandboxClient, server: str, host: str) -> None:
    """A name that may belong to somebody else is a 421 at both servers, and queues no fault."""
    base = client.sandbox.base_url if server == "api" else client.sandbox.cdn_url
    headers = {"Host": host.format(port=URL(base).port)}
    response = await client.fetch(f"{base}/sandbox/script", method="POST", json=SCRIPT, headers=headers)
    assert response.status == 421
    assert "--host NAME" in response.json["error"]["message"]
    assert _queued(client) == 0


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST.:80", "a.localhost", "[::1]:80", "192.168.1.5:8080", socket.gethostname()],
)
async def test_an_address_or_a_name_of_this_machine_is_answered(client: SandboxClient, host: str) -> None:
    """Addresses cannot be made to mean another machine, and these names are its own."""
    assert (await client.call("GET", "/v1/balance", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.test", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/sandbox/script", "/v1/videos/generations", "/v1/uploads/images"])
async def test_a_page_of_another_site_is_refused(client: SandboxClient, path: str, headers: dict[str, str]) -> None:
    """What a browser sends for another site's page is a 403: it queues no fault, submits nothing, uploads nothing."""
    response = await client.call("POST", path, json=SCRIPT, headers=headers)
    assert response.status == 403
    assert _queued(client) == 0
    assert client.sandbox.record.submits == client.sandbox.record.uploads == 0


async def test_a_page_of_the_sandbox_itself_is_answered(client: SandboxClient) -> None:
    """An Origin that is the sandbox's own is that of no other site."""
    headers = {"Origin": client.sandbox.base_url, "Sec-Fetch-Site": "same-origin"}
    assert (await client.call("GET", "/v1/balance", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b'{"kind": "submit", "names": ["http_500"]}'),
        ("application/x-www-form-urlencoded", b'{"kind": "submit", "names": ["http_500"]}'),
        ("multipart/form-data; boundary=x", b'{"kind": "submit", "names": ["http_500"]}'),
        ("application/json", b"{nope"),
        ("application/json", b"[]"),
        ("application/json", b"{}"),
        ("application/json", b'{"kind": "submit", "names": 5}'),
        ("application/json", b'{"kind": [], "names": []}'),
        ("application/json", b'{"kind": "submit", "names": [["http_500"]]}'),
        ("application/json", b"\xff"),
    ],
    ids=str,
)
async def test_a_script_that_is_none_is_refused(
    client: SandboxClient, caplog: pytest.LogCaptureFixture, content_type: str, body: bytes
) -> None:
    """Types that a page can send unasked, and JSON of another form, are a 400, and log nothing."""
    url, headers = f"{client.sandbox.base_url}/sandbox/script", {"Content-Type": content_type}
    assert (await client.fetch(url, method="POST", data=body, headers=headers)).status == 400
    assert (_queued(client), caplog.records) == (0, [])


GARBAGE = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    "version": b"GET / HTTP/9.9\r\n\r\n",
    "length": b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    "header": b"GET / HTTP/1.1\r\nA b: c\r\n\r\n",
    "line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    "url": b"GET http://[::1 HTTP/1.1\r\nHost: [\r\n\r\n",
    "gzip": b"POST {} HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    "chunk": b"POST {} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
    "short": b"POST {} HTTP/1.1\r\nContent-Length: 50\r\n\r\nhello",
    "escape": b"GET /v1/tasks/%ff%fe?x=%zz HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("server", ["api", "clips"])
@pytest.mark.parametrize("name", GARBAGE)
async def test_malformed_requests_are_quiet(
    client: SandboxClient, caplog: pytest.LogCaptureFixture, server: str, name: str
) -> None:
    """A malformed request gets an error or a closed connection, logs nothing, and the next request is answered."""
    url = URL(client.sandbox.base_url if server == "api" else client.sandbox.cdn_url)
    raw = GARBAGE[name].replace(b"{}", b"/v1/videos/generations")
    raw = raw.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nAuthorization: Bearer sk-a\r\nConnection: close\r\n", 1)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(raw)
    writer.write_eof()
    received = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await asyncio.sleep(0.02)
    assert received == b"" or b" 4" in received.partition(b"\r\n")[0]
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []
    assert (await client.call("GET", "/v1/balance")).status == 200


@pytest.mark.slow
async def test_connections_have_a_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """While all connections are being answered, another one gets a 503 at once, which says that nothing was done."""
    monkeypatch.setattr(listening, "MAX_CONNECTIONS", 3)
    async with open_sandbox(latency=1.5) as client:
        answered = [asyncio.create_task(client.call("GET", "/v1/balance")) for _ in range(3)]
        await asyncio.sleep(0.2)
        refused = await client.call("GET", "/v1/balance")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json["error"]["code"] == "idempotency_unavailable"
        assert [response.status for response in await asyncio.gather(*answered)] == [200, 200, 200]
        assert (await client.call("GET", "/v1/balance")).status == 200


async def test_an_idle_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the ceiling, a new connection waits for the moment that every other one has for its request, and is served."""
    monkeypatch.setattr(listening, "MAX_CONNECTIONS", 3)
    async with open_sandbox() as client:
        url = URL(client.sandbox.base_url)
        idle: list[Any] = [await asyncio.open_connection(url.host, url.port) for _ in range(3)]
        assert (await client.call("GET", "/v1/balance")).status == 200
        assert await idle[0][0].read() == b""
        for _, writer in idle:
            writer.close()
