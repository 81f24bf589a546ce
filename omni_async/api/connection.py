"""How the server is reached, as a frozen object, checked when it is made; its secrets it shows to nobody."""

from __future__ import annotations

import re
import ssl as tls
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


VERSION_HEADER = "X-APIMart-Response-Version"

# What the client itself says, and money or a clip hangs on each of them.
_RESERVED_HEADERS = {
    "authorization": "give the key as api_key=",
    "content-type": "the client sets it",
    "content-length": "the client sets it",
    "content-encoding": "the client sets it",
    "transfer-encoding": "the client sets it",
    "accept-encoding": "the client sets it",
    "connection": "the client sets it",
    "host": "give the address as base_url=",
    "idempotency-key": "each job has its own",
    "if-range": "the client sets it",
    "range": "the client sets it",
    "proxy-authorization": "write user and password into the proxy's URL",
    VERSION_HEADER.lower(): "give response_version=",
}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Connection:
    """How the client reaches the API: what to send along, whom to trust, and by which way.

    ``headers`` go with every request to the API's own origin, and nowhere else. ``ssl`` is the context for the API and
    for the hosts that serve clips; without it, the usual authorities are trusted (and those in the file that
    ``SSL_CERT_FILE`` names). ``response_version`` is sent as ``X-APIMart-Response-Version``.

    ``proxy`` is an http(s) URL, with user and password in it if it wants them; everything goes through it. Without it,
    the environment's proxies count (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``), unless
    ``trust_env=False``. ``allow_insecure=True`` lets the address of the API be plain http, also on another machine:
    whoever is on the way can then read the API key.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    ssl: tls.SSLContext | None = None
    response_version: str | None = None
    proxy: str | None = None
    trust_env: bool = True
    allow_insecure: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", MappingProxyType(_validate_headers(self.headers)))
        if self.ssl is not None and not isinstance(self.ssl, tls.SSLContext):
            raise ValueError(f"Connection(ssl={self.ssl!r}): ssl must be an ssl.SSLContext")
        if self.response_version is not None:
            _validate_header_value("response_version", self.response_version)
        if self.proxy is not None:
            object.__setattr__(self, "proxy", validate_proxy(self.proxy, "Connection(proxy=...)"))
        for name in ("trust_env", "allow_insecure"):
            if getattr(self, name) not in {True, False}:
                raise ValueError(f"Connection({name}={getattr(self, name)!r}): {name} must be True or False")

    def __repr__(self) -> str:
        shown = [f"headers={dict.fromkeys(self.headers, '***')}"] if self.headers else []
        shown += ["ssl=..."] if self.ssl is not None else []
        shown += [f"proxy={without_password(self.proxy)!r}"] if self.proxy else []
        shown += [f"response_version={self.response_version!r}"] if self.response_version else []
        shown += [] if self.trust_env else ["trust_env=False"]
        shown += ["allow_insecure=True"] if self.allow_insecure else []
        return f"Connection({', '.join(shown)})"

    def extra_headers(self) -> dict[str, str]:
        """Give all headers that go with every request to the API."""
        version = {} if self.response_version is None else {VERSION_HEADER: self.response_version}
        return {**self.headers, **version}


def validate_proxy(url: str, setting: str) -> str:
    """Give the URL of a proxy, as http where it names no scheme. Raises `ValueError`, which shows no password."""
    whole = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(whole)
        is_good = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_good = False
    if not is_good:
        raise ValueError(f"{setting}: this is no URL of a proxy, such as http://user:password@proxy.example:3128")
    if parts.scheme not in {"http", "https"}:
        shown = without_password(whole)
        raise ValueError(f"{setting}: {shown} is no HTTP proxy; only http:// and https:// proxies can be used")
    return whole


def without_password(url: str) -> str:
    """Give a URL without user, password and path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _validate_headers(headers: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"Connection(headers=...): {str(name)[:60]!r} cannot be the name of a header")
        if why := _RESERVED_HEADERS.get(name.lower()):
            raise ValueError(f"Connection(headers=...): {name} cannot be given here: {why}")
        if name.lower() in {each.lower() for each in found}:
            raise ValueError(f"Connection(headers=...): {name} stands there twice")
        _validate_header_value(f"headers[{name!r}]", value)
        found[name] = value
    return found


def _validate_header_value(name: str, value: object) -> None:
    """Refuse what no header can hold; its text is not shown, because it may be a secret."""
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"Connection({name}=...): must be a text of visible ASCII characters, in one line")
