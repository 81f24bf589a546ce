"""What each fault of a check must look like to a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.support.talk import Talk, link_of

SLOW = 0.3  # seconds after which a test calls a server silent


def answered(status: int, words: str) -> Callable[[Talk, str], Awaitable[None]]:
    """Shows that a check is answered so."""

    async def show(talk: Talk, task_id: str) -> None:
        answer = await talk.check(task_id)
        assert answer.status == status
        assert words in answer.body.decode()

    return show


async def check_dropped(talk: Talk, task_id: str) -> None:
    """The connection closes."""
    with pytest.raises(aiohttp.ClientError):
        await talk.check(task_id)


async def check_hangs(talk: Talk, task_id: str) -> None:
    """No answer comes."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(talk.check(task_id), SLOW)


async def check_is_late(talk: Talk, task_id: str) -> None:
    """The answer comes, but late."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(talk.check(task_id), SLOW)
    assert (await talk.check(task_id)).status == 200


async def check_is_garbage(talk: Talk, task_id: str) -> None:
    """The answer is no JSON."""
    answer = await talk.check(task_id)
    assert answer.status == 200
    with pytest.raises(ValueError):
        _ = answer.json


async def not_found_yet(talk: Talk, task_id: str) -> None:
    """A young task is not found, in two ways; an older one is."""
    statuses = {answer.status for answer in await asyncio.gather(*(talk.check(task_id) for _ in range(20)))}
    assert statuses == {400, 404}
    await asyncio.sleep(1.05)
    assert (await talk.check(task_id)).status == 200


async def odd_word(talk: Talk, task_id: str) -> None:
    """The status is no word that is known."""
    word = (await talk.check(task_id)).json["data"]["status"]
    assert word not in ("submitted", "pending", "queued", "processing", "in_progress", "completed", "failed")


async def other_case(talk: Talk, task_id: str) -> None:
    """The status is written in another case, to the end."""
    assert (await talk.check(task_id)).json["data"]["status"] in ("Pending", "Processing")
    async with asyncio.timeout(10):
        while (await talk.check(task_id)).json["data"]["status"] != "COMPLETED":
            await asyncio.sleep(0.05)


async def no_link_yet(talk: Talk, task_id: str) -> None:
    """The link is missing once."""
    assert "result" not in await talk.ended(task_id)
    talk.sandbox.script("check", [None])
    assert link_of((await talk.check(task_id)).json["data"])


CHECKS: dict[str, Callable[[Talk, str], Awaitable[None]]] = {
    "http_401_check": answered(401, "apimart_error"),
    "http_403_check": answered(403, "permission_error"),
    "http_429_check": answered(429, "rate_limit_error"),
    "http_500_check": answered(500, "server_error"),
    "http_502_check": answered(502, "<html>"),
    "html_check": answered(200, "<!DOCTYPE html>"),
    "garbage_check": check_is_garbage,
    "drop_check": check_dropped,
    "hang_check": check_hangs,
    "slow_check": check_is_late,
    "not_found_check": not_found_yet,
    "unknown_status": odd_word,
    "upper_status": other_case,
    "no_link": no_link_yet,
}
