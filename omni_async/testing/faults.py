"""What a server in memory can be told to do wrong: the sandbox's faults, as far as there is no network for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from omni_async import TransportError, TransportTimeout

from ..api.parsing import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping


def reply(status: int, content: Any = None, **headers: str) -> Reply:
    """Give an answer: a dict goes as JSON, bytes go as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def refusal(status: int, kind: str = "apimart_error", code: object = "", message: str = "no", **headers: str) -> Reply:
    """Give an error answer in the service's own shape."""
    return reply(status, {"error": {"code": code, "message": message, "type": kind}}, **headers)


HTML = reply(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Misdeed:
    """One way to misbehave: on which kind of request, whether the task is taken all the same, and what is answered.

    `hangs` is how many seconds pass before that; a clip may also be `cut` in the middle, or stall there.
    """

    kind: str
    answer: Reply | Exception | None = None
    is_accepted: bool = False
    hangs: float = 0.0
    cut: bool = False
    stalls: bool = False


_GONE = TransportError("Server disconnected")

# Named as in `omni_async.sandbox.FAULTS`.
MISDEEDS: Mapping[str, Misdeed] = MappingProxyType(
    {
        "http_400": Misdeed(kind="submit", answer=refusal(400, "invalid_request_error", 400, "invalid request")),
        "http_401": Misdeed(kind="submit", answer=refusal(401, message="invalid API key")),
        "http_402": Misdeed(kind="submit", answer=refusal(402, "payment_required", 402, "insufficient balance")),
        "http_403": Misdeed(kind="submit", answer=refusal(403, "permission_error", 403, "not for this key")),
        "http_429": Misdeed(kind="submit", answer=refusal(429, "rate_limit_error", 429, "slow down", retry_after="1")),
        "http_500": Misdeed(kind="submit", answer=refusal(500, code="get_channel_failed", message="try again later")),
        "http_502_html": Misdeed(kind="submit", answer=HTML),
        "http_503": Misdeed(kind="submit", answer=refusal(503, "service_unavailable", 503, "try again later")),
        "drop_before": Misdeed(kind="submit", answer=_GONE),
        "drop_after": Misdeed(kind="submit", answer=_GONE, is_accepted=True),
        "http_500_after": Misdeed(kind="submit", answer=refusal(500), is_accepted=True),
        "hang_submit": Misdeed(
            kind="submit", answer=TransportTimeout("no answer within 120 s"), is_accepted=True, hangs=120.0
        ),
        "http_401_check": Misdeed(kind="check", answer=refusal(401, message="invalid API key")),
        "http_429_check": Misdeed(kind="check", answer=refusal(429, "rate_limit_error", 429, "slow down")),
        "http_500_check": Misdeed(kind="check", answer=refusal(500)),
        "http_502_check": Misdeed(kind="check", answer=HTML),
        "drop_check": Misdeed(kind="check", answer=_GONE),
        "hang_check": Misdeed(kind="check", answer=TransportTimeout("no answer within 20 s"), hangs=20.0),
        "cut_download": Misdeed(kind="clip", cut=True),
        "stall_download": Misdeed(kind="clip", stalls=True),
        "expired_link": Misdeed(kind="clip", answer=reply(403, b"")),
        "html_clip": Misdeed(kind="clip", answer=reply(200, HTML.body)),
        "http_500_clip": Misdeed(kind="clip", answer=reply(500, b"")),
    }
)
