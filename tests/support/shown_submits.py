"""What each fault of a submit must look like to a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.support.talk import Talk

SLOW = 0.3  # seconds after which a test calls a server silent


def refused(status: int, words: str) -> Callable[[Talk], Awaitable[None]]:
    """Shows that a submit is answered so, and makes no task."""

    async def show(talk: Talk) -> None:
        answer = await talk.submit(key="one")
        assert answer.status == status
        assert words in answer.body.decode()
        assert talk.sandbox.record.accepted == 0
        assert talk.sandbox.record.refused == {status: 1}

    return show


async def dropped_before(talk: Talk) -> None:
    """The connection closes, and no task is made."""
    with pytest.raises(aiohttp.ClientError):
        await talk.submit()
    assert (talk.sandbox.record.submits, talk.sandbox.record.accepted) == (1, 0)


async def redirected(talk: Talk) -> None:
    """The POST is sent elsewhere, to a third origin, and no task is made."""
    answer = await talk.submit()
    assert answer.status == 307
    target = answer.headers["Location"]
    assert not target.startswith((talk.sandbox.base_url, talk.sandbox.cdn_url))
    assert (await talk.fetch(target, method="POST", json={})).status == 403
    record = talk.sandbox.record
    assert (record.accepted, record.redirected_submits, record.redirected_keys) == (0, 1, 0)


async def error_in_200(talk: Talk) -> None:
    """Both kinds of error come under 200, and no task is made."""
    answers = [await talk.submit(str(number)) for number in range(12)]
    assert {answer.status for answer in answers} == {200}
    assert {answer.json.get("code", answer.json.get("success")) for answer in answers} == {429, False}
    assert talk.sandbox.record.accepted == 0
    assert "data" not in (await talk.check("task_x")).json


def accepted_though(status: int) -> Callable[[Talk], Awaitable[None]]:
    """Shows that the answer is not that of an accepted submit, but a task is made; the key brings its id."""

    async def show(talk: Talk) -> None:
        answer = await talk.submit(key="one")
        assert answer.status == status
        await _is_made(talk)
        if status == 200:
            with pytest.raises(ValueError):
                _ = answer.json

    return show


async def _is_made(talk: Talk) -> None:
    assert talk.sandbox.record.accepted == 1
    talk.sandbox.script("submit", [None])
    again = await talk.submit(key="one")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json["data"][0]["task_id"] == next(iter(talk.sandbox.record.tasks))


async def dropped_after(talk: Talk) -> None:
    """The connection closes, but the task is made."""
    with pytest.raises(aiohttp.ClientError):
        await talk.submit(key="one")
    await _is_made(talk)


async def hangs(talk: Talk) -> None:
    """No answer comes, but the task is made."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(talk.submit(key="one"), SLOW)
    await _is_made(talk)


SUBMITS: dict[str, Callable[[Talk], Awaitable[None]]] = {
    "http_400": refused(400, "invalid_request_error"),
    "http_401": refused(401, "invalid API key (request id: "),
    "http_402": refused(402, "payment_required"),
    "http_403": refused(403, "permission_error"),
    "http_429": refused(429, "rate_limit_error"),
    "http_500": refused(500, "get_channel_failed"),
    "http_500_parameter": refused(500, "build_request_failed: invalid size"),
    "http_502_html": refused(502, "<h1>502 Bad Gateway</h1>"),
    "http_503": refused(503, "service_unavailable"),
    "idempotency_unavailable": refused(503, "idempotency_unavailable"),
    "idempotency_in_progress": refused(409, "idempotency_in_progress"),
    "idempotency_indeterminate": refused(409, "idempotency_result_indeterminate"),
    "drop_before": dropped_before,
    "redirect_submit": redirected,
    "error_in_200": error_in_200,
    "drop_after": dropped_after,
    "http_500_after": accepted_though(500),
    "garbage_json": accepted_though(200),
    "hang_submit": hangs,
}
