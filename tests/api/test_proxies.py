"""The proxies of the environment, and what a .netrc must not do."""

from __future__ import annotations

import logging
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from omni_async import Connection, TransportError
from omni_async.api.error_parsing import parse_error
from omni_async.api.http import HttpTransport
from tests.support.http_servers import (
    KEY,
    PATIENT,
    all_text,
    error_of,
    fetch,
    open_transport,
    raw_server,
    respond,
    two_origins,
)
from tests.support.ports import free_port

if TYPE_CHECKING:
    import asyncio
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


@pytest.mark.parametrize(("status", "permanent"), [(502, False), (503, False), (504, False), (403, True), (407, True)])
async def test_a_proxy_that_cannot_reach_the_server_is_an_outage(
    monkeypatch: pytest.MonkeyPatch, status: int, permanent: bool
) -> None:
    """It may reach it a moment later; a refusal is for the user to fix."""
    async with raw_server(respond(b"HTTP/1.1 %d no\r\nContent-Length: 0\r\n\r\n" % status)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        async with open_transport("https://api.invalid") as transport:
            error = await error_of(transport.submit(b"{}", "k"))
    assert (error.sent, error.permanent) == (False, permanent)
    assert ("cannot reach api.invalid" in str(error)) is not permanent


async def test_a_proxy_that_is_down_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy listens on the port, so no byte was sent."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
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


# As it stands in a URL, as it is, and as it is sent.
PASSWORD_FORMS = ("pa55%40w%3Ard", "pa55@w:rd", b64encode(b"me:pa55@w:rd").decode())
REPLIES = {
    "garbage": b"garbage\r\n\r\n",
    "an echo": b"ECHO",
    "nothing": b"",
    "407": b"HTTP/1.1 407 no\r\nContent-Length: 0\r\n\r\n",
    "an echo in a body": b"HTTP/1.1 400 no\r\n\r\nECHO",
    "an echo in a head": b"HTTP/1.1 502 no\r\nX-Request: ECHO",
    "an echo in a status": b"HTTP/1.1 400 ECHO",
}


@pytest.mark.parametrize("how", ["environment", "setting"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("reply", [*REPLIES, "down", "unknown"])
async def test_the_password_of_a_proxy_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reply: str, scheme: str, how: str
) -> None:
    """A proxy that is down, has no address, answers nonsense, or quotes the request: no text has its password."""
    caplog.set_level(logging.DEBUG)

    async def act(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(REPLIES[reply].replace(b"ECHO", request))

    async with raw_server(act) as proxy:
        address = {"down": f"127.0.0.1:{free_port()}", "unknown": "proxy.invalid:3128"}.get(reply, proxy.url[7:])
        url = f"http://me:{PASSWORD_FORMS[0]}@{address}"
        if how == "environment":
            monkeypatch.setenv(f"{scheme}_proxy", url)
        connection = Connection() if how == "environment" else Connection(proxy=url)
        transport = HttpTransport(f"{scheme}://api.invalid", KEY, timeouts=PATIENT, connection=connection)
        texts = [repr(connection), repr(transport), repr(vars(transport))]
        for operation in ("submit", "check"):
            try:
                response = await (transport.submit(b"{}", "k") if operation == "submit" else transport.check("t"))
            except TransportError as error:
                texts += [all_text(error)]
            else:
                texts += [all_text(parse_error(response, now=0.0, operation=operation)), response.cut_short]
        with suppress(TransportError):
            await fetch(transport, f"{scheme}://cdn.invalid/clip")
        await transport.aclose()
    texts += [record.getMessage() for record in caplog.records if record.name.startswith("omni_async")]
    assert not [text for text in texts if any(form in text for form in PASSWORD_FORMS)]
    if proxy.requests:
        assert PASSWORD_FORMS[2].encode() in proxy.requests[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://me:77/pa55@proxy.test:3128",
        "http://me:pa55?x@proxy.test:3128",
        "http://me:pa55#x@proxy.test:3128",
        "http://me:pa55[x@proxy.test:3128",
        "http://me:pa55 x@proxy.test:3128",
        "http://me:pa55\nx@proxy.test:3128",
        "http://me:pa55пароль@proxy.test:3128",
        "http:/me:pa55@proxy.test:3128",
        "http://me:pa55@proxy.test:0",
        "http://me:pa55@proxy.test:x",
        "http://me:pa55@",
        "me:pa55/x@proxy.test",
        "socks5://me:pa55@proxy.test",
        "socks5://me:77#pa55@proxy.test",
        "ftp://me:77/pa55@proxy.test",
    ],
    ids=ascii,
)
async def test_a_malformed_proxy_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What cannot be used is named by its setting. No part of it that may be a password is shown."""
    with pytest.raises(ValueError) as refused:
        Connection(proxy=url)
    monkeypatch.setenv("https_proxy", url)
    async with open_transport("https://api.invalid") as transport:
        error = await error_of(transport.check("t"))
    assert error.permanent
    for text in (str(refused.value), str(error)):
        assert not any(part in text for part in ("pa55", "77", "пароль"))
    assert "Connection(proxy=...)" in str(refused.value)
    assert "https_proxy" in str(error)
