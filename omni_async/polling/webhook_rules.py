"""Which callback URLs the API would call, and what a webhook call says: the id of a task, and nothing that is trusted.

Calls carry no signature. So only the task id is taken from one, and the task is then checked. `WebhookReceiver` uses
both.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ..api.addresses import AddressKind, is_this_machine, kind_of_host

# Larger bodies of webhook calls are rejected unread. A call about a task has about 1,000 bytes; the rest is room for
# longer prompts and more videos. More would only let a forged call use more memory.
MAX_BODY_BYTES = 64 * 1024

_MAX_ID_LENGTH = 200  # characters; known task ids have about 30. A longer one is not a task id, and is not remembered
_PORTS = {"http": 80, "https": 443}
_APIMART_HOSTS = ("apimart.ai", "apib.ai", "aiuxu.com", "aishuch.com")  # the service, and its other names


def validate_callback_url(public_url: str, server: str) -> str:
    """Return the URL as submits name it, without a trailing slash.

    Raise `ValueError` for one that the API at `server` would ignore silently. A server on this machine (a sandbox) may
    be given any URL, because it can call this machine.
    """
    parts = _parts(public_url)
    if parts is None or parts.scheme not in _PORTS or not parts.hostname:
        raise _invalid(public_url, "it is not an http(s) URL such as https://example.com/omni")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("webhook(public_url): the URL must contain no user, password, query or fragment")
    if any(character.isspace() for character in public_url) or not public_url.isascii():
        raise _invalid(public_url, "it contains white space, or characters that must be encoded in a URL")
    if not is_this_machine(_host(server)):
        _check_reachable(public_url, parts, _host(server))
    return public_url.rstrip("/")


def _check_reachable(public_url: str, parts: SplitResult, server: str) -> None:
    """Raise `ValueError` for a URL that the API never calls: otherwise calls would silently never arrive."""
    host = (parts.hostname or "").rstrip(".")
    if parts.port not in {None, *_PORTS.values()}:
        raise _invalid(
            public_url, f"APIMart calls ports 80 and 443 only, not {parts.port}; put a reverse proxy in front of it"
        )
    if host == server or any(f".{host}".endswith(f".{name}") for name in _APIMART_HOSTS):
        raise _invalid(public_url, "APIMart does not call its own hosts; give the URL of your own server")
    if not _is_public(host):
        raise _invalid(
            public_url, f"{host} cannot be reached from outside; give the URL that the public internet reaches"
        )


def parse_call(body: bytes) -> str | None:
    """Return the id of the task that the body of a call names, None if it names none.

    The body is the task object itself, or that in the envelope of a status response.
    """
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
    return found if isinstance(found, str) and len(found) <= _MAX_ID_LENGTH else None


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_valid = parts.port != 0  # reading it raises if it is not a number
    except (ValueError, TypeError, AttributeError):
        return None
    return parts if is_valid else None


def _host(url: str) -> str:
    parts = _parts(url)
    return (parts.hostname or "") if parts else ""


def _is_public(host: str) -> bool:
    kind = kind_of_host(host)
    if kind is not None:
        return kind is AddressKind.PUBLIC
    return "." in host and not host.endswith((".local", ".internal"))


def _invalid(public_url: object, reason: str) -> ValueError:
    return ValueError(f"webhook({str(public_url)[:200]!r}): {reason}")
