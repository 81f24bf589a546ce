"""A program that makes a batch of clips, started by the crash tests as a process of its own, to be killed.

It takes its orders as one JSON object and tells how each job ended as one JSON object on its last line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from omni_async import Limits, OmniClient, Polling, Retry


async def main(orders: dict[str, Any]) -> dict[str, Any]:
    """Submit all, wait for all, and give `{key: [status, error class, error]}` and the sum of submits."""
    retry = Retry(wait_initial=0.05, wait_max=0.5, ambiguous=orders.get("ambiguous", "retry"))
    polling = Polling(min_interval=0.2, max_interval=1.0)
    client = OmniClient(
        "sk-driver",
        base_url=orders["base_url"],
        output_dir=orders["folder"],
        limits=Limits(submits_per_minute=orders.get("per_minute")),
        retry=retry,
        polling=polling,
    )
    if orders.get("webhook"):
        client.webhook(orders["webhook"])
    async with client:
        jobs = [client.submit(f"clip {number}", key=f"k{number:03}") for number in range(orders["jobs"])]
        print("begun", flush=True)  # noqa: T201 - for whoever is to kill it
        jobs += [jobs[number].extend(f"and {number}", key=f"e{number:03}") for number in range(orders["chains"])]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        submits = client.statistics().submits
    ended = {
        job.key: [str(job.status), type(outcome).__name__, str(outcome)]
        for job, outcome in zip(jobs, outcomes, strict=True)
    }
    return {"ended": ended, "submits": submits}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))) + "\n")
