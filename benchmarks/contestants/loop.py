"""The least CPU possible: a bare aiohttp loop that makes so many requests of each kind, and waits for nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.contestants.order import Order

_WIDTH = 16


async def _run(order: Order) -> None:
    headers = {"Authorization": f"Bearer {order.api_key}"}
    task_ids: list[str] = []

    async def submit(number: int) -> None:
        body = {"model": "gemini-omni-flash-preview", "prompt": f"clip {number}"}
        async with session.post(f"{order.base_url}/v1/videos/generations", json=body) as answer:
            task_ids.append((await answer.json())["data"][0]["task_id"])

    async def check(number: int) -> None:
        async with session.get(f"{order.base_url}/v1/tasks/{task_ids[number % len(task_ids)]}") as answer:
            task = (await answer.json())["data"]
        if task["status"] == "completed":
            links[task["id"]] = task["result"]["videos"][0]["url"][0]

    async def download(number: int) -> None:
        link = links[task_ids[number]]
        async with session.get(link, headers={"Authorization": ""}) as answer:
            order.path(number).write_bytes(await answer.read())

    links: dict[str, str] = {}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        await _repeat(submit, order.jobs)
        await asyncio.sleep(0.5)  # the sandbox gives each task no time at all
        await _repeat(check, order.checks)
        await _repeat(download, order.jobs)


async def _repeat(what: Callable[[int], Awaitable[None]], times: int) -> None:
    numbers = iter(range(times))

    async def work() -> None:
        for number in numbers:
            await what(number)

    await asyncio.gather(*(work() for _ in range(_WIDTH)))


def run(order: Order) -> None:
    """Make the requests."""
    asyncio.run(_run(order))
