"""A program that runs forty jobs with a live page, and prints the page's address, then how the run went, as JSON.

Its argument is JSON: `base_url`, `api_key`, `folder` and `limit` (of open files).
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
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
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
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("omni_async").setLevel(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_NOFILE, (given["limit"], given["limit"]))
    asyncio.run(main(given))
