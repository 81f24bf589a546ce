"""A good program written by hand: aiohttp, gather, a semaphore, full-jitter backoff, a check every 5 s, no ledger."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.contestants.order import Order

CHECK_EVERY = 5.0
LONGEST_PAUSE = 60.0


async def submit(session: aiohttp.ClientSession, base_url: str, prompt: str) -> str:
    """Send one prompt until it is taken; give its task_id."""
    body = {"model": "gemini-omni-flash-preview", "prompt": prompt}
    for attempt in count():
        async with session.post(f"{base_url}/v1/videos/generations", json=body) as answer:
            if answer.status == 200:
                task_id: str = (await answer.json())["data"][0]["task_id"]
                return task_id
            if answer.status != 429:
                answer.raise_for_status()
        await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE, 2**attempt)))
    raise AssertionError


async def wait(session: aiohttp.ClientSession, base_url: str, task_id: str) -> str:
    """Look until it is done; give the link of its clip."""
    while True:
        await asyncio.sleep(CHECK_EVERY)
        async with session.get(f"{base_url}/v1/tasks/{task_id}") as answer:
            answer.raise_for_status()
            task: dict[str, Any] = (await answer.json())["data"]
        if task["status"] == "completed":
            url: str = task["result"]["videos"][0]["url"][0]
            return url
        if task["status"] == "failed":
            raise RuntimeError(task["error"])


async def _download(session: aiohttp.ClientSession, url: str, path: Path) -> None:
    async with session.get(url, headers={"Authorization": ""}) as answer:
        answer.raise_for_status()
        with path.open("wb") as file:
            async for chunk in answer.content.iter_chunked(1 << 16):
                file.write(chunk)


async def _run(order: Order) -> None:
    semaphore = asyncio.Semaphore(order.at_once)
    headers = {"Authorization": f"Bearer {order.api_key}"}
    connector = aiohttp.TCPConnector(limit=0)

    async def one(number: int, prompt: str) -> None:
        async with semaphore:
            task_id = await submit(session, order.base_url, prompt)
            url = await wait(session, order.base_url, task_id)
            await _download(session, url, order.path(number))

    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        await asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(order.prompts())))


def run(order: Order) -> None:
    """Make the clips."""
    asyncio.run(_run(order))
