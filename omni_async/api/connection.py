"""`Connection`: how the client connects to the API. A setting of `OmniClient`, used by `HttpTransport`.

Like the other settings it is frozen and checked when it is created. Its repr and its errors show no secret.
"""

from __future__ import annotations

import re
import ssl as tls
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping


VERSION_HEADER = "X-APIMart-Response-Version"

LANGUAGES = ("en", "zh", "ja", "ko", "ru", "fr", "de", "id", "pt", "es")
"""The languages in which the server gives the reasons of failed jobs. It ignores any other, regional ones included."""

# Headers that the client sets itself, each with what to do instead. Another key, idempotency key, range or encoding
# would pay for a job twice, or damage a clip.
_RESERVED_HEADERS = {
    "authorization": "give the key as api_key=",
    "content-type": "the client sets it",
    "content-length": "the client sets it",
    "content-encoding": "the client sets it",
    "transfer-encoding": "the client sets it",
    "accept-encoding": "the client sets it",
    "connection": "the client sets it",
    "host": "give the address as base_url=",
    "idempotency-key": "the client gives each job its own",
    "if-range": "the client sets it",
    "range": "the client sets it",
    "proxy-authorization": "put user and password into the URL of the proxy",
    VERSION_HEADER.lower(): "give response_version=",
}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Connection:
    """How the client connects to the API: extra headers, certificates and proxy.

    For example, a gateway that wants a token of its own, behind a proxy::

        from omni_async import Connection, OmniClient

        connection = Connection(
            headers={"X-Gateway-Token": "secret"},
            proxy="http://user:password@proxy.example:3128",
        )
        client = OmniClient(base_url="https://gateway.example/apimart", connection=connection)

    - ``headers``: sent with every request to the origin of the API, and to no other host. They cannot replace what the
      client itself sets: the API key, the idempotency key, the content type and the like. None by default.
    - ``ssl``: the context that verifies the certificates of the API and of the hosts that serve clips. None, the
      default, trusts the usual authorities, or those in the file that ``SSL_CERT_FILE`` names. On the command
      line, ``--ca-file FILE`` sets it.
    - ``response_version``: sent as ``X-APIMart-Response-Version``. With "2026-07-27", the API answers a submit in its
      newer form; the client reads both. None, the default: not sent.
    - ``language``: the language of the reasons that the server gives for failed jobs, one of `LANGUAGES`. None, the
      default: as they come from the model, mostly English. On the command line, ``--language``.
    - ``proxy``: the URL of an HTTP proxy for all requests, with user and password if it needs them; without a scheme it
      means http. A SOCKS proxy needs an HTTP proxy in front of it, such as privoxy or gost. None, the default, uses the
      proxies of the environment.
    - ``trust_env``: whether to use the proxies that the environment names in ``HTTPS_PROXY``, ``HTTP_PROXY`` and
      ``ALL_PROXY``, except for the hosts in ``NO_PROXY``: names with their subdomains, addresses, networks such as
      ``10.0.0.0/8``, each also with a port, or ``*``. A server on this machine is always asked directly. True by
      default; it does not matter if ``proxy`` is set.
    - ``allow_insecure``: whether ``base_url`` may be plain http on another machine. Anyone on the network path can then
      read the API key. False by default: plain http is accepted for this machine only.
    - ``allow_private_links``: whether a link to a clip, and a redirect of one, may lead to this machine, or to a
      private, link-local or otherwise not public address, although the API is at none like it. False by default, so
      that no server can use the client to reach into your network. Names are checked with the addresses that they
      have when the connection is opened. Through a proxy, which looks names up itself, only addresses are checked.
      On the command line, ``--allow-private-links``.

    An untrusted certificate, or a proxy that refuses, stops all submits immediately with the reason, unless the server
    has answered before: then it is retried like an outage. No secret is shown in the repr, nor in any error.

    Raises `ValueError`, which names the setting and what it accepts.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    ssl: tls.SSLContext | None = None
    response_version: str | None = None
    language: str | None = None
    proxy: str | None = None
    trust_env: bool = True
    allow_insecure: bool = False
    allow_private_links: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", MappingProxyType(_validate_headers(self.headers)))
        if self.ssl is not None and not isinstance(self.ssl, tls.SSLContext):
            raise ValueError(f"Connection(ssl={self.ssl!r}): ssl must be an ssl.SSLContext")
        if self.response_version is not None:
            _validate_header_value("response_version", self.response_version)
        if self.language is not None and self.language not in LANGUAGES:
            known = ", ".join(LANGUAGES)
            raise ValueError(f"Connection(language={self.language!r}): language must be one of {known}")
        if self.proxy is not None:
            object.__setattr__(self, "proxy", validate_proxy(self.proxy, "Connection(proxy=...)"))
        for name in ("trust_env", "allow_insecure", "allow_private_links"):
            if getattr(self, name) not in {True, False}:
                raise ValueError(f"Connection({name}={getattr(self, name)!r}): {name} must be True or False")

    def __repr__(self) -> str:
        shown = [f"headers={dict.fromkeys(self.headers, '***')}"] if self.headers else []
        shown += ["ssl=..."] if self.ssl is not None else []
        shown += [f"proxy={without_password(self.proxy)!r}"] if self.proxy else []
        shown += [f"response_version={self.response_version!r}"] if self.response_version else []
        shown += [f"language={self.language!r}"] if self.language else []
        shown += [] if self.trust_env else ["trust_env=False"]
        shown += ["allow_insecure=True"] if self.allow_insecure else []
        shown += ["allow_private_links=True"] if self.allow_private_links else []
        return f"Connection({', '.join(shown)})"

    def extra_headers(self) -> dict[str, str]:
        """Return the headers to add to every request to the API: `headers`, and the response version."""
        version = {} if self.response_version is None else {VERSION_HEADER: self.response_version}
        return {**self.headers, **version}


def validate_proxy(url: str, setting: str) -> str:
    """Return the URL of a proxy, with the scheme http if it has none.

    `setting` names where the URL comes from, for messages. Raise `ValueError`, which shows no password, for a URL that
    cannot be used.
    """
    full_url = url if "://" in url else f"http://{url}"
    if not _is_url(full_url):
        raise ValueError(
            f"{setting}: not the URL of a proxy, such as http://user:password@proxy.example:3128; in user and "
            "password, write each of / ? # @ and white space percent-encoded"
        )
    parts = urlsplit(full_url)
    if parts.scheme not in {"http", "https"}:
        shown = without_password(full_url)
        remedy = "Put an HTTP proxy in front of it, for example privoxy or gost" if "socks" in parts.scheme else ""
        only = "only http:// and https:// proxies can be used"
        raise ValueError(f"{setting}: {shown} is not an HTTP proxy; {only}{'. ' if remedy else ''}{remedy}")
    return full_url


def _is_url(url: str) -> bool:
    """Return whether a URL has a host, and can be used as it is."""
    try:
        parts = urlsplit(url)
        full = URL(url)
        # An "@" after the host belongs to a password with a "/" in it. The host would be the user then.
        is_cut = "@" in f"{parts.path}{parts.query}{parts.fragment}"
        f"{full.user}{full.password}".encode("latin-1")  # as aiohttp sends them
        is_one_line = re.search(r"[\x00-\x20\x7f]", url) is None
        return bool(parts.hostname and full.host) and parts.port != 0 and is_one_line and not is_cut
    except ValueError:
        return False


def without_password(url: str) -> str:
    """Return a URL without user, password and path. Whatever stands in front of the last "@" may be a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split(r'[/?#]', rest.rpartition('@')[2])[0]}"


def _validate_headers(headers: Mapping[str, str]) -> dict[str, str]:
    valid: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"Connection(headers=...): {str(name)[:60]!r} is not a valid header name")
        if instead := _RESERVED_HEADERS.get(name.lower()):
            raise ValueError(f"Connection(headers=...): {name} cannot be set here: {instead}")
        if name.lower() in {each.lower() for each in valid}:
            raise ValueError(f"Connection(headers=...): {name} is given twice")
        _validate_header_value(f"headers[{name!r}]", value)
        valid[name] = value
    return valid


def _validate_header_value(name: str, value: object) -> None:
    """Raise `ValueError` for a value that no header can have. The message does not show it: it may be a secret."""
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"Connection({name}=...): must be one line of visible ASCII characters")
