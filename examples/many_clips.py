"""Many prompts, each clip reported when it is done: python examples/many_clips.py [NUMBER]."""

import asyncio
import sys
from collections.abc import Iterator

from omni_async import OmniClient, OmniError, VideoRequest

ANIMALS = ("an otter", "a heron", "a fox", "a hedgehog", "a salmon", "an owl")
PLACES = ("a misty river", "a snowy forest", "a city rooftop at dusk", "a meadow in spring")


def requests(number: int) -> Iterator[VideoRequest]:
    """Yield requests one by one. The client takes the next one when another is done."""
    for index in range(number):
        animal, place = ANIMALS[index % len(ANIMALS)], PLACES[index % len(PLACES)]
        yield VideoRequest(
            prompt=f"{animal} at {place}, take {index + 1}, single continuous shot",
            aspect_ratio="9:16" if index % 2 else "16:9",
        )


async def main(number: int) -> None:
    async with OmniClient(output_dir="clips") as client:
        async for job in client.as_completed(requests(number), max_pending=100):
            try:
                print(await job)
            except OmniError as error:
                print(f"no clip: {error}")
        totals = client.statistics()
        print(f"{totals.completed} clips, {totals.failed} failed, {totals.cost:.2f} USD")


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 12))
