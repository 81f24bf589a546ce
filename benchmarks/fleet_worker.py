"""One worker of the fleet in the benchmark `fleet`: `python -m benchmarks.fleet_worker`, with its settings on stdin.

Prints "ready" when everything is imported, works from the next line of stdin until nothing is left, and prints the
seconds of CPU that it used.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from omni_async import Limits
from omni_async.fleet import FleetWorker


def main() -> None:
    """Run the worker."""
    settings = json.loads(sys.stdin.readline())
    print("ready", flush=True)
    sys.stdin.readline()
    cpu = time.process_time()
    worker = FleetWorker(
        settings["database"],
        store=settings["store"],
        name=settings["name"],
        api_keys={"default": settings["api_key"]},
        base_url=settings["base_url"],
        limits=Limits(**settings["limits"]),
    )
    asyncio.run(worker.run(until_done=True))
    print(json.dumps({"cpu": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    main()
