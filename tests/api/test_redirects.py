"""What is sent for a clip over real sockets: the request line, redirects and their cookies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from omni_async import TransportError
from tests.support.http_servers import fetch, open_transport, raw_server

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_proxy")]

CLIP = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nclip"
API = "http://127.0.0.1:1"


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


def redirects(
    *steps: tuple[bytes, bytes], last: bytes = CLIP
) -> Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]:
    """Return an action that answers the first requests with redirects, and every other one with `last`.

    Each step is a Location and further header lines.
    """
    left = list(steps)

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        if not left:
            writer.write(last)
            return
        location, lines = left.pop(0)
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: %s\r\n%sContent-Length: 0\r\n\r\n" % (location, lines))

    return act


def target_of(request: bytes) -> bytes:
    """Return what stands in the request line between method and version."""
    return request.partition(b"\r\n")[0].removeprefix(b"GET ").removesuffix(b" HTTP/1.1")


def cookies_of(request: bytes) -> list[bytes]:
    """Return the cookies of a request, sorted."""
    lines = [line for line in request.split(b"\r\n") if line.lower().startswith(b"cookie:")]
    assert len(lines) <= 1
    return sorted(lines[0].partition(b": ")[2].split(b"; ")) if lines else []


@pytest.mark.parametrize("target", ["/a%2Fb%2fc//d/../e;f?g=%2B+h&&i=&j", "/?", "/x?", "/%zz?%", "/a?b?c/../d"])
async def test_a_link_is_requested_byte_for_byte(target: str) -> None:
    """A signature holds only for the link as it was signed, whatever else is in the link."""
    async with raw_server(redirects()) as server, open_transport(API) as transport:
        assert await fetch(transport, server.url + target) == b"clip"
        assert await fetch(transport, server.url + target + " ü#x") == b"clip"
    assert [target_of(request).decode() for request in server.requests] == [target, target + "%20%C3%BC"]


async def test_a_link_is_requested_byte_for_byte_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy gets the whole link, and no other form of it."""
    async with raw_server(redirects()) as proxy, open_transport(API) as transport:
        monkeypatch.setenv("http_proxy", proxy.url)
        await fetch(transport, "http://cdn.invalid/a%2Fb/../c?d=%2F ü&e?")
    assert target_of(proxy.requests[0]) == b"http://cdn.invalid/a%2Fb/../c?d=%2F%20%C3%BC&e?"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        (b"/a%2Fb/../c d?e=%2f&", b"/a%2Fb/../c%20d?e=%2f&"),
        ("/é".encode(), b"/%C3%A9"),
        ("/é".encode("latin-1"), b"/%E9"),
        (b"next?x=%2F", b"/one/next?x=%2F"),
    ],
)
async def test_a_redirect_is_requested_byte_for_byte(location: bytes, target: bytes) -> None:
    """A Location is sent on as it came; bytes that no URL can hold are escaped each by itself."""
    async with raw_server(redirects((location, b""))) as server, open_transport(API) as transport:
        assert await fetch(transport, f"{server.url}/one/two") == b"clip"
    assert target_of(server.requests[1]) == target


async def test_a_cookie_of_a_redirect_is_given_back() -> None:
    """Cookies are sent where they belong while one chain of redirects lasts, and in no later download."""
    of_three = b"Set-Cookie: b=2==; Path=/three\r\n" + b'Set-Cookie: c="x/y"; Path=/three\r\n'
    steps = [
        (b"/two", b"Set-Cookie: a=1; Path=/\r\n" + of_three + b"Set-Cookie: s=1; Secure\r\n"),
        (b"/three/x", b"Set-Cookie: a=3; Path=/\r\n"),
    ]
    async with raw_server(redirects(*steps)) as server, open_transport(API) as transport:
        assert await fetch(transport, f"{server.url}/one") == b"clip"
        assert await fetch(transport, f"{server.url}/two") == b"clip"
    assert [cookies_of(request) for request in server.requests] == [[], [b"a=1"], [b"a=3", b"b=2==", b'c="x/y"'], []]


async def test_a_host_that_waits_for_its_cookie_is_served_it() -> None:
    """The same link is requested again if there is a cookie to show that was not there before."""

    async def act(request: bytes, writer: asyncio.StreamWriter) -> None:
        found = b"HTTP/1.1 307 Come back\r\nLocation: /clip\r\nSet-Cookie: seen=yes\r\nContent-Length: 0\r\n\r\n"
        writer.write(CLIP if b"seen=yes" in request else found)

    async with raw_server(act) as server, open_transport(API) as transport:
        assert await fetch(transport, f"{server.url}/clip") == b"clip"
    assert len(server.requests) == 2


async def test_a_cookie_goes_to_no_other_host() -> None:
    """A cookie of one host is not sent to another, even if it names that host as its domain."""
    async with raw_server(redirects()) as other, open_transport(API) as transport:
        elsewhere = other.url.replace("127.0.0.1", "localhost").encode()
        lines = b"Set-Cookie: a=1\r\nSet-Cookie: b=1; Domain=localhost\r\n"
        async with raw_server(redirects((elsewhere, lines))) as server:
            assert await fetch(transport, f"{server.url}/one") == b"clip"
    assert cookies_of(other.requests[0]) == []


async def test_the_api_sets_and_gets_no_cookies() -> None:
    """A clip on the API's own origin is fetched with the API key, and without cookies."""
    act = redirects((b"/two", b"Set-Cookie: a=1; Path=/\r\n"))
    async with raw_server(act) as server, open_transport(server.url) as transport:
        assert await fetch(transport, f"{server.url}/one") == b"clip"
        await transport.check("t")
    assert [cookies_of(request) for request in server.requests] == [[], [], []]


@pytest.mark.parametrize(
    ("location", "reason", "requests"),
    [
        (b"/", "redirects in a circle", 1),
        (b"", "redirects in a circle", 1),
        (b"ftp://cdn.test/clip", "its scheme is ftp", 1),
        (b"http://cdn.test:99999/", "its host or port is invalid", 1),
        (b"http:///clip", "it names no host", 1),
    ],
)
async def test_a_redirect_that_leads_nowhere_is_permanent(location: bytes, reason: str, requests: int) -> None:
    """It is tried once: every later request would be answered the same."""
    async with raw_server(redirects(*[(location or b"#x", b"")] * 20)) as server, open_transport(API) as transport:
        with pytest.raises(TransportError, match=reason) as caught:
            await fetch(transport, f"{server.url}/")
    assert caught.value.permanent
    assert not caught.value.sent
    assert len(server.requests) == requests


async def test_endless_redirects_are_permanent() -> None:
    """A chain that leads to ever other links, or sets ever other cookies, ends after ten redirects."""
    for steps in (
        [(b"/%d" % number, b"") for number in range(50)],
        [(b"/", b"Set-Cookie: a=%d\r\n" % number) for number in range(50)],
    ):
        async with raw_server(redirects(*steps)) as server, open_transport(API) as transport:
            with pytest.raises(TransportError, match="more than 10 redirects") as caught:
                await fetch(transport, f"{server.url}/")
        assert caught.value.permanent
        assert len(server.requests) == 11


@pytest.mark.parametrize("link", ["ftp://cdn.test/c", "http://cdn.test:0/", "http://cdn.test/\n", "clip.mp4"])
async def test_a_link_that_can_never_work_is_permanent(link: str) -> None:
    """Nothing is sent, and the error says that waiting cannot help."""
    async with open_transport(API) as transport:
        with pytest.raises(TransportError, match="cannot be downloaded") as caught:
            await fetch(transport, link)
    assert caught.value.permanent
    assert not caught.value.sent
