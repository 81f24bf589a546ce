"""A program that makes a batch of clips. The crash tests start it as a process of its own and kill it.

It gets its options as one JSON object, and prints the outcome of each job as one JSON object on its last line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from omni_async import Limits, OmniClient, Polling, Retry


async def main(options: dict[str, Any]) -> dict[str, Any]:
    """Submit all jobs and wait for them. Return `{key: [status, class of the outcome, outcome]}` and the submits."""
    retry = Retry(wait_initial=0.05, wait_max=0.5, ambiguous=options.get("ambiguous", "auto"))
    polling = Polling(min_interval=0.2, max_interval=1.0)
    client = OmniClient(
        "sk-driver",
        base_url=options["base_url"],
        output_dir=options["folder"],
        limits=Limits(submits_per_minute=options.get("per_minute")),
        retry=retry,
        polling=polling,
    )
    if options.get("webhook"):
        client.webhook(options["webhook"])
    async with client:
        jobs = [client.submit(f"clip {number}", key=f"k{number:03}") for number in range(options["jobs"])]
        print("begun", flush=True)  # noqa: T201 - the crash test waits for this line
        jobs += [jobs[number].extend(f"and {number}", key=f"e{number:03}") for number in range(options["chains"])]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        submits = client.statistics().submits
    ended = {
        job.key: [str(job.status), type(outcome).__name__, str(outcome)]
        for job, outcome in zip(jobs, outcomes, strict=True)
    }
    return {"ended": ended, "submits": submits}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))) + "\n")
