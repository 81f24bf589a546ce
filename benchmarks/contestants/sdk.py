"""`AsyncOpenAI().videos.create_and_poll` and `download_content` of the published package, with retries to the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from openai import AsyncOpenAI

if TYPE_CHECKING:
    from benchmarks.contestants.order import Order


async def _run(order: Order) -> None:
    semaphore = asyncio.Semaphore(order.at_once)

    async def one(number: int, prompt: str) -> None:
        async with semaphore:
            video = await client.videos.create_and_poll(prompt=prompt, model="sora-2")
            clip = await client.videos.download_content(video.id)
            clip.write_to_file(order.path(number))

    async with AsyncOpenAI(base_url=order.openai_url, api_key=order.api_key, max_retries=1000) as client:
        await asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(order.prompts())))


def run(order: Order) -> None:
    """Make the clips."""
    asyncio.run(_run(order))
