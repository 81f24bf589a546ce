"""The handwritten program with what it needs so that no clip is lost or paid for twice, and nothing else.

The row of each job is written durably before its POST, again before anything else happens with its task id, and at the
end; changes that are made at the same time share a commit. Each clip is checked and fsynced before it gets its name. No
limit is learned and nothing is resumed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from benchmarks.peers.handwritten import submit
from omni_async.downloads.mp4 import find_defect_in

if TYPE_CHECKING:
    from benchmarks.peers.assignment import Assignment

# Seconds after which every task of the sandbox of the CPU benchmark has finished: no task needs further checks then.
_LONGEST = 30.0


class _Rows:
    """The rows of all jobs. One connection in one thread; changes that wait for it are committed in one transaction."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._path = path
        self._waiting: list[tuple[str, tuple[str, ...]]] = []
        self._committed: asyncio.Future[None] | None = None  # of those that wait
        self._is_writing = False

    async def open(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def insert(self, key: str, prompt: str) -> None:
        await self._write("INSERT INTO jobs VALUES (?, ?, 'submitting', NULL, NULL)", key, prompt)

    async def accepted(self, key: str, task_id: str) -> None:
        await self._write("UPDATE jobs SET state = 'running', task_id = ? WHERE key = ?", task_id, key)

    async def completed(self, key: str, path: Path) -> None:
        await self._write("UPDATE jobs SET state = 'completed', path = ? WHERE key = ?", str(path), key)

    async def _write(self, statement: str, *values: str) -> None:
        self._waiting.append((statement, values))
        self._committed = committed = self._committed or asyncio.get_running_loop().create_future()
        if not self._is_writing:
            self._start()
        await committed

    def _start(self) -> None:
        group, self._waiting = self._waiting, []
        committed, self._committed = self._committed, None
        self._is_writing = True
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._commit, group)
        work.add_done_callback(lambda done: self._finish(done, committed))

    def _finish(self, done: asyncio.Future[None], committed: asyncio.Future[None] | None) -> None:
        assert committed is not None
        if (error := done.exception()) is not None:
            committed.set_exception(error)
        else:
            committed.set_result(None)
        self._is_writing = False
        if self._waiting:
            self._start()

    def _open(self) -> None:
        self._db = sqlite3.connect(self._path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE jobs (key TEXT PRIMARY KEY, prompt TEXT, state TEXT, task_id TEXT, path TEXT)")

    def _commit(self, group: list[tuple[str, tuple[str, ...]]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for statement, values in group:
            self._db.execute(statement, values)
        self._db.execute("COMMIT")


def _store(clip: bytes, path: Path) -> None:
    defect = find_defect_in(clip)
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


async def _check(session: aiohttp.ClientSession, base_url: str, task_id: str, checks: int) -> str:
    """Poll a task with a given number of checks, the last of which shows its end; return the URL of its clip."""
    for number in range(checks):
        await asyncio.sleep(_LONGEST / checks * (1 if number == checks - 1 else random.uniform(0.5, 1)))
        async with session.get(f"{base_url}/v1/tasks/{task_id}") as response:
            response.raise_for_status()
            task: dict[str, Any] = (await response.json())["data"]
    if task["status"] != "completed":
        raise RuntimeError(task)
    url: str = task["result"]["videos"][0]["url"][0]
    return url


async def _run(assignment: Assignment) -> None:
    semaphore = asyncio.Semaphore(assignment.concurrency)
    headers = {"Authorization": f"Bearer {assignment.api_key}"}
    rows = _Rows(Path(assignment.folder, "jobs.db"))
    await rows.open()
    fewest, more = divmod(assignment.checks, assignment.jobs)

    async def make_clip(number: int, prompt: str) -> None:
        key, path = str(number), assignment.path(number)
        async with semaphore:
            await rows.insert(key, prompt)
            task_id = await submit(session, assignment.base_url, prompt)
            await rows.accepted(key, task_id)
            url = await _check(session, assignment.base_url, task_id, fewest + (number < more))
            async with session.get(url, headers={"Authorization": ""}) as response:
                response.raise_for_status()
                clip = await response.read()
            await asyncio.to_thread(_store, clip, path)
            await rows.completed(key, path)

    async with aiohttp.ClientSession(headers=headers) as session:
        await asyncio.gather(*(make_clip(number, prompt) for number, prompt in enumerate(assignment.prompts())))


def run(assignment: Assignment) -> None:
    """Generate the clips."""
    asyncio.run(_run(assignment))
