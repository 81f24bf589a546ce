"""The proxies of the environment, and what a .netrc must not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.http_servers import (
    KEY,
    closed_port,
    error_of,
    fetch,
    open_transport,
    raw_server,
    respond,
    two_origins,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_proxy")]


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """`http_proxy` is used for the API and for clips, except for hosts in `no_proxy`."""
    response = respond(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    async with raw_server(response) as proxy, raw_server(response) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with open_transport("http://api.invalid") as transport:
            assert (await transport.submit(b"{}", "k")).status == 200
            assert await fetch(transport, "http://cdn.invalid/clip") == b"{}"
        monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
        async with open_transport(server.url) as transport:
            assert (await transport.check("t")).status == 200
    assert proxy.requests[0].startswith(b"POST http://api.invalid/v1/videos/generations")
    assert KEY.encode() not in proxy.requests[1]
    assert len(proxy.requests) == 2
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "response", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"HTTP/1.1 502 no\r\n\r\n", b""]
)
async def test_a_refused_tunnel_is_not_sent(monkeypatch: pytest.MonkeyPatch, response: bytes) -> None:
    """A refused CONNECT, or one that breaks off, proves that no byte was sent, and shows no API key."""
    async with raw_server(respond(response)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        async with open_transport("https://api.invalid") as transport:
            error = await error_of(transport.submit(b"{}", "k"))
    assert not error.sent
    assert KEY.encode() not in b"".join(proxy.requests)


async def test_a_proxy_that_is_down_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy listens on the port, so no byte was sent."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    async with open_transport("http://api.invalid") as transport:
        assert not (await error_of(transport.submit(b"{}", "k"))).sent


async def test_a_netrc_does_not_replace_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .netrc with a default entry neither replaces the API key nor breaks the request."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with (
        raw_server(respond(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as server,
        open_transport(server.url) as transport,
    ):
        await transport.submit(b"{}", "k")
        await transport.check("t")
    assert all(f"Bearer {KEY}".encode() in request for request in server.requests)


async def test_a_clip_host_gets_no_netrc_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default entry of a .netrc is not sent to the host of a clip."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with two_origins() as (origins, transport):
        assert await fetch(transport, f"{origins.cdn}/clip.mp4") == b"clip"
    assert origins.seen["cdn"] == [None]
