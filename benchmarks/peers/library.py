"""The library itself, used as its README shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import omni_async.api.http  # noqa: F401 - so that aiohttp is imported before the start, as it is for the other programs
from omni_async import Limits, OmniClient

if TYPE_CHECKING:
    from benchmarks.peers.assignment import Assignment


async def _run(assignment: Assignment) -> None:
    client = OmniClient(
        assignment.api_key,
        base_url=assignment.base_url,
        output_dir=assignment.folder,
        limits=Limits(**assignment.limits),
        **({} if assignment.has_ledger else {"ledger": None}),
    )
    async with client:
        jobs = [client.submit(prompt, key=str(number)) for number, prompt in enumerate(assignment.prompts())]
        await asyncio.gather(*jobs)


def run(assignment: Assignment) -> None:
    """Generate the clips."""
    asyncio.run(_run(assignment))
