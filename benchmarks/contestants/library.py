"""This library, as its page tells to use it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from omni_async import Limits, OmniClient

if TYPE_CHECKING:
    from benchmarks.contestants.order import Order


async def _run(order: Order) -> None:
    client = OmniClient(
        order.api_key,
        base_url=order.base_url,
        output_dir=order.folder,
        limits=Limits(**order.limits),
        **({} if order.ledger else {"ledger": None}),
    )
    async with client:
        jobs = [client.submit(prompt, key=str(number)) for number, prompt in enumerate(order.prompts())]
        await asyncio.gather(*jobs)


def run(order: Order) -> None:
    """Make the clips."""
    asyncio.run(_run(order))
