"""Which requests the sandbox answers: those to a name of this machine that do not come from a page of another site.

A page in a browser can send requests to servers of this machine: without this it could submit, or queue faults. It
could also read the responses, if its own host name were made to mean this machine (DNS rebinding).
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from .replies import error_reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Admission:
    """Middlewares of the servers of a sandbox that listens on `host`."""

    def __init__(self, host: str) -> None:
        self._names = {host.lower(), socket.gethostname().lower(), "localhost"}

    @web.middleware
    async def check_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a request to a host name that may be somebody else's, with a 421."""
        host = request.headers.get("Host")  # without one it comes from no browser
        if host is not None and not self._is_own(host):
            message = f"the sandbox is not {host[:100]!r}: use its IP address, or start it with --host NAME"
            raise error_reply(421, message)
        return await handler(request)

    @web.middleware
    async def check_site(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a request that a page of another site has caused, with a 403."""
        site, origin = request.headers.get("Sec-Fetch-Site", "none"), request.headers.get("Origin")
        is_foreign = origin is not None and _netloc(origin) != request.headers.get("Host", "").lower()
        if is_foreign or site not in {"none", "same-origin"}:
            raise error_reply(403, "the sandbox answers no requests of pages of other sites")
        return await handler(request)

    def _is_own(self, host: str) -> bool:
        """Return whether a host is an address, which cannot be made to mean this machine, or a name of this machine."""
        name = _host_name(host)
        if name in self._names or name.endswith(".localhost"):
            return True
        try:
            return bool(ip_address(name))
        except ValueError:
            return False


def _netloc(origin: str) -> str:
    """Return the host and port of an origin in lower case, "" for what is none, such as "null"."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    """Return the name in a Host header in lower case, without port and final dot; "" for what is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
