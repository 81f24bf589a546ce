"""The handwritten program with what it needs so that no clip is lost or paid for twice, and nothing else.

The row of each job is written durably before its POST, again before anything else happens with its task id, and at the
end. Each clip is checked and fsynced before it gets its name. No limit is learned and nothing is resumed.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.peers.handwritten import submit, wait
from omni_async.downloads.mp4 import find_defect

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers.assignment import Assignment


class _Rows:
    """The rows of all jobs. One connection in one thread; each change is a transaction."""

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
    defect = find_defect(lambda offset, length: clip[offset : offset + length], len(clip))
    if defect is not None:
        raise ValueError(defect)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(clip)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


async def _run(assignment: Assignment) -> None:
    semaphore = asyncio.Semaphore(assignment.concurrency)
    headers = {"Authorization": f"Bearer {assignment.api_key}"}
    rows = _Rows(Path(assignment.folder, "jobs.db"))
    await rows.open()

    async def make_clip(number: int, prompt: str) -> None:
        key, path = str(number), assignment.path(number)
        async with semaphore:
            await rows.insert(key, prompt)
            task_id = await submit(session, assignment.base_url, prompt)
            await rows.accepted(key, task_id)
            url = await wait(session, assignment.base_url, task_id)
            async with session.get(url, headers={"Authorization": ""}) as response:
                response.raise_for_status()
                clip = await response.read()
            await asyncio.to_thread(_store, clip, path)
            await rows.completed(key, path)

    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(make_clip(number, prompt) for number, prompt in enumerate(assignment.prompts())))


def run(assignment: Assignment) -> None:
    """Generate the clips."""
    asyncio.run(_run(assignment))
