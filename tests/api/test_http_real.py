"""The connection to the server in real time: a real proxy, a self-signed certificate, gateways and headers."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, web

from omni_async import Connection, OmniClient, OmniError, Polling, Retry, TransportError
from omni_async.api.http import HttpTransport
from omni_async.sandbox import Sandbox
from tests.support.ports import free_port
from tests.support.proxies import certificate, tinyproxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("no_proxy")]

KEY = "sk-s3cr3t-0123456789abcdef"
PASSWORD = "pa55w0rd"
QUICK: dict[str, Any] = {"median": 0.05, "prerendered": True, "seconds": 3}
HURRY = Retry(timeout=0.2, wait_initial=0.1, wait_max=0.1)
FAST_POLLING = Polling(min_interval=0.05, max_interval=0.2)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Real time, and one event loop for all tests, so that they share a sandbox."""
    return "asyncio"


@pytest.fixture(scope="module")
async def plain() -> AsyncIterator[Sandbox]:
    """Open a sandbox that speaks http."""
    async with Sandbox(**QUICK) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Create a self-signed certificate and its key."""
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
async def secure(own: tuple[str, str]) -> AsyncIterator[Sandbox]:
    """Open a sandbox that speaks https with a self-signed certificate, for the API and for clips."""
    async with Sandbox(cert=own[0], key=own[1], **QUICK) as sandbox:
        yield sandbox


def trusting(own: tuple[str, str]) -> ssl.SSLContext:
    """Return a context that trusts only this certificate."""
    return ssl.create_default_context(cafile=own[0])


@asynccontextmanager
async def client_of(sandbox: Sandbox, folder: Path, **settings: Any) -> AsyncIterator[OmniClient]:
    """Open a client of a sandbox with short intervals and timeouts."""
    url, retry = settings.pop("base_url", sandbox.base_url), settings.pop("retry", HURRY)
    connection = Connection(**settings)
    async with OmniClient(
        KEY,
        base_url=url,
        output_dir=folder,
        ledger=None,
        retry=retry,
        polling=FAST_POLLING,
        connection=connection,
    ) as client:
        yield client


async def refused(sandbox: Sandbox, folder: Path, *, permanent: bool = True, **settings: Any) -> TransportError:
    """Return the error of a job that cannot reach the server. The job was not sent and not paid for.

    A permanent error is raised immediately, although the default settings would retry for minutes.
    """
    before = sandbox.record.submits
    async with client_of(sandbox, folder, retry=Retry() if permanent else HURRY, **settings) as client:
        job = client.submit("p")
        with pytest.raises(TransportError) as caught:
            await job
        with pytest.raises(TransportError):
            await client.balance()
        assert client.statistics().ambiguous_submits == 0
        assert client.stop_error is not None
    assert (caught.value.sent, caught.value.permanent) == (False, permanent)
    assert sandbox.record.submits == before
    assert KEY not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    return caught.value


# Proxies


async def test_http_goes_through_a_proxy(plain: Sandbox, tmp_path: Path) -> None:
    """Submit, checks and download use a real proxy that a setting names."""
    async with tinyproxy(tmp_path) as proxy:
        async with client_of(plain, tmp_path, proxy=proxy.url) as client:
            assert (await client.submit("an apple")).is_file()
        assert "POST http://127.0.0.1" in proxy.read_log()
        assert f"GET {plain.cdn_url}/f/video/" in proxy.read_log()


async def test_an_api_on_this_machine_is_asked_past_the_proxies_of_the_environment(
    plain: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy sees neither the API key nor a clip, whichever variable names it."""
    async with tinyproxy(tmp_path) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        async with client_of(plain, tmp_path) as client:
            assert (await client.submit("an apple")).is_file()
        assert "127.0.0.1:" not in "".join(line for line in proxy.read_log().splitlines() if "Request" in line)


async def test_a_proxy_cannot_read_https(secure: Sandbox, own: tuple[str, str], tmp_path: Path) -> None:
    """A real proxy only learns the hosts of the two https connections, to the API and to the clips."""
    async with tinyproxy(tmp_path) as proxy:
        async with client_of(secure, tmp_path, proxy=proxy.url, ssl=trusting(own)) as client:
            assert (await client.submit("an apple")).is_file()
        for origin in (secure.base_url, secure.cdn_url):
            assert f"CONNECT {origin.removeprefix('https://')}" in proxy.read_log()
        assert "/v1/" not in proxy.read_log()
        assert KEY not in proxy.read_log()


async def test_a_proxy_with_a_password(secure: Sandbox, own: tuple[str, str], tmp_path: Path) -> None:
    """User and password in the URL of the proxy are used. Without them, the 407 is reported with what to do."""
    async with tinyproxy(tmp_path, f"BasicAuth me {PASSWORD}") as proxy:
        named = proxy.url.replace("//", f"//me:{PASSWORD}@")
        async with client_of(secure, tmp_path, proxy=named, ssl=trusting(own)) as client:
            assert (await client.submit("an apple")).is_file()
        error = await refused(secure, tmp_path, proxy=proxy.url, ssl=trusting(own))
        assert f"the proxy {proxy.url} refused a request to 127.0.0.1: 407" in str(error)
        assert "http://user:password@host:port" in str(error)
        wrong = await refused(secure, tmp_path, proxy=named.replace("me:", "you:"), ssl=trusting(own))
        assert "refused a request" in str(wrong)


@pytest.mark.parametrize("kind", ["http", "https"])
async def test_a_proxy_that_refuses_the_address(
    plain: Sandbox, secure: Sandbox, own: tuple[str, str], tmp_path: Path, kind: str
) -> None:
    """The error names the proxy and its 403; nothing was sent to the server."""
    (tmp_path / "filter").write_text("only-this-one.example\n")
    rules = (f'Filter "{tmp_path}/filter"', "FilterDefaultDeny Yes", "ConnectPort 1")
    async with tinyproxy(tmp_path, *rules) as proxy:
        sandbox = plain if kind == "http" else secure
        error = await refused(sandbox, tmp_path, proxy=proxy.url, ssl=trusting(own))
        assert f"the proxy {proxy.url} refused a request to 127.0.0.1: 403" in str(error)
        assert "NO_PROXY" in str(error)


@pytest.mark.parametrize("kind", ["http", "https"])
async def test_a_proxy_that_is_down(
    plain: Sandbox, secure: Sandbox, own: tuple[str, str], tmp_path: Path, kind: str
) -> None:
    """The error says that the proxy cannot be reached, without its password."""
    port = free_port()
    sandbox = plain if kind == "http" else secure
    proxy = f"http://me:{PASSWORD}@127.0.0.1:{port}"
    error = await refused(sandbox, tmp_path, permanent=False, proxy=proxy, ssl=trusting(own))
    assert str(error).startswith(f"no connection to the proxy 127.0.0.1:{port}: ")


async def test_a_socks_proxy_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names variable, proxy and cure. `trust_env=False` and NO_PROXY do without the proxy."""
    monkeypatch.setenv("all_proxy", f"socks5://me:{PASSWORD}@127.0.0.1:1080")

    async def error_of(**settings: Any) -> str:
        transport = HttpTransport("https://api.invalid", KEY, connection=Connection(**settings))
        with pytest.raises(TransportError) as caught:
            await transport.get("/v1/balance")
        await transport.aclose()
        return str(caught.value)

    error = await error_of()
    assert "all_proxy: socks5://127.0.0.1:1080 is not an HTTP proxy" in error
    assert PASSWORD not in error
    for cure in ("privoxy", "name api.invalid in NO_PROXY", "Connection(trust_env=False)"):
        assert cure in error
    assert "no connection to api.invalid:443" in await error_of(trust_env=False)
    monkeypatch.setenv("no_proxy", "api.invalid")
    assert "no connection to api.invalid:443" in await error_of()


# Certificates


async def test_a_self_signed_certificate(secure: Sandbox, own: tuple[str, str], tmp_path: Path) -> None:
    """With a context that trusts it, everything works, downloads too. Without, the error says how to trust it."""
    async with client_of(secure, tmp_path, ssl=trusting(own)) as client:
        assert (await client.submit("an apple")).is_file()
    error = await refused(secure, tmp_path)
    assert str(error).startswith(f"no connection to {secure.base_url.removeprefix('https://')}: ")
    assert "certificate verify failed" in str(error)
    assert "use Connection(ssl=...), --ca-file or the variable SSL_CERT_FILE" in str(error)


async def test_clip_hosts_are_verified_too(secure: Sandbox, plain: Sandbox, tmp_path: Path) -> None:
    """The context also verifies the hosts of clips: an untrusted one is refused."""
    async with client_of(plain, tmp_path) as client:
        with pytest.raises(TransportError, match="certificate verify failed"):
            async with client._transport.stream(f"{secure.cdn_url}/f/video/x", {}):
                pass


async def test_a_proxy_that_refuses_later_is_retried(
    plain: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the server has answered once, a refusing proxy is not permanent: it may be an outage."""
    async with client_of(plain, tmp_path) as client:
        assert (await client.balance()).unlimited
        async with tinyproxy(tmp_path, f"BasicAuth me {PASSWORD}") as proxy:
            proxies = client._transport._proxies  # type: ignore[attr-defined]
            monkeypatch.setattr(proxies, "_connection", Connection(proxy=proxy.url))
            with pytest.raises(TransportError, match="407") as caught:
                await client.balance()
    assert not caught.value.permanent


# Headers


@asynccontextmanager
async def relay(to: Sandbox) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """Open a gateway below a path, in front of a sandbox; it records the requests that it receives."""
    seen: list[web.Request] = []

    async def pass_on(request: web.Request) -> web.Response:
        seen.append(request)
        path = request.rel_url.raw_path_qs.removeprefix("/mirror/apimart")
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with ClientSession() as session:
            response = await session.request(
                request.method, to.base_url + path, data=await request.read(), headers=headers
            )
            kind = response.headers["Content-Type"].partition(";")[0]
            return web.Response(status=response.status, body=await response.read(), content_type=kind)

    app = web.Application()
    app.router.add_route("*", "/mirror/apimart/{rest:.*}", pass_on)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/mirror/apimart", seen
    finally:
        await runner.cleanup()


async def test_a_gateway_below_a_path_gets_the_extra_headers(plain: Sandbox, tmp_path: Path) -> None:
    """Everything works through a gateway below a path, and only the gateway gets the extra headers."""
    others: list[dict[str, str]] = []

    async def clip(request: web.BaseRequest) -> web.Response:
        others.append(dict(request.headers))
        return web.Response(body=b"x")

    runner = web.ServerRunner(web.Server(clip))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with relay(plain) as (url, seen):
        headers = {"X-Gateway-Token": PASSWORD, "User-Agent": "studio/1.0"}
        async with client_of(plain, tmp_path, base_url=f"{url}/v1/", headers=headers) as client:
            assert (await client.submit("an apple")).is_file()
            assert (await client.balance("account")).unlimited
            assert "gemini-omni-flash-preview" in await client.models()
            clip_url = f"http://127.0.0.1:{runner.addresses[0][1]}/clip"
            async with client._transport.stream(clip_url, {}) as response:
                assert response.status == 200
    await runner.cleanup()
    assert {request.method for request in seen} == {"GET", "POST"}
    for request in seen:
        assert request.headers["X-Gateway-Token"] == PASSWORD
        assert request.headers["User-Agent"] == "studio/1.0"
        assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert PASSWORD not in str(others)
    assert KEY not in str(others)


async def test_the_newer_response_version_is_understood(plain: Sandbox, tmp_path: Path) -> None:
    """With a response version, a submit is answered with an object under 202, and the job works as usual."""
    async with (
        relay(plain) as (url, seen),
        client_of(plain, tmp_path, base_url=url, response_version="2026-07-27") as client,
    ):
        job = client.submit("an apple")
        assert (await job.accepted()).startswith("task_")
        assert (await job).is_file()
    assert {request.headers["X-APIMart-Response-Version"] for request in seen} == {"2026-07-27"}
    async with ClientSession() as session:
        response = await session.post(
            f"{plain.base_url}/v1/videos/generations",
            json={"model": "gemini-omni-flash-preview", "prompt": "x"},
            headers={"Authorization": f"Bearer {KEY}", "X-APIMart-Response-Version": "2026-07-27"},
        )
        body = await response.json()
    assert (response.status, body["data"]["status"]) == (202, "queued")
    assert body["data"]["id"].startswith("task_")


async def test_the_schema_of_a_model(plain: Sandbox, tmp_path: Path) -> None:
    """The server describes a model: durations and idempotency. An unknown model is an error."""
    async with client_of(plain, tmp_path) as client:
        schema = await client.model_schema("Omni-Flash-Ext")
        assert schema["input_schema"]["properties"]["duration"]["enum"] == [4, 6, 8, 10]
        assert schema["idempotency"]["header"] == "Idempotency-Key"
        with pytest.raises(OmniError, match="does not exist"):
            await client.model_schema("no-such/model?&")
        with pytest.raises(ValueError, match="scope must be 'key' or 'account'"):
            await client.balance("mine")  # type: ignore[arg-type]
