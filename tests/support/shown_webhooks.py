"""What each fault of a webhook must look like to a client."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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
