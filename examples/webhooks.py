"""Clips that report themselves: python examples/webhooks.py PUBLIC_URL [PORT].

The server calls PUBLIC_URL when a clip is made, so it need hardly be asked. PUBLIC_URL has to lead (by a proxy, by a
tunnel) to the same path at PORT of this machine, 8080 if none is given. Against a sandbox on this machine,
http://127.0.0.1:8080/omni will do.
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
    runner = web.AppRunner(app, access_log=None)  # an access log would show the unguessable part of the address
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
