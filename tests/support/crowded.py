"""A program that runs forty jobs and listens, and prints the ports on which it does, then how the run went, as JSON.

Its argument is JSON: `base_url`, `api_key`, `folder`, `limit` (of open files) and `sandbox`. With the last, it serves a
sandbox instead, until it is stopped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import sys
from pathlib import Path
from typing import Any

from omni_async import OmniClient
from omni_async.gallery import LivePage
from omni_async.sandbox import Sandbox

JOBS = 40


async def main(options: dict[str, Any]) -> None:
    """Run the jobs and print the result."""
    folder = Path(options["folder"], "clips")
    live = LivePage(folder / "ledger.db", port=0)
    settings = {"base_url": options["base_url"], "output_dir": folder}
    async with (
        OmniClient(options["api_key"], **settings, on_event=live.on_event) as client,
        live.serve(client, total=JOBS) as address,
    ):
        webhook_port = await client.serve_webhook("http://127.0.0.1:9/omni", port=0)
        _print({"live page": int(address.rstrip("/").rpartition(":")[2]), "webhook": webhook_port})
        await asyncio.sleep(1.0)  # the crowd comes
        loop = asyncio.get_running_loop()
        since = loop.time()
        done = await asyncio.gather(*(client.submit(f"prompt {n}") for n in range(JOBS)), return_exceptions=True)
        seconds = loop.time() - since
    result = {
        "completed": sum(isinstance(outcome, Path) for outcome in done),
        "seconds": seconds,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    _print(result)


async def serve() -> None:
    """Serve a sandbox."""
    async with Sandbox(median=1.0, prerendered=True) as sandbox:
        _print({"base_url": sandbox.base_url, "cdn_url": sandbox.cdn_url, "api_key": sandbox.api_key})
        await asyncio.Event().wait()


def _print(values: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(values)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("omni_async").setLevel(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_NOFILE, (given["limit"], given["limit"]))
    asyncio.run(serve() if given.get("sandbox") else main(given))
