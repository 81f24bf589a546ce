"""Be notified when a clip is done: python examples/webhooks.py PUBLIC_URL [PORT].

The server calls PUBLIC_URL when a task ends, so few status requests are needed. PUBLIC_URL must lead (through a proxy
or a tunnel) to PORT of this machine, by default 8080. With a sandbox on this machine, use
http://127.0.0.1:8080/omni.
"""

import asyncio
import sys

from omni_async import OmniClient

PROMPTS = ["a lighthouse at dusk", "a paper boat in the rain", "a cat that reads a newspaper"]


async def main(public_url: str, port: int) -> None:
    async with OmniClient(output_dir="clips") as client:
        await client.serve_webhook(public_url, port=port)
        async for job in client.as_completed(PROMPTS):
            print(await job)
        print(f"{len(PROMPTS)} clips, {client.statistics().checks} checks")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8080))
