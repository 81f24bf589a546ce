"""What a server in memory can be told to do wrong: the sandbox's faults, as far as there is no network for them."""

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
    """Give an answer: a dict goes as JSON, bytes go as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def refusal(
    status: int, kind: str = "apimart_error", code: object = "", message: str = "no", **headers: str
) -> Response:
    """Give an error answer in the service's own shape."""
    return response(status, {"error": {"code": code, "message": message, "type": kind}}, **headers)


HTML = response(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFault:
    """One way to misbehave: on which kind of request, whether the task is taken all the same, and what is answered.

    `hangs` is how many seconds pass before that; a clip may also be `cut` in the middle, or stall there.
    """

    kind: str
    answer: Response | Exception | None = None
    is_accepted: bool = False
    hangs: float = 0.0
    cut: bool = False
    stalls: bool = False


_GONE = TransportError("Server disconnected")

# Named as in `omni_async.sandbox.FAULTS`.
MEMORY_FAULTS: Mapping[str, MemoryFault] = MappingProxyType(
    {
        "http_400": MemoryFault(kind="submit", answer=refusal(400, "invalid_request_error", 400, "invalid request")),
        "http_401": MemoryFault(kind="submit", answer=refusal(401, message="invalid API key")),
        "http_402": MemoryFault(kind="submit", answer=refusal(402, "payment_required", 402, "insufficient balance")),
        "http_403": MemoryFault(kind="submit", answer=refusal(403, "permission_error", 403, "not for this key")),
        "http_429": MemoryFault(
            kind="submit", answer=refusal(429, "rate_limit_error", 429, "slow down", retry_after="1")
        ),
        "http_500": MemoryFault(
            kind="submit", answer=refusal(500, code="get_channel_failed", message="try again later")
        ),
        "http_502_html": MemoryFault(kind="submit", answer=HTML),
        "http_503": MemoryFault(kind="submit", answer=refusal(503, "service_unavailable", 503, "try again later")),
        "drop_before": MemoryFault(kind="submit", answer=_GONE),
        "drop_after": MemoryFault(kind="submit", answer=_GONE, is_accepted=True),
        "http_500_after": MemoryFault(kind="submit", answer=refusal(500), is_accepted=True),
        "hang_submit": MemoryFault(
            kind="submit", answer=TransportTimeout("no answer within 120 s"), is_accepted=True, hangs=120.0
        ),
        "http_401_check": MemoryFault(kind="check", answer=refusal(401, message="invalid API key")),
        "http_429_check": MemoryFault(kind="check", answer=refusal(429, "rate_limit_error", 429, "slow down")),
        "http_500_check": MemoryFault(kind="check", answer=refusal(500)),
        "http_502_check": MemoryFault(kind="check", answer=HTML),
        "drop_check": MemoryFault(kind="check", answer=_GONE),
        "hang_check": MemoryFault(kind="check", answer=TransportTimeout("no answer within 20 s"), hangs=20.0),
        "cut_download": MemoryFault(kind="clip", cut=True),
        "stall_download": MemoryFault(kind="clip", stalls=True),
        "expired_link": MemoryFault(kind="clip", answer=response(403, b"")),
        "html_clip": MemoryFault(kind="clip", answer=response(200, HTML.body)),
        "http_500_clip": MemoryFault(kind="clip", answer=response(500, b"")),
    }
)
