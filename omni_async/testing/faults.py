"""The faults of `MemoryServer`: those of the sandbox that need no real network, under the same names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from omni_async import TransportError, TransportTimeout

from ..api.parsing import Response

if TYPE_CHECKING:
    from collections.abc import Mapping


def response(status: int, content: Any = None, **headers: str) -> Response:
    """Return a response. Bytes are sent as they are, anything else as JSON; `headers` use _ for -."""
    body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def refusal(
    status: int, kind: str = "apimart_error", code: object = "", message: str = "no", **headers: str
) -> Response:
    """Return an error response in the API's own format, with the error's `type`, `code` and `message`."""
    return response(status, {"error": {"code": code, "message": message, "type": kind}}, **headers)


HTML = response(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFault:
    """What goes wrong with one request.

    `kind` is the kind of request: submit, check or clip. `reply` is sent in place of the real response; an exception
    is raised to the client. `is_accepted` says that a submit creates a task although its response is lost.
    `delay` is the time in seconds before the reply. `is_cut` resets the connection in the middle of a clip,
    `is_stalled` stops sending there.
    """

    kind: str
    reply: Response | Exception | None = None
    is_accepted: bool = False
    delay: float = 0.0
    is_cut: bool = False
    is_stalled: bool = False


_DISCONNECTED = TransportError("Server disconnected")

# Names and meanings are those of `omni_async.sandbox.FAULTS`, so that a test can move between the two servers.
MEMORY_FAULTS: Mapping[str, MemoryFault] = MappingProxyType(
    {
        "http_400": MemoryFault(kind="submit", reply=refusal(400, "invalid_request_error", 400, "invalid request")),
        "http_401": MemoryFault(kind="submit", reply=refusal(401, message="invalid API key")),
        "http_402": MemoryFault(kind="submit", reply=refusal(402, "payment_required", 402, "insufficient balance")),
        "http_403": MemoryFault(kind="submit", reply=refusal(403, "permission_error", 403, "not for this key")),
        "http_429": MemoryFault(
            kind="submit", reply=refusal(429, "rate_limit_error", 429, "slow down", retry_after="1")
        ),
        "http_500": MemoryFault(
            kind="submit", reply=refusal(500, code="get_channel_failed", message="try again later")
        ),
        "http_502_html": MemoryFault(kind="submit", reply=HTML),
        "http_503": MemoryFault(kind="submit", reply=refusal(503, "service_unavailable", 503, "try again later")),
        "drop_before": MemoryFault(kind="submit", reply=_DISCONNECTED),
        "drop_after": MemoryFault(kind="submit", reply=_DISCONNECTED, is_accepted=True),
        "http_500_after": MemoryFault(kind="submit", reply=refusal(500), is_accepted=True),
        "hang_submit": MemoryFault(
            kind="submit", reply=TransportTimeout("no response within 120 s"), is_accepted=True, delay=120.0
        ),
        "http_401_check": MemoryFault(kind="check", reply=refusal(401, message="invalid API key")),
        "http_429_check": MemoryFault(kind="check", reply=refusal(429, "rate_limit_error", 429, "slow down")),
        "http_500_check": MemoryFault(kind="check", reply=refusal(500)),
        "http_502_check": MemoryFault(kind="check", reply=HTML),
        "drop_check": MemoryFault(kind="check", reply=_DISCONNECTED),
        "hang_check": MemoryFault(kind="check", reply=TransportTimeout("no response within 20 s"), delay=20.0),
        "cut_download": MemoryFault(kind="clip", is_cut=True),
        "stall_download": MemoryFault(kind="clip", is_stalled=True),
        "expired_link": MemoryFault(kind="clip", reply=response(403, b"")),
        "html_clip": MemoryFault(kind="clip", reply=response(200, HTML.body)),
        "http_500_clip": MemoryFault(kind="clip", reply=response(500, b"")),
    }
)
