"""Who gets the API key, and where it is never shown."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import ssl
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from omni_async import Connection, OmniClient, OmniError, Retry, TransportError
from omni_async.api.http import HttpTransport
from omni_async.api.redaction import Secret
from tests.support.http_servers import (
    KEY,
    PATIENT,
    TwoOrigins,
    all_text,
    error_of,
    fetch,
    open_transport,
    two_origins,
    web_server,
)
from tests.support.ports import free_port
from tests.support.proxies import certificate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_proxy")]


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


async def test_only_the_api_origin_gets_the_key() -> None:
    """A URL on the API's own origin gets the API key; a URL on another port or host does not."""
    async with two_origins() as (origins, transport):
        assert await fetch(transport, f"{origins.api}/clip.mp4") == b"clip"
        assert await fetch(transport, f"{origins.cdn}/clip.mp4") == b"clip"
        assert await fetch(transport, f"{origins.api.replace('127.0.0.1', 'localhost')}/clip.mp4") == b"clip"
    assert origins.seen == {"api": [f"Bearer {KEY}", None], "cdn": [None]}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_key_is_sent_once_a_redirect_has_left_the_api(status: int) -> None:
    """The API key goes along on redirects within the API, to no other host, and from there not back to the API."""
    async with two_origins() as (origins, transport):
        api, cdn = f"{origins.api}/to/{status}", f"{origins.cdn}/to/{status}"
        assert await fetch(transport, f"{api}?{api}?{origins.cdn}/clip") == b"clip"
        assert origins.seen == {"api": [f"Bearer {KEY}"] * 2, "cdn": [None]}
        assert await fetch(transport, f"{api}?{cdn}?{api}?{origins.api}/clip") == b"clip"
        assert origins.seen == {"api": [*[f"Bearer {KEY}"] * 3, None, None], "cdn": [None] * 2}
        assert await fetch(transport, f"{cdn}?{origins.api}/clip") == b"clip"
        assert origins.seen["api"][5:] == [None]
        assert await fetch(transport, f"{origins.api}/clip") == b"clip"
        assert origins.seen["api"][6:] == [f"Bearer {KEY}"]


async def test_extra_headers_go_where_the_key_goes() -> None:
    """The extra headers of `Connection` are not sent back to the API either, once a redirect has left it."""
    seen: list[tuple[str, str | None]] = []
    targets: dict[str, str] = {}

    async def handle(request: web.BaseRequest) -> web.Response:
        seen.append((request.path, request.headers.get("X-Gateway")))
        if target := targets.get(request.path):
            return web.Response(status=302, headers={"Location": target})
        return web.Response(body=b"clip")

    async with web_server(handle) as api, web_server(handle) as cdn:
        targets |= {"/one": "/two", "/two": f"{cdn}/three", "/three": f"{api}/four"}
        transport = HttpTransport(api, KEY, timeouts=PATIENT, connection=Connection(headers={"X-Gateway": "secret"}))
        assert await fetch(transport, f"{api}/one") == b"clip"
        await transport.aclose()
    assert seen == [("/one", "secret"), ("/two", "secret"), ("/three", None), ("/four", None)]


async def test_https_is_not_redirected_to_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect from https to http is refused, one to https is followed, and an unknown certificate is not trusted."""
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    origins = TwoOrigins()
    async with web_server(origins.handler("cdn")) as plain, web_server(origins.handler("api"), context) as secure:
        async with open_transport(secure) as transport:
            assert not (await error_of(transport.submit(b"{}", "k"))).sent
        monkeypatch.setenv("SSL_CERT_FILE", cert)
        import aiohttp.connector

        monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", ssl.create_default_context(cafile=cert))
        async with open_transport(secure) as transport:
            assert await fetch(transport, f"{secure}/to/302?{secure}/clip") == b"clip"
            with pytest.raises(TransportError, match="https"):
                await fetch(transport, f"{secure}/to/302?{plain}/clip")
    assert origins.seen["cdn"] == []


async def test_no_error_shows_the_signature_of_a_url() -> None:
    """The query of a URL may grant access, so no error shows it."""
    for url in (f"http://127.0.0.1:{free_port()}/c?sig=topsecret", "ftp://x/c?sig=topsecret"):
        async with open_transport("http://127.0.0.1:1") as transport:
            with pytest.raises(TransportError) as caught:
                await fetch(transport, url)
            assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    "echo",
    [
        lambda key: web.json_response({"error": {"message": f"invalid API key {key}", "type": key}}, status=401),
        lambda key: web.Response(text=key, status=500),
        lambda key: web.Response(text="no", status=400, headers={"X-Oneapi-Request-Id": key}),
        lambda key: web.Response(text="no", status=400, reason=f"bad {key}"),
        lambda key: web.json_response({"error": {"message": f"Authorization: Bearer {key}"}}, status=403),
        lambda key: web.Response(
            body=json.dumps({"error": {"message": key}}).replace("sk-", "sk\\u002d").encode(), status=400
        ),
    ],
    ids=["json", "text", "header", "reason", "bearer", "escaped"],
)
async def test_an_echoed_key_is_redacted(
    echo: Callable[[str], web.Response], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that quotes the API key gets it into no error, attribute, pickle or log."""
    caplog.set_level(logging.DEBUG)

    async def handler(request: web.BaseRequest) -> web.Response:
        return echo(request.headers["Authorization"].removeprefix("Bearer "))

    hurry = Retry(timeout=0.3, wait_initial=0.1, wait_max=0.2)
    async with (
        web_server(handler) as url,
        OmniClient(KEY, base_url=url, output_dir=tmp_path, ledger=None, retry=hurry) as client,
    ):
        job = client.submit("p")
        for work in (lambda: job, client.balance, lambda: client.task("t")):
            with pytest.raises(OmniError) as caught:
                await work()
            assert KEY not in all_text(caught.value)
        assert KEY not in f"{client!r} {job!r} {client.stop_error!r} {client._transport!r} {vars(client._transport)!r}"
    ours = [record for record in caplog.records if record.name.startswith("omni_async")]
    assert not [record for record in ours if KEY in record.getMessage() or KEY in str(record.exc_text)]


def test_a_secret_is_not_shown() -> None:
    """Neither repr, str, format, pickle nor copy shows the API key."""
    secret = Secret(KEY)
    assert KEY not in f"{secret!r} {secret} {secret!s} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises((TypeError, copy.Error)):
        copy.deepcopy(secret)
    assert secret.reveal() == KEY
