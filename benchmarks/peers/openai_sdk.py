"""The published `openai` package: `videos.create_and_poll` and `download_content`, with enough retries to finish."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from openai import AsyncOpenAI

if TYPE_CHECKING:
    from benchmarks.peers.assignment import Assignment


async def _run(assignment: Assignment) -> None:
    semaphore = asyncio.Semaphore(assignment.concurrency)

    async def make_clip(number: int, prompt: str) -> None:
        async with semaphore:
            video = await client.videos.create_and_poll(prompt=prompt, model="sora-2")
            clip = await client.videos.download_content(video.id)
            clip.write_to_file(assignment.path(number))

    async with AsyncOpenAI(base_url=assignment.openai_url, api_key=assignment.api_key, max_retries=1000) as client:
        await asyncio.gather(*(make_clip(number, prompt) for number, prompt in enumerate(assignment.prompts())))


def run(assignment: Assignment) -> None:
    """Generate the clips."""
    asyncio.run(_run(assignment))
