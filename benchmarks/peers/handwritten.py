"""A good handwritten program: aiohttp, gather, a semaphore, full-jitter backoff, a check every 5 s, no ledger."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.assignment import Assignment

# Seconds between checks of a job: half doubles the checks and notices the end 1.25 s earlier on average, double halves
# them and notices it 2.5 s later. The API's pages advise 5 to 10 s.
CHECK_INTERVAL = 5.0
MAX_PAUSE = 60.0  # seconds; each pause is drawn between zero and a limit that doubles up to this


async def submit(session: aiohttp.ClientSession, base_url: str, prompt: str) -> str:
    """Submit a prompt until it is accepted, and return its task id."""
    body = {"model": "gemini-omni-flash-preview", "prompt": prompt}
    for attempt in count():
        async with session.post(f"{base_url}/v1/videos/generations", json=body) as response:
            if response.status == 200:
                task_id: str = (await response.json())["data"][0]["task_id"]
                return task_id
            if response.status != 429:
                response.raise_for_status()
        await asyncio.sleep(random.uniform(0, min(MAX_PAUSE, 2**attempt)))
    raise AssertionError


async def wait(session: aiohttp.ClientSession, base_url: str, task_id: str) -> str:
    """Poll a task until it is done, and return the URL of its clip."""
    while True:
        await asyncio.sleep(CHECK_INTERVAL)
        async with session.get(f"{base_url}/v1/tasks/{task_id}") as response:
            response.raise_for_status()
            task: dict[str, Any] = (await response.json())["data"]
        if task["status"] == "completed":
            url: str = task["result"]["videos"][0]["url"][0]
            return url
        if task["status"] == "failed":
            raise RuntimeError(task["error"])


async def _download(session: aiohttp.ClientSession, url: str, path: Path) -> None:
    async with session.get(url, headers={"Authorization": ""}) as response:
        response.raise_for_status()
        with path.open("wb") as file:
            async for chunk in response.content.iter_chunked(1 << 16):
                file.write(chunk)


async def _run(assignment: Assignment) -> None:
    semaphore = asyncio.Semaphore(assignment.concurrency)
    headers = {"Authorization": f"Bearer {assignment.api_key}"}
    connector = aiohttp.TCPConnector(limit=0)

    async def make_clip(number: int, prompt: str) -> None:
        async with semaphore:
            task_id = await submit(session, assignment.base_url, prompt)
            url = await wait(session, assignment.base_url, task_id)
            await _download(session, url, assignment.path(number))

    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        await asyncio.gather(*(make_clip(number, prompt) for number, prompt in enumerate(assignment.prompts())))


def run(assignment: Assignment) -> None:
    """Generate the clips."""
    asyncio.run(_run(assignment))
