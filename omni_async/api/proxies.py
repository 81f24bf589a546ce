"""`ProxyResolver`: decides for `HttpTransport` which proxy, if any, a request uses."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

from .connection import Connection, validate_proxy, without_password

if TYPE_CHECKING:
    from yarl import URL


_REFUSED_STATUSES = frozenset({403, 407})


class ProxyRefused(ValueError):
    """A proxy refused a request, so the server has not received it; or the proxy cannot be used."""


class ProxyResolver:
    """The proxy of `Connection.proxy`, or else the one that the environment names for a host.

    The environment is read once for each host. aiohttp's own `trust_env` would read it for each request, in a thread,
    and would send what it finds in ~/.netrc.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cache: dict[tuple[str, str], str | None] = {}

    def proxy_for(self, target: URL) -> str | None:
        """Return the URL of the proxy for a request; None if it connects directly.

        Raise `ProxyRefused` if the environment names a proxy that cannot be used.
        """
        if self._connection.proxy is not None or not self._connection.trust_env:
            return self._connection.proxy
        origin = (target.scheme, target.host or "")
        if origin not in self._cache:
            try:
                self._cache[origin] = _proxy_from_environment(*origin)
            except ValueError as error:
                raise ProxyRefused(str(error)) from None
        return self._cache[origin]

    def raise_if_refused(self, target: URL, status: int, reason: str | None, body: bytes) -> None:
        """Raise `ProxyRefused` if a response comes from the proxy, not from the server.

        That is possible for plain http only: for https, a proxy refuses the CONNECT before the request is sent.
        """
        if status not in _REFUSED_STATUSES or target.scheme != "http" or self.proxy_for(target) is None:
            return
        # A 407 is always the proxy's. A 403 may be the API's, which answers in JSON.
        if status == 407 or not body.lstrip().startswith(b"{"):
            raise self.refusal_error(target, status, reason or "")

    def refusal_error(self, target: URL, status: int, reason: str) -> ProxyRefused:
        """Return the error for a proxy that refused a request to `target`, with what to do. It shows no password."""
        proxy = without_password(self.proxy_for(target) or "")
        if status == 407:
            remedy = "put user and password into its URL: http://user:password@host:port"
        else:
            remedy = "let it allow this address, or name the address in NO_PROXY"
        return ProxyRefused(f"the proxy {proxy} refused a request to {target.host}: {status} {reason}; {remedy}")


def _proxy_from_environment(scheme: str, host: str) -> str | None:
    proxies = {} if proxy_bypass(host) else getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    return validate_proxy(url, f"the environment's proxy for {scheme}") if url else None
