"""A lower bound of CPU: a bare aiohttp loop that makes the same number of requests of each kind, without waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.peers.assignment import Assignment

# Requests in progress: enough that the loop never waits for a response while it could work. Chosen, not measured.
_CONCURRENCY = 16


async def _run(assignment: Assignment) -> None:
    headers = {"Authorization": f"Bearer {assignment.api_key}"}
    task_ids: list[str] = []

    async def submit(number: int) -> None:
        body = {"model": "gemini-omni-flash-preview", "prompt": f"clip {number}"}
        async with session.post(f"{assignment.base_url}/v1/videos/generations", json=body) as response:
            task_ids.append((await response.json())["data"][0]["task_id"])

    async def check(number: int) -> None:
        async with session.get(f"{assignment.base_url}/v1/tasks/{task_ids[number % len(task_ids)]}") as response:
            task = (await response.json())["data"]
        if task["status"] == "completed":
            urls[task["id"]] = task["result"]["videos"][0]["url"][0]

    async def download(number: int) -> None:
        url = urls[task_ids[number]]
        async with session.get(url, headers={"Authorization": ""}) as response:
            assignment.path(number).write_bytes(await response.read())

    urls: dict[str, str] = {}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        await _repeat(submit, assignment.jobs)
        await asyncio.sleep(0.5)  # its sandbox finishes tasks immediately: all are done by then
        await _repeat(check, assignment.checks)
        await _repeat(download, assignment.jobs)


async def _repeat(request: Callable[[int], Awaitable[None]], times: int) -> None:
    numbers = iter(range(times))

    async def work() -> None:
        for number in numbers:
            await request(number)

    await asyncio.gather(*(work() for _ in range(_CONCURRENCY)))


def run(assignment: Assignment) -> None:
    """Generate the clips."""
    asyncio.run(_run(assignment))
