"""`LinkGuard`: a link to a clip leads to no address that only this machine or its networks can reach.

A server that chooses links could otherwise have this machine send requests to services behind its firewall.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextvars import ContextVar
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from .addresses import AddressKind, kind_of, kind_of_host
from .urls import LinkRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from yarl import URL

_T = TypeVar("_T")


class _Attempt:
    """A request to a host that was named by a link, and the addresses of it that were refused, each with its kind."""

    def __init__(self, allowed: frozenset[AddressKind]) -> None:
        self._allowed = allowed
        self.refused: dict[str, AddressKind] = {}

    def check(self, address: str) -> None:
        """Raise `OSError` if no connection to an address is allowed."""
        kind = kind_of(ip_address(address.partition("%")[0]))
        if kind not in self._allowed:
            self.refused[address] = kind
            raise OSError(errno.EACCES, f"{address} is a {kind} address")


_current: ContextVar[_Attempt | None] = ContextVar("_current", default=None)


def open_socket(address_info: tuple[Any, ...]) -> socket.socket:
    """Open the socket for a connection to an address; aiohttp calls it for each address of a host.

    The address is checked here, after the look-up: the name may have had another address a moment before.
    """
    family, kind, protocol, _, address = address_info
    attempt = _current.get()
    if attempt is not None:
        attempt.check(address[0])
    return socket.socket(family=family, type=kind, proto=protocol)


class LinkGuard:
    """Sends requests for links, unless they lead to an address that is not public.

    Links may also lead to where the API itself is: those of a server on this machine to this machine, and those of a
    server in a private network to private addresses. `allow_private` allows every address. Through a proxy, the proxy
    looks names up. Then only addresses that are spelled out in the link are checked.
    """

    def __init__(self, api_host: str, *, allow_private: bool) -> None:
        self._api_host = api_host
        self._allow_private = allow_private
        kind = kind_of_host(api_host)
        self._is_api_known = kind is not None
        self._allowed: frozenset[AddressKind] = frozenset({AddressKind.PUBLIC, kind or AddressKind.PUBLIC})

    async def send(self, target: URL, send: Callable[[], Awaitable[_T]], *, is_proxied: bool) -> _T:
        """Send a request for a link. Raise `LinkRefused` if it leads where it may not."""
        if self._allow_private:
            return await send()
        host = target.raw_host or ""
        if (kind := kind_of_host(host)) is not None:
            await self._raise_if_refused(host, {host: kind})
        if is_proxied:
            return await send()
        while True:
            attempt = _Attempt(self._allowed)
            token = _current.set(attempt)
            try:
                return await send()
            except OSError:
                if not attempt.refused:
                    raise
            finally:
                _current.reset(token)
            await self._raise_if_refused(host, attempt.refused)

    async def _raise_if_refused(self, host: str, found: dict[str, AddressKind]) -> None:
        """Raise `LinkRefused` if the API is at no address like these. That is looked up only now, and only once."""
        if not self._is_api_known and not self._allowed.issuperset(found.values()):
            await self._look_up_api()
        for address, kind in found.items():
            if kind not in self._allowed:
                shown = host if address == host else f"{host} ({address})"
                raise LinkRefused(
                    f"a link leads to {shown}, a {kind} address, and the API is at none; if the link is right, allow "
                    "it with Connection(allow_private_links=True), or --allow-private-links on the command line"
                )

    async def _look_up_api(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._api_host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        self._is_api_known = True
        self._allowed |= {kind_of(ip_address(str(address[0]).partition("%")[0])) for *_, address in found}
