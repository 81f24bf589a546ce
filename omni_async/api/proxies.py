"""Which way a request takes: straight, or through a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

from .connection import Connection, validate_proxy, without_password

if TYPE_CHECKING:
    from yarl import URL


_REFUSED_STATUSES = frozenset({403, 407})


class ProxyRefused(ValueError):
    """A proxy did not let a request through: what it refused has gone no further."""


class ProxyResolver:
    """The proxy of the settings, else those that the environment names, looked up once for each host.

    aiohttp's own `trust_env` would also look into ~/.netrc, in a thread, at every single request.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cache: dict[tuple[str, str], str | None] = {}

    def proxy_for(self, target: URL) -> str | None:
        """Give the proxy's URL; None for a direct way. Raises `ProxyRefusal` for one that cannot be used."""
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
        """Raise `ProxyRefusal` for an answer that is a proxy's own no; through https it never gets this far."""
        if status not in _REFUSED_STATUSES or target.scheme != "http" or self.proxy_for(target) is None:
            return
        if status == 407 or not body.lstrip().startswith(b"{"):  # the API itself refuses in JSON
            raise self.refusal_error(target, status, reason or "")

    def refusal_error(self, target: URL, status: int, words: str) -> ProxyRefused:
        """Say in plain words that the proxy on the way to an address refuses, and what may help."""
        proxy = without_password(self.proxy_for(target) or "")
        advice = "it wants a user and a password in its URL: http://user:password@host:port"
        advice = advice if status == 407 else "let it allow this address, or name it in NO_PROXY"
        return ProxyRefused(f"the proxy {proxy} lets nothing through to {target.host}: {status} {words}; {advice}")


def _proxy_from_environment(scheme: str, host: str) -> str | None:
    proxies = {} if proxy_bypass(host) else getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    return validate_proxy(url, f"the environment's proxy for {scheme}") if url else None
