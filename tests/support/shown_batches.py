"""What each fault of a check of many tasks, and of a webhook, must look like to a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.talk import Answer, Talk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def checked(talk: Talk, task_ids: list[str]) -> Answer:
    """Ask about many tasks."""
    return await talk.call("POST", "/v1/tasks/batch", json={"task_ids": task_ids})


def answered(status: int, words: str) -> Callable[[Talk, list[str]], Awaitable[None]]:
    """Shows that a batch check is answered so."""

    async def show(talk: Talk, task_ids: list[str]) -> None:
        answer = await checked(talk, task_ids)
        assert answer.status == status
        assert words in answer.body.decode()

    return show


async def dropped(talk: Talk, task_ids: list[str]) -> None:
    """The connection closes."""
    with pytest.raises(aiohttp.ClientError):
        await checked(talk, task_ids)


async def odd(talk: Talk, task_ids: list[str]) -> None:
    """The words are keyed by id."""
    assert list((await checked(talk, task_ids)).json["data"]) == task_ids


async def missing(talk: Talk, task_ids: list[str]) -> None:
    """Every other task is there."""
    assert [each["id"] for each in (await checked(talk, task_ids)).json["data"]] == task_ids[::2]


async def foreign(talk: Talk, task_ids: list[str]) -> None:
    """One is there that was not asked for."""
    named = {each["id"] for each in (await checked(talk, task_ids)).json["data"]}
    assert named > set(task_ids)


BATCHES: dict[str, Callable[[Talk, list[str]], Awaitable[None]]] = {
    "http_404_batch": answered(404, "not found"),
    "http_429_batch": answered(429, "too many requests"),
    "http_502_batch": answered(502, "<html>"),
    "drop_batch": dropped,
    "odd_batch": odd,
    "missing_batch": missing,
    "foreign_batch": foreign,
}

# How often a finished task is posted to an address that takes every call.
HOOKS = {"lost_webhook": 0, "late_webhook": 1, "twice_webhook": 2}


@asynccontextmanager
async def listening(answers: list[int]) -> AsyncIterator[tuple[str, asyncio.Queue[dict[str, Any]]]]:
    """Take calls under an address, and answer with these statuses in turn, the last of them for ever."""
    got: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def callback(request: web.Request) -> web.Response:
        got.put_nowait(await request.json())
        return web.Response(status=answers.pop(0) if len(answers) > 1 else answers[0])

    app = web.Application()
    app.router.add_post("/hook/callback", callback)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook/", got
    finally:
        await runner.cleanup()
