"""One prompt, one clip: python examples/one_clip.py "a red apple on a wooden table"."""

import asyncio
import sys

from omni_async import OmniClient


async def main(prompt: str) -> None:
    async with OmniClient(output_dir="clips") as client:  # the API key comes from APIMART_API_KEY
        job = client.submit(prompt)
        print(f"{prompt!r} was accepted as task {await job.accepted()}")
        path = await job
        print(f"{path}: {path.stat().st_size:,} bytes, {job.cost} USD")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "a red apple on a wooden table, short cinematic clip"))
