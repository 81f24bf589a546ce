"""Where links to clips, and redirects of them, may lead; over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import Connection, TransportError
from omni_async.api import link_guard
from omni_async.api.addresses import AddressKind, kind_of
from omni_async.api.http import HttpTransport
from tests.support.http_servers import KEY, PATIENT, fetch, raw_server, respond

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_proxy")]

CLIP = respond(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nclip")
PUBLIC_API = "https://api.test"


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Return the addresses of names, to be changed. Other names do not exist; each look-up takes the first list."""
    known: dict[str, list[str]] = {}

    async def look_up(_: object, host: str, port: Any, **settings: Any) -> list[Any]:
        await asyncio.sleep(0)
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        found = known[host]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port or 0, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))
            for address in found
        ]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", look_up)
    return known


@asynccontextmanager
async def transport_of(api: str, **settings: Any) -> AsyncIterator[HttpTransport]:
    """Open a transport for an API."""
    transport = HttpTransport(api, KEY, timeouts=PATIENT, connection=Connection(**settings))
    try:
        yield transport
    finally:
        await transport.aclose()


async def refusal(transport: HttpTransport, link: str) -> str:
    """Return why a link is refused. That is permanent, and nothing is sent."""
    with pytest.raises(TransportError) as caught:
        await fetch(transport, link)
    assert caught.value.permanent
    assert not caught.value.sent
    assert KEY not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.1", "loopback"),
        ("2130706433", "loopback"),
        ("0x7f.0.0.1", "loopback"),
        ("0177.0.0.1", "loopback"),
        ("127.0.0.1.", "loopback"),
        ("localhost", "loopback"),
        ("LocalHost.", "loopback"),
        ("a.localhost", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("[64:ff9b::7f00:1]", "loopback"),
        ("[2002:7f00:1::]", "loopback"),
        ("169.254.169.254", "link-local"),
        ("[fe80::1]", "link-local"),
        ("10.0.0.1", "private"),
        ("172.31.0.1", "private"),
        ("192.168.1.1", "private"),
        ("[fd00::1]", "private"),
        ("100.100.100.200", "shared"),
        ("0.0.0.0", "unspecified"),
        ("0", "unspecified"),
        ("[::]", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("[ff02::1]", "multicast"),
        ("user:password@127.0.0.1", "loopback"),
        ("１２７.0.0.1", "loopback"),
    ],
)
@pytest.mark.parametrize("proxy", [None, "http://proxy.test:3128"])
async def test_a_link_to_an_address_that_is_not_public_is_refused(
    names: dict[str, list[str]], host: str, kind: str, proxy: str | None
) -> None:
    """However the address is written, directly and through a proxy, while the API is at a public one."""
    names["api.test"] = ["192.0.2.1", "2001:db8::1"]
    async with transport_of(PUBLIC_API, proxy=proxy) as transport:
        text = await refusal(transport, f"http://{host}:80/clip?sig=secret")
    assert f"a {kind}" in text
    assert "allow_private_links=True" in text
    assert "--allow-private-links" in text
    assert "secret" not in text
    assert "password" not in text


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.0.0.1"], ["::1"], ["10.0.0.1", "::ffff:127.0.0.1"]], ids=str)
async def test_a_name_is_judged_by_the_addresses_that_it_has(names: dict[str, list[str]], addresses: list[str]) -> None:
    """Nothing is sent to a name that has an address that is not public. The error names the address."""
    async with raw_server(CLIP) as server, transport_of(PUBLIC_API) as transport:
        names |= {"api.test": ["192.0.2.1"], "cdn.test": addresses}
        text = await refusal(transport, server.url.replace("127.0.0.1", "cdn.test"))
    assert any(f"cdn.test ({address})" in text for address in addresses)
    assert server.requests == []


async def test_a_name_is_judged_when_the_connection_is_opened(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not matter what an earlier look-up or an earlier check has found, so no name can change in between."""
    async with raw_server(CLIP) as server, transport_of(PUBLIC_API) as transport:
        names |= {"api.test": ["192.0.2.1"], "cdn.test": ["127.0.0.1"]}
        link = server.url.replace("127.0.0.1", "cdn.test")
        with monkeypatch.context() as patch:
            patch.setattr(link_guard, "kind_of", lambda _: AddressKind.PUBLIC)
            assert await fetch(transport, link) == b"clip"
        names["cdn.test"] = ["192.0.2.1"]  # the connector still has the address from before
        await refusal(transport, link)
    assert len(server.requests) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "inner.test", "localhost", "0x7f000001", "[::ffff:127.0.0.1]"])
async def test_a_redirect_to_an_address_that_is_not_public_is_refused(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Each hop is checked: by the address in it, and by the addresses of its name."""
    is_public = ip_address("127.0.0.2")  # the host that redirects
    monkeypatch.setattr(link_guard, "kind_of", lambda each: AddressKind.PUBLIC if each == is_public else kind_of(each))
    names |= {"api.test": ["192.0.2.1"], "inner.test": ["127.0.0.1"], "cdn.test": ["127.0.0.2"]}
    async with raw_server(CLIP) as target:
        link = target.url.replace("127.0.0.1", host).encode()
        action = respond(b"HTTP/1.1 302 Found\r\nLocation: %s/x\r\nContent-Length: 0\r\n\r\n" % link)
        async with raw_server(action, host="127.0.0.2") as server, transport_of(PUBLIC_API) as transport:
            text = await refusal(transport, server.url.replace("127.0.0.2", "cdn.test"))
    assert "a loopback address" in text
    assert (len(server.requests), target.requests) == (1, [])


@pytest.mark.parametrize(
    ("api", "api_addresses", "link"),
    [
        ("http://127.0.0.1:1", [], "127.0.0.1"),
        ("http://localhost:1", [], "127.0.0.1"),
        ("http://127.9.9.9:1", [], "localhost"),
        ("http://[::1]:1", [], "cdn.test"),
        ("https://api.test", ["127.0.0.1"], "127.0.0.1"),
        ("https://api.test", ["192.0.2.1", "127.0.0.1"], "cdn.test"),
    ],
)
async def test_a_link_may_lead_where_the_api_is(
    names: dict[str, list[str]], api: str, api_addresses: list[str], link: str
) -> None:
    """An API on this machine may name clips on this machine, whichever names both have."""
    names |= {"api.test": api_addresses, "cdn.test": ["127.0.0.1"], "localhost": ["127.0.0.1"]}
    async with raw_server(CLIP) as server, transport_of(api) as transport:
        assert await fetch(transport, server.url.replace("127.0.0.1", link)) == b"clip"


@pytest.mark.parametrize("api", ["http://127.0.0.1:1", "https://10.0.0.1", "https://api.test"])
async def test_an_api_of_one_kind_allows_no_links_of_another(names: dict[str, list[str]], api: str) -> None:
    """An API on this machine allows no private addresses, and one at a private address allows none here."""
    names["api.test"] = ["192.168.0.1"]
    async with transport_of(api) as transport:
        await refusal(transport, "http://169.254.169.254/latest/meta-data/")
        await refusal(transport, "http://10.0.0.2/" if "127" in api else "http://127.0.0.1/")


async def test_a_setting_allows_every_address(names: dict[str, list[str]]) -> None:
    """`Connection(allow_private_links=True)` is for networks where clips are served from within."""
    names |= {"api.test": ["192.0.2.1"], "cdn.test": ["127.0.0.1"]}
    async with raw_server(CLIP) as server, transport_of(PUBLIC_API, allow_private_links=True) as transport:
        assert await fetch(transport, server.url) == b"clip"
        assert await fetch(transport, server.url.replace("127.0.0.1", "cdn.test")) == b"clip"


async def test_the_proxy_itself_may_be_anywhere(names: dict[str, list[str]]) -> None:
    """Only links are checked. A proxy on this machine is used for them, and looks their names up."""
    async with raw_server(CLIP) as proxy, transport_of(PUBLIC_API, proxy=proxy.url) as transport:
        assert await fetch(transport, "http://cdn.test/clip") == b"clip"
    assert proxy.requests[0].startswith(b"GET http://cdn.test/clip ")
    assert names == {}


async def test_an_api_without_addresses_allows_only_public_links(names: dict[str, list[str]]) -> None:
    """If its name cannot be looked up, the API is not known to be near."""
    async with transport_of(PUBLIC_API) as transport:
        await refusal(transport, "http://127.0.0.1/")
    assert names == {}


async def test_a_plain_http_link_of_an_https_api_is_taken_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once for each client, and not at all for an API that is plain http itself."""
    async with raw_server(CLIP) as server:
        async with transport_of("https://127.0.0.1:1") as transport:
            for _ in range(3):
                assert await fetch(transport, f"{server.url}/clip?sig=secret") == b"clip"
        async with transport_of("http://127.0.0.1:1") as transport:
            assert await fetch(transport, server.url) == b"clip"
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "127.0.0.1 is plain http" in warnings[0]
    assert "secret" not in warnings[0]
