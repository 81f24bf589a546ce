"""`ProxyResolver`: which proxy, if any, a request of `HttpTransport` uses, and which responses are the proxy's own."""

from __future__ import annotations

import os
from base64 import b64encode
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.request import getproxies, getproxies_environment, proxy_bypass

from yarl import URL

from .addresses import is_this_machine
from .connection import Connection, validate_proxy, without_password
from .no_proxy import is_excepted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .redaction import Redactor


# The codes with which Squid says that it has not passed a request on: because it may not, or because it could not reach
# the server. After its others, such as ERR_READ_TIMEOUT, the server may have the request.
_SQUID_REFUSES = frozenset({"ERR_ACCESS_DENIED", "ERR_CACHE_ACCESS_DENIED", "ERR_FORWARDING_DENIED"})
_SQUID_CANNOT_CONNECT = frozenset({"ERR_DNS_FAIL", "ERR_CONNECT_FAIL", "ERR_CANNOT_FORWARD"})

# The statuses with which a proxy says of a CONNECT that it could not reach the server: an outage, which is temporary.
_CANNOT_CONNECT = frozenset({502, 503, 504})


class ProxyRefused(ValueError):
    """A proxy refused a request, so the server has not received it; or the proxy cannot be used.

    `permanent` is False if that is an outage, which is temporary.
    """

    def __init__(self, text: str, *, permanent: bool = True) -> None:
        super().__init__(text)
        self.permanent = permanent


class ProxyResolver:
    """The proxy of `Connection.proxy`, or else the one that the environment names for a host.

    The proxies of the environment are for other machines: a server on this one is always asked directly, so that the
    API key stays here.

    The environment is read once for each host. aiohttp's own `trust_env` would read it for each request, in a thread,
    and would send what it finds in ~/.netrc.
    """

    def __init__(self, connection: Connection, redact: Redactor) -> None:
        self._connection = connection
        self._redact = redact
        self._cache: dict[tuple[str, str, int], str | None] = {}
        self._hide_password(connection.proxy)

    def proxy_for(self, target: URL) -> str | None:
        """Return the URL of the proxy for a request; None if it connects directly.

        Raise `ProxyRefused` if the environment names a proxy that cannot be used.
        """
        if self._connection.proxy is not None or not self._connection.trust_env:
            return self._connection.proxy
        origin = (target.scheme, target.raw_host or "", target.port or 0)
        if origin not in self._cache:
            try:
                self._cache[origin] = _proxy_from_environment(*origin)
            except ValueError as error:
                raise ProxyRefused(str(error)) from None
            self._hide_password(self._cache[origin])
        return self._cache[origin]

    def _hide_password(self, proxy: str | None) -> None:
        """Redact the password of a proxy in all texts: the proxy may quote it in its responses."""
        url = URL(proxy or "")
        if url.password:
            self._redact.add(url.password)
            self._redact.add(b64encode(f"{url.user or ''}:{url.password}".encode("latin-1")).decode())

    def raise_if_refused(self, target: URL, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        """Raise `ProxyRefused` if a response comes from the proxy, which has not passed the request on.

        That is possible for plain http only: for https, a proxy refuses the CONNECT before the request is sent.
        `headers` has names in lower case. `body` is None if it is not known.
        """
        if status < 400 or target.scheme != "http" or self.proxy_for(target) is None:
            return
        squid = (headers.get("x-squid-error") or " ").split(" ")[0]
        is_json = body is None or body.lstrip().startswith(b"{")  # the API refuses a key in JSON, a proxy in HTML
        if (
            status == 407
            or "proxy-authenticate" in headers
            or squid in _SQUID_REFUSES
            or (status in {401, 403} and not is_json)
        ):
            raise self.refusal_error(target, status)
        if squid in _SQUID_CANNOT_CONNECT:
            shown = without_password(self.proxy_for(target) or "")
            raise ProxyRefused(f"the proxy {shown} cannot reach {target.host}: {squid}", permanent=False)

    def refusal_error(self, target: URL, status: int) -> ProxyRefused:
        """Return the error for a proxy that refused a request to `target`, with what to do. It shows no password."""
        proxy = without_password(self.proxy_for(target) or "")
        phrase = next((each.phrase for each in HTTPStatus if each == status), "")
        if status in _CANNOT_CONNECT:
            text = f"the proxy {proxy} cannot reach {target.host}: {status} {phrase}"
            return ProxyRefused(text, permanent=False)
        if status == 407:
            remedy = "put user and password into its URL: http://user:password@host:port"
        else:
            remedy = "let it allow this address, log in to it, or name the address in NO_PROXY"
        return ProxyRefused(f"the proxy {proxy} refused a request to {target.host}: {status} {phrase}; {remedy}")


def _proxy_from_environment(scheme: str, host: str, port: int) -> str | None:
    variables = getproxies_environment()
    if is_this_machine(host) or is_excepted(variables.get("no", ""), host, port):
        return None
    if not variables and proxy_bypass(host):  # the exceptions in the settings of macOS or Windows
        return None
    proxies = variables or getproxies()
    name = scheme if proxies.get(scheme) else "all"
    url = proxies.get(name)
    if not url:
        return None
    try:
        return validate_proxy(url, _setting_name(name))
    except ValueError as error:
        remedy = f"To connect without a proxy, name {host} in NO_PROXY, or use Connection(trust_env=False)"
        raise ValueError(f"{error}. {remedy}") from None


def _setting_name(kind: str) -> str:
    """Return the variable of the environment that names the proxy for "http", "https" or "all"."""
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), f"the proxy of this system for {kind}")
