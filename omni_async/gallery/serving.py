"""Who may load the live page: its address, the host names under which it answers, and the sites that it answers.

There is no password. So a request must name a host that no other party can own, and must not come from a page of
another site: such pages could not read what they load, but could make this process work, or play the clips.
"""

from __future__ import annotations

import errno
import socket
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from omni_async.exhaustion import is_out_of_resources
from omni_async.listening import RETRY_AFTER, BoundedServer
from omni_async.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omni_async.listening import Handler


_log = get_logger(__name__)

# A port that people remember. If it is taken, any free port is used: the command line prints the address.
DEFAULT_PORT = 8080

# Addresses that mean "every interface" cannot be opened in a browser; show the loopback address instead.
_WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
# Seconds that responses in progress get when the server stops. Trades a clean end of clip downloads for a quick exit of
# the command. Chosen, not measured: at half, slow readers lose more responses; at double, Ctrl-C takes a second longer.
_SHUTDOWN_TIMEOUT = 1.0

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",  # other sites cannot embed the clips
    "Cross-Origin-Opener-Policy": "same-origin",
}


def refusal(status: int, text: str, **headers: str) -> web.Response:
    """Return a response that says why a request was refused."""
    return web.Response(status=status, text=f"{text}\n", headers=SECURITY_HEADERS | headers)


class Listener:
    """A listening address of this machine.

    If `port` is None, it is `DEFAULT_PORT`, or a free port if that one is in use.
    """

    def __init__(self, host: str, port: int | None) -> None:
        self.host = host
        self._port = port
        self._has_failed = False

    @property
    def is_exposed(self) -> bool:
        """Whether other machines can connect."""
        return not _is_loopback(self.host)

    @asynccontextmanager
    async def open(self, handler: Handler) -> AsyncIterator[str]:
        """Answer requests with `handler` until the block ends; yield the URL.

        Raise `OSError` if the address is not available.
        """

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            with server.answering(request):
                response = await self._answer(request, handler)
                await response.prepare(request)
                await response.write_eof()  # here, because the connection may be closed in favour of others from now on
                return response

        server = BoundedServer(answer)
        try:
            port = await self._listen(server)
            host = _WILDCARD_HOSTS.get(self.host, self.host)
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        finally:
            await server.aclose(_SHUTDOWN_TIMEOUT)

    async def _listen(self, server: BoundedServer) -> int:
        """Start listening and return the port."""
        try:
            return await server.listen(self.host, DEFAULT_PORT if self._port is None else self._port)
        except OSError as error:
            # A port that the user chose is never replaced by another one.
            if self._port is not None or error.errno != errno.EADDRINUSE:
                raise
            return await server.listen(self.host, 0)

    async def _answer(self, request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        if not self._is_allowed_host(request.host):
            return refusal(403, "this page is not served under this host name")
        if _is_from_another_site(request):
            return refusal(403, "this page cannot be loaded from another site")
        if request.method not in {"GET", "HEAD"}:
            return refusal(405, "this page can only be read", Allow="GET, HEAD")
        try:
            return await handler(request)
        except ConnectionError:  # the browser is gone
            raise
        except Exception as error:  # noqa: BLE001 - a fault of the page must not fail the run
            if is_out_of_resources(error):
                return refusal(503, "this machine is short of open files", **{"Retry-After": str(RETRY_AFTER)})
            if not self._has_failed:  # the same fault may meet every request
                self._has_failed = True
                _log.exception("the live page could not answer a request; the run was not affected")
            return refusal(500, "the live page has failed; the run was not affected")

    def _is_allowed_host(self, host: str) -> bool:
        """Return whether a request with this Host header may be answered.

        Protects against DNS rebinding: a hostile site can point its own name at this machine, and its pages could then
        read prompts and clips. Names that no other party can own are allowed. IP addresses are allowed only where other
        machines can connect anyway.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if _is_loopback(name):
            return True
        if not self.is_exposed:
            return False
        return _is_address(name) or name in {self.host.lower(), socket.gethostname().lower()}


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_from_another_site(request: web.BaseRequest) -> bool:
    """Return whether a page of another site caused this request. Browsers say so; other programs send no such header.

    A link to the page may be followed from anywhere: it opens in a tab of its own. Another port of this machine is
    another site here, although browsers call it the same.
    """
    headers = request.headers
    origin = headers.get("Origin")
    if origin is not None and origin.partition("://")[2].lower() != request.host.lower():  # "null" has none
        return True
    is_navigation = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    return headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"} and not is_navigation
