"""What each fault does to a submit, a check or an upload. Used by the endpoints; `faults` decides when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .malformed import malformed
from .replies import (
    ConnectionDropped,
    ErrorReply,
    bad_gateway,
    error_reply,
    error_with_code,
    invalid_key,
    model_without_channel,
    observed_error,
    parameter_error,
    quota_error,
    rate_limited,
    unknown_model,
)
from .submit_body import model_named_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from .state import SandboxState


# Seconds by which `slow_check` delays a response: clearly later than a normal one, and far below any client's timeout.
# The table of faults promises one second.
SLOW_CHECK_DELAY = 1.0


def _error_in_200(state: SandboxState) -> ErrorReply:
    if state.fault_injector.coin_flip("error_in_200"):
        return ErrorReply(200, {"code": 429, "message": "too many requests, please try again later"})
    return ErrorReply(200, {"success": False, "message": "system busy, please try again later"})


ERROR_REPLIES: dict[str, Callable[[SandboxState], ErrorReply]] = {
    "http_400": lambda _: error_reply(400, "invalid request parameters"),
    "http_400_empty_code": lambda _: parameter_error("invalid aspect_ratio: 4:3, allowed: 16:9, 9:16"),
    "http_401": lambda _: invalid_key(),
    "http_402": lambda _: error_reply(402, "insufficient account balance, please top up and try again"),
    "http_403": lambda _: error_reply(403, "this API key may not use this model"),
    "http_403_key_quota": lambda _: quota_error(
        "pre_consume_token_quota_failed", "token quota is not enough, token remain quota: $0.020, need quota: $0.880"
    ),
    "http_403_account_quota": lambda _: quota_error(
        "insufficient_user_quota", "the user's quota is not enough, remaining quota: $0.020"
    ),
    "http_429_body": lambda _: rate_limited(members={"retry_after": 1}),
    "http_429": lambda state: state.too_many_requests(1.0),
    "http_500": lambda _: observed_error(500, "get_channel_failed", "please wait and try again later"),
    "http_500_parameter": lambda _: observed_error(
        500, "build_request_failed", "build_request_failed: invalid size: 4:3 allowed: 16:9, 9:16"
    ),
    "http_502_html": lambda _: bad_gateway(),
    "http_503": lambda _: error_reply(503, "service unavailable, please try again later"),
    "balance_in_200": lambda _: ErrorReply(200, {"code": 605, "msg": "NOT_ENOUGH_BALANCE"}),
    "idempotency_unavailable": lambda _: error_with_code(
        503, "idempotency_unavailable", "the request was not executed"
    ),
    "idempotency_in_progress": lambda _: error_with_code(
        409, "idempotency_in_progress", "the first request is still being handled", {"Retry-After": "1"}
    ),
    "idempotency_indeterminate": lambda _: error_with_code(
        409, "idempotency_result_indeterminate", "the result of the first request is not known"
    ),
    "error_in_200": _error_in_200,
    "http_401_check": lambda _: invalid_key(),
    "http_403_check": lambda _: error_reply(403, "this API key may not see this task"),
    "http_429_check": lambda state: state.too_many_requests(1.0),
    "http_500_check": lambda _: error_reply(500, "internal server error"),
    "http_502_check": lambda _: bad_gateway(),
    "not_found_check": lambda state: (
        error_reply(404, "task not found")
        if state.fault_injector.coin_flip("not_found_check")
        else error_reply(400, "invalid task id")
    ),
    "http_400_upload": lambda _: ErrorReply(
        400, {"error": {"message": "invalid image content", "type": "invalid_request_error"}}
    ),
    "http_401_upload": lambda _: invalid_key(),
    "http_402_upload": lambda _: error_reply(402, "insufficient account balance, please top up and try again"),
    "http_429_upload": lambda state: state.too_many_requests(1.0),
    "http_500_upload": lambda _: ErrorReply(
        500, {"error": {"message": "failed to upload image", "type": "server_error"}}
    ),
}
MODEL_REPLIES: dict[str, Callable[[str], ErrorReply]] = {  # by the model that the submit names
    "http_404_model": unknown_model,
    "http_503_model": model_without_channel,
}
DROPPED_CONNECTIONS = ("drop_before", "drop_check", "drop_upload")


def raise_for_fault(state: SandboxState, fault: str | None) -> None:
    """Raise the reply that a fault sends instead of the right one; do nothing for other faults and None."""
    if fault in DROPPED_CONNECTIONS:
        raise ConnectionDropped
    if fault in ERROR_REPLIES:
        raise ERROR_REPLIES[fault](state)


async def before_acceptance(state: SandboxState, fault: str | None, request: web.Request, other_origin: str) -> None:
    """Apply a fault that keeps a submit from being accepted. `other_origin` is the target of a redirect."""
    if fault == "redirect_submit":
        location = {"Location": f"{other_origin}/v1/videos/generations"}
        raise ErrorReply(307, {"message": "temporary redirect"}, location)
    if fault in MODEL_REPLIES:
        raise MODEL_REPLIES[fault](model_named_in(await request.read()))
    raise_for_fault(state, fault)


async def after_acceptance(
    state: SandboxState, fault: str | None, request: web.Request, response: web.Response
) -> web.StreamResponse:
    """Return the response to an accepted submit, changed or withheld by the fault."""
    if fault == "drop_after":
        raise ConnectionDropped
    if fault == "hang_submit":
        await state.hang(request)
    if fault == "http_500_after":
        raise observed_error(500, "get_channel_failed", "please wait and try again later")
    return await malformed(fault, request, response)


async def before_check(state: SandboxState, fault: str | None, request: web.Request) -> None:
    """Apply a fault that delays, withholds or replaces the response to a check."""
    if fault == "hang_check":
        await state.hang(request)
    if fault == "slow_check":
        await asyncio.sleep(SLOW_CHECK_DELAY)
    raise_for_fault(state, fault)
