"""A program that runs a client, and takes every free file descriptor of its process for some seconds meanwhile.

Its argument is JSON: `base_url`, `api_key`, `folder`, `limit` (of open files), `taken_at` (when they are taken) and
`seconds`. It prints, as JSON, the outcome of each job and how many descriptors were taken.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
from pathlib import Path
from typing import Any

from omni_async import Job, JobEvent, OmniClient, Retry

JOBS = 6


class Shortage:
    """Takes all free file descriptors once, and gives them back after some seconds."""

    def __init__(self, taken_at: str, seconds: float) -> None:
        self.taken = 0
        self._taken_at = taken_at
        self._seconds = seconds

    def on_event(self, event: JobEvent) -> None:
        """Begin when the first job has the status at which to begin."""
        if event.status == self._taken_at:
            self.begin()

    def begin(self) -> None:
        """Take the descriptors, unless that was done before."""
        if self.taken:
            return
        held: list[int] = []
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            self.taken = len(held)
        for each in held:
            asyncio.get_running_loop().call_later(self._seconds, os.close, each)


async def main(options: dict[str, Any]) -> None:
    """Run `JOBS` jobs, half of them with a picture, and print the result."""
    await asyncio.get_running_loop().run_in_executor(None, int)  # a thread needs no descriptor, its first import may
    shortage = Shortage(options["taken_at"], options["seconds"])
    folder = Path(options["folder"])
    client = OmniClient(
        options["api_key"],
        base_url=options["base_url"],
        output_dir=folder / "clips",
        on_event=shortage.on_event,
        retry=Retry(timeout=options["seconds"] / 6, wait_max=0.5, wait_initial=0.1),
    )
    async with client:
        if options["taken_at"] == "start":
            shortage.begin()
        jobs = [client.submit(f"prompt {n}", images=[folder / f"{n}.png"] if n % 2 else []) for n in range(JOBS)]
        outcomes = await asyncio.gather(*map(_outcome, jobs))
    sys.stdout.write(json.dumps({"outcomes": outcomes, "taken": shortage.taken}))


async def _outcome(job: Job) -> str:
    try:
        await job
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "completed"


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    logging.basicConfig()
    resource.setrlimit(resource.RLIMIT_NOFILE, (given["limit"], given["limit"]))
    asyncio.run(main(given))
