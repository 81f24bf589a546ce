"""What each fault of a webhook looks like to a client, and a server that receives webhook calls."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


# How often a finished task is posted to a receiver that answers every call with a 2xx.
WEBHOOK_FAULTS = {"lost_webhook": 0, "late_webhook": 1, "twice_webhook": 2}


@asynccontextmanager
async def webhook_server(statuses: list[int]) -> AsyncIterator[tuple[str, asyncio.Queue[dict[str, Any]]]]:
    """Receive webhook calls and answer them with these statuses in turn; the last one is repeated.

    Yields the base URL and a queue of the bodies received.
    """
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def callback(request: web.Request) -> web.Response:
        received.put_nowait(await request.json())
        return web.Response(status=statuses.pop(0) if len(statuses) > 1 else statuses[0])

    app = web.Application()
    app.router.add_post("/webhook/callback", callback)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/webhook/", received
    finally:
        await runner.cleanup()
