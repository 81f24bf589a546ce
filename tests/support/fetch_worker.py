"""A worker that only downloads, in a process of its own: to be killed. Arguments: database, store, spool, name."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from omni_async.fleet.clips import clip_store
from omni_async.fleet.fetch_queue import FetchQueue
from omni_async.fleet.fetcher import Fetcher
from omni_async.fleet.postgres.database import Database

HEARTBEAT = 2.0


async def work(url: str, store: Path, spool: Path, name: str, **settings: Any) -> None:
    """Download until cancelled."""
    async with Fetcher(Database(url), clip_store(store, spool), worker=name, **settings) as fetcher:
        await FetchQueue(fetcher.pool).run(fetcher, concurrency=4, heartbeat=HEARTBEAT)


async def sweep(url: str) -> None:
    """Give the tasks of workers that have gone silent to others, as a leader does, until cancelled."""
    async with Database(url).pool("sweep") as pool:
        queue = FetchQueue(pool)
        while True:
            await queue.sweep(HEARTBEAT)
            await anyio.sleep(0.2)


def start(url: str, store: Path, spool: Path, name: str) -> subprocess.Popen[bytes]:
    """Start a worker process."""
    command = [sys.executable, "-m", "tests.support.fetch_worker", url, str(store), str(spool), name]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2])


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(work(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
