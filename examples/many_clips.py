"""Many prompts, each clip shown as it is done: python examples/many_clips.py [NUMBER]."""

import asyncio
import sys
from collections.abc import Iterator

from omni_async import OmniClient, OmniError, VideoRequest

ANIMALS = ("an otter", "a heron", "a fox", "a hedgehog", "a salmon", "an owl")
PLACES = ("a misty river", "a snowy forest", "a city rooftop at dusk", "a meadow in spring")


def requests(number: int) -> Iterator[VideoRequest]:
    """Make requests one by one: the client takes them only as fast as clips are finished."""
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
        done = client.statistics()
        print(f"{done.completed} clips, {done.failed} failed, {done.cost:.2f} USD")


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 12))
