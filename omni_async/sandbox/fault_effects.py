"""What each fault of a submit or a check does when it hits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from .replies import ConnectionDropped, ErrorReply, bad_gateway, error_reply, error_with_code, observed_error
from .state import invalid_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from .state import SandboxState


HTML_PAGE = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"
LATE = 1.0


def _in_200(stage: SandboxState) -> ErrorReply:
    if stage.fault_injector.coin_flip("error_in_200"):
        return ErrorReply(200, {"code": 429, "message": "too many requests, please try again later"})
    return ErrorReply(200, {"success": False, "message": "system busy, please try again later"})


ANSWERS: dict[str, Callable[[SandboxState], ErrorReply]] = {
    "http_400": lambda _: error_reply(400, "invalid request parameters"),
    "http_401": lambda _: invalid_key(),
    "http_402": lambda _: error_reply(402, "insufficient account balance, please top up and try again"),
    "http_403": lambda _: error_reply(403, "this API key may not use this model"),
    "http_429": lambda stage: stage.too_many_requests(1.0),
    "http_500": lambda _: observed_error(500, "get_channel_failed", "please wait and try again later"),
    "http_500_parameter": lambda _: observed_error(
        500, "build_request_failed", "build_request_failed: invalid size: 4:3 allowed: 16:9, 9:16"
    ),
    "http_502_html": lambda _: bad_gateway(),
    "http_503": lambda _: error_reply(503, "service unavailable, please try again later"),
    "idempotency_unavailable": lambda _: error_with_code(
        503, "idempotency_unavailable", "the request was not executed"
    ),
    "idempotency_in_progress": lambda _: error_with_code(
        409, "idempotency_in_progress", "the first request is still being handled", {"Retry-After": "1"}
    ),
    "idempotency_indeterminate": lambda _: error_with_code(
        409, "idempotency_result_indeterminate", "the result of the first request is not known"
    ),
    "error_in_200": _in_200,
    "http_401_check": lambda _: invalid_key(),
    "http_403_check": lambda _: error_reply(403, "this API key may not see this task"),
    "http_429_check": lambda stage: stage.too_many_requests(1.0),
    "http_500_check": lambda _: error_reply(500, "internal server error"),
    "http_502_check": lambda _: bad_gateway(),
    "html_check": lambda _: ErrorReply(200, HTML_PAGE),
    "not_found_check": lambda stage: (
        error_reply(404, "task not found")
        if stage.fault_injector.coin_flip("not_found_check")
        else error_reply(400, "invalid task id")
    ),
    "http_400_upload": lambda _: ErrorReply(
        400, {"error": {"message": "invalid image content", "type": "invalid_request_error"}}
    ),
    "http_401_upload": lambda _: invalid_key(),
    "http_402_upload": lambda _: error_reply(402, "insufficient account balance, please top up and try again"),
    "http_429_upload": lambda stage: stage.too_many_requests(1.0),
    "http_500_upload": lambda _: ErrorReply(
        500, {"error": {"message": "failed to upload image", "type": "server_error"}}
    ),
}
DROPS = ("drop_before", "drop_check", "drop_upload")


def instead(stage: SandboxState, fault: str | None) -> None:
    """Raise what a fault answers instead of the right answer, if it does."""
    if fault in DROPS:
        raise ConnectionDropped
    if fault in ANSWERS:
        raise ANSWERS[fault](stage)


async def before_accepting(stage: SandboxState, fault: str | None, elsewhere: str) -> None:
    """What a fault does to a submit that must not be accepted."""
    if fault == "redirect_submit":
        location = {"Location": f"{elsewhere}/v1/videos/generations"}
        raise ErrorReply(307, {"message": "temporary redirect"}, location)
    instead(stage, fault)


async def after_accepting(
    stage: SandboxState, fault: str | None, request: web.Request, reply: web.Response
) -> web.Response:
    """What a fault does to the reply of a submit that was accepted."""
    if fault == "drop_after":
        raise ConnectionDropped
    if fault == "hang_submit":
        await stage.hang(request)
    if fault == "http_500_after":
        raise observed_error(500, "get_channel_failed", "please wait and try again later")
    return broken_off(reply) if fault == "garbage_json" else reply


async def to_check(stage: SandboxState, fault: str | None, request: web.Request) -> None:
    """What a fault does to a check before it is answered."""
    if fault == "hang_check":
        await stage.hang(request)
    if fault == "slow_check":
        await asyncio.sleep(LATE)
    instead(stage, fault)


def spoiled(fault: str | None, reply: web.Response) -> web.Response:
    """The answer to a check, broken off if the fault is that."""
    return broken_off(reply) if fault == "garbage_check" else reply


def broken_off(reply: web.Response) -> web.Response:
    """The first half of a JSON reply, as if it were all."""
    text = reply.text or ""
    return web.Response(text=text[: len(text) // 2], content_type="application/json")
