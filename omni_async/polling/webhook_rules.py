"""What an address for webhooks must be like, and what a call to it says: a hint, and nothing to believe.

Calls carry no signature. So all that is taken from one is the id of a task; how it stands is then asked of the server.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any
from urllib.parse import SplitResult, urlsplit

MAX_BODY_BYTES = 64 * 1024  # bytes; a call about a task has about a thousand

_LONGEST_ID = 200  # characters; those that are known have about thirty
_PORTS = {"http": 80, "https": 443}
_APIMART = ("apimart.ai", "apib.ai", "aiuxu.com", "aishuch.com")  # the service, and its other names


def validate_callback_url(public_url: str, server: str) -> str:
    """Give the address as it is sent, without a slash at its end.

    Raises `ValueError` for one that the API at `server` would drop without a word. A server on this machine may be
    given any address, because it can call this machine.
    """
    parts = _parts(public_url)
    if parts is None or parts.scheme not in _PORTS or not parts.hostname:
        raise _refused(public_url, "it is no http(s) URL such as https://example.com/omni")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("webhook(public_url): it must hold no user, password, query or fragment")
    if any(character.isspace() for character in public_url) or not public_url.isascii():
        raise _refused(public_url, "it holds white space, or characters that an address has only when encoded")
    if not is_this_machine(_host(server)):
        _check_reach(public_url, parts, _host(server))
    return public_url.rstrip("/")


def _check_reach(public_url: str, parts: SplitResult, server: str) -> None:
    """Refuse what the server calls by no means: it says so nowhere else, the calls just never come."""
    host = (parts.hostname or "").rstrip(".")
    if parts.port not in {None, *_PORTS.values()}:
        raise _refused(public_url, f"APIMart calls ports 80 and 443 only, not {parts.port}; put a proxy before it")
    if host == server or any(f".{host}".endswith(f".{name}") for name in _APIMART):
        raise _refused(public_url, "APIMart does not call its own hosts; give the address of your own server")
    if is_this_machine(host) or not _is_public(host):
        raise _refused(public_url, f"{host} cannot be reached from outside; give the address that the internet knows")


def is_this_machine(host: str) -> bool:
    """Tell whether a host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _ip(host)
    return address is not None and address.is_loopback


def parse_call(body: bytes) -> str | None:
    """Give the id of the task that a call names: the task object bare, or in an envelope as a check has it."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    inner: Any = content.get("data", content) if isinstance(content, dict) else content
    if isinstance(inner, list) and len(inner) == 1:
        inner = inner[0]
    if not isinstance(inner, dict):
        return None
    found = inner.get("id") or inner.get("task_id")
    return found if isinstance(found, str) and len(found) <= _LONGEST_ID else None


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_good = parts.port != 0  # reading it checks it
    except (ValueError, TypeError, AttributeError):
        return None
    return parts if is_good else None


def _host(url: str) -> str:
    parts = _parts(url)
    return (parts.hostname or "") if parts else ""


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_public(host: str) -> bool:
    address = _ip(host)
    return address.is_global if address is not None else "." in host and not host.endswith((".local", ".internal"))


def _refused(public_url: object, reason: str) -> ValueError:
    return ValueError(f"webhook({str(public_url)[:200]!r}): {reason}")
