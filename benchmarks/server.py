"""A process with sandboxes, one account each, that also speak the protocol of the `openai` package.

Reads one line of JSON, a list of settings, and writes one, a list of addresses. Ends when stdin is closed, as it is
when the parent process ends. Used by `comparison`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.openai_server import OpenAIServer
from omni_async.sandbox import Sandbox


async def _serve() -> None:
    line = await asyncio.to_thread(sys.stdin.readline)
    await _render_clip()
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        addresses = [await _open(stack, session, settings) for settings in json.loads(line)]
        print(json.dumps(addresses), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _open(stack: AsyncExitStack, session: aiohttp.ClientSession, settings: dict[str, Any]) -> dict[str, str]:
    sandbox = await stack.enter_async_context(Sandbox(**settings))
    runner = web.AppRunner(OpenAIServer(sandbox.base_url, session).application(), access_log=None, shutdown_timeout=0.5)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    openai_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    return {"base_url": sandbox.base_url, "openai_url": openai_url, "api_key": sandbox.api_key}


async def _render_clip() -> None:
    """Render the clip that all tasks of all sandboxes of this process share, before anything is measured."""
    async with Sandbox(prerendered=True, median=0.0) as sandbox, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        body = {"model": "gemini-omni-flash-preview", "prompt": "x"}
        async with session.post(f"{sandbox.base_url}/v1/videos/generations", json=body, headers=headers) as response:
            response.raise_for_status()
        while not any(task.completed for task in sandbox.record.tasks.values()):
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(_serve())
