"""The good program written by hand, with what it would need so that no clip is lost or paid twice, and no more.

Each job has a row that is on the disk before its POST, another state of it before anything else happens with its
task_id, and a last one; each clip is checked, fsynced and only then given its name. Nothing is learnt or resumed.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.contestants.handwritten import submit, wait
from omni_async.downloads.mp4 import find_defect

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.contestants.order import Order


class _Rows:
    """One connection in one thread; each change is a transaction."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._path = path

    async def open(self) -> None:
        await self._run(self._open)

    async def insert(self, key: str, prompt: str) -> None:
        await self._run(self._execute, "INSERT INTO jobs VALUES (?, ?, 'submitting', NULL, NULL)", (key, prompt))

    async def accepted(self, key: str, task_id: str) -> None:
        await self._run(self._execute, "UPDATE jobs SET state = 'running', task_id = ? WHERE key = ?", (task_id, key))

    async def completed(self, key: str, path: Path) -> None:
        await self._run(self._execute, "UPDATE jobs SET state = 'completed', path = ? WHERE key = ?", (str(path), key))

    async def _run(self, work: Callable[..., None], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _open(self) -> None:
        self._db = sqlite3.connect(self._path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE jobs (key TEXT PRIMARY KEY, prompt TEXT, state TEXT, task_id TEXT, path TEXT)")

    def _execute(self, statement: str, values: tuple[str, ...]) -> None:
        self._db.execute(statement, values)


def _store(clip: bytes, path: Path) -> None:
    fault = find_defect(lambda offset, length: clip[offset : offset + length], len(clip))
    if fault is not None:
        raise ValueError(fault)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(clip)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


async def _run(order: Order) -> None:
    semaphore = asyncio.Semaphore(order.at_once)
    headers = {"Authorization": f"Bearer {order.api_key}"}
    rows = _Rows(Path(order.folder, "jobs.db"))
    await rows.open()

    async def one(number: int, prompt: str) -> None:
        key, path = str(number), order.path(number)
        async with semaphore:
            await rows.insert(key, prompt)
            task_id = await submit(session, order.base_url, prompt)
            await rows.accepted(key, task_id)
            url = await wait(session, order.base_url, task_id)
            async with session.get(url, headers={"Authorization": ""}) as answer:
                answer.raise_for_status()
                clip = await answer.read()
            await asyncio.to_thread(_store, clip, path)
            await rows.completed(key, path)

    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(order.prompts())))


def run(order: Order) -> None:
    """Make the clips."""
    asyncio.run(_run(order))
