"""Be notified when a clip is done: python examples/webhooks.py PUBLIC_URL [PORT].

The server calls PUBLIC_URL when a task ends, so few status requests are needed. PUBLIC_URL must lead (through a proxy
or a tunnel) to the same path on PORT of this machine, by default 8080. With a sandbox on this machine, use
http://127.0.0.1:8080/omni.
"""

import asyncio
import sys

from aiohttp import web
from yarl import URL

from omni_async import OmniClient

PROMPTS = ["a lighthouse at dusk", "a paper boat in the rain", "a cat that reads a newspaper"]


async def main(public_url: str, port: int) -> None:
    client = OmniClient(output_dir="clips")
    app = web.Application()
    app.add_subapp(URL(public_url).path, client.webhook(public_url))
    runner = web.AppRunner(app, access_log=None)  # an access log would contain the secret part of the webhook URL
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        async with client:
            async for job in client.as_completed(PROMPTS):
                print(await job)
            print(f"{len(PROMPTS)} clips, {client.statistics().checks} checks")
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8080))
