"""A fleet of real worker processes on a real Postgres, to be killed, stopped and cut off while it works.

What was paid is counted by the sandbox (tasks per prompt), not by the fleet.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psycopg

from omni_async.downloads import mp4
from omni_async.sandbox.process import SandboxProcess

from .processes import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .postgres import PostgresServer

CLIP_BYTES = 150_000
_ENDING = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}  # signals after which a worker ends
DONE = ("completed", "failed", "cancelled", "unknown")
TIMEOUT = 240.0  # seconds; far more than a run needs, so that only a hang reaches it


@dataclass(frozen=True)
class Report:
    """What a run has come to. `silence` is the longest time in seconds without a newly accepted task."""

    statuses: Counter[str]
    tasks: int
    doubled: int
    clips: int
    silence: float
    refused: int
    replayed: int
    seconds: float


@dataclass
class FleetRun:
    """Some jobs, the workers that make their clips, and the database and the API that they use."""

    server: PostgresServer
    database: str
    sandbox: SandboxProcess
    folder: Path
    lease: float = 4.0
    ambiguous: str = "auto"
    workers: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)  # by process id
    enqueued: int = 0

    @property
    def store(self) -> Path:
        """The folder of the clips."""
        return self.folder / "clips"

    async def command(self, *arguments: str) -> str:
        """Run a command of the fleet to its end and return what it printed."""
        with (self.folder / "commands.log").open("ab") as log:
            process = await self._start(*arguments, stdout=asyncio.subprocess.PIPE, stderr=log)
            out, _ = await process.communicate()
        assert process.returncode == 0, (arguments, (self.folder / "commands.log").read_text())
        return out.decode()

    async def enqueue(self, count: int) -> None:
        """Enqueue that many more jobs, each with a prompt of its own."""
        numbers = range(self.enqueued, self.enqueued + count)
        lines = [json.dumps({"id": f"k{number:05}", "prompt": f"clip {number}"}) for number in numbers]
        path = self.folder / f"prompts-{self.enqueued}.jsonl"
        path.write_text("\n".join(lines) + "\n")
        self.enqueued += count
        await self.command("enqueue", str(path))

    async def start_worker(self, *options: str, database: str | None = None) -> int:
        """Start a worker process and return its process id."""
        arguments = ["worker", "--store", str(self.store), "--base-url", self.sandbox.base_url]
        arguments += ["--lease", str(self.lease), "--on-ambiguous", self.ambiguous, "-v", *options]
        with self._log(len(list(self.folder.glob("worker-*.log")))) as log:
            process = await self._start(*arguments, stdout=log, stderr=log, database=database)
        self.workers[process.pid] = process
        return process.pid

    def _log(self, number: int) -> IO[bytes]:
        return (self.folder / f"worker-{number}.log").open("wb")

    async def _start(
        self, *arguments: str, stdout: Any, stderr: Any, database: str | None = None
    ) -> asyncio.subprocess.Process:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("APIMART_", "PG"))}
        own = {"OMNI_DATABASE_URL": database or self.database, "APIMART_API_KEY": self.sandbox.api_key or "key"}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "omni_async", "fleet", *arguments),
            env=inherited | own | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )

    async def signal(self, pid: int, *numbers: int, apart: float = 0.0) -> int | None:
        """Send signals to a worker; wait for its end, and return its status, if it does not survive them."""
        process = self.workers[pid]
        for each, number in enumerate(numbers):
            await asyncio.sleep(apart if each else 0.0)
            process.send_signal(number)
        if not _ENDING.intersection(numbers):
            return None
        await asyncio.wait_for(process.wait(), 30)
        del self.workers[pid]
        return process.returncode

    async def wait_for_any(self, pids: list[int]) -> None:
        """Wait until one of these workers has started, if there are any: Python takes seconds on a busy machine."""
        query = f"SELECT pid FROM omni_workers WHERE pid = ANY('{{{','.join(map(str, pids))}}}')"
        if pids:
            await self._wait_for(lambda: self._rows(query), "worker that has started")

    async def leader(self) -> int:
        """Return the process id of the worker that leads."""
        query = "SELECT pid FROM omni_accounts JOIN omni_workers ON worker = holder WHERE expires_at > now()"
        return int(await self._wait_for(lambda: self._rows(query), "a leader"))

    async def wait_until_accepted(self, count: int) -> None:
        """Wait until the API has accepted that many tasks."""
        until = time.monotonic() + TIMEOUT
        while len((await self.sandbox.record())["tasks"]) < count:
            assert time.monotonic() < until, f"{count} tasks were not accepted within {TIMEOUT:g} s"
            await asyncio.sleep(0.1)

    async def finish(self) -> Report:
        """Wait until every job is done, then check all that must be true of every run, and report."""
        unfinished = f"SELECT count(*) FROM omni_jobs WHERE status NOT IN {DONE}"
        await self._wait_for(lambda: [(True,)] if self._rows(unfinished) == [(0,)] else [], "the end of every job")
        record = await self.sandbox.record()
        tasks = record["tasks"]
        prompts = Counter(task["prompt"] for task in tasks.values())
        statuses = Counter(status for (status,) in self._rows("SELECT status FROM omni_jobs"))
        assert statuses.total() == self.enqueued
        created = sorted(task["created"] for task in tasks.values())
        return Report(
            statuses,
            len(tasks),
            doubled=sum(count - 1 for count in prompts.values()),
            clips=self._check_clips(tasks),
            silence=max((later - earlier for earlier, later in pairwise(created)), default=0.0),
            refused=sum(record["refused"].values()),
            replayed=record["replayed"],
            seconds=created[-1] - created[0] if created else 0.0,
        )

    def _check_clips(self, tasks: dict[str, Any]) -> int:
        """Check that each completed job has one whole file, the clip of its task. Return how many there are."""
        completed = self._rows("SELECT key, task_id, paths FROM omni_jobs WHERE status = 'completed'")
        contents, names = set(), set()
        for key, task_id, paths in completed:
            (name,) = json.loads(paths)
            names.add(name)
            content = (self.store / name).read_bytes()
            assert (defect := mp4.find_defect_in(content)) is None, f"{name}: {defect}"
            assert tasks[task_id]["prompt"] == f"clip {int(key[1:])}"
            mark = f"{task_id}#0".encode()
            assert content.count(mark) == 1, key
            contents.add(hashlib.sha256(content.replace(mark, b"#" * len(mark))).hexdigest())
        assert len(contents) <= 1
        files = {path.name for path in self.store.iterdir() if path.suffix == ".mp4"}
        assert files == names, f"files that no completed job has: {sorted(files - names)}"
        return len(names)

    async def _wait_for(self, look: Callable[[], list[tuple[Any, ...]]], what: str) -> Any:
        until = time.monotonic() + TIMEOUT
        while True:
            with suppress(psycopg.OperationalError):  # the database may be away
                if rows := await asyncio.to_thread(look):
                    return rows[0][0]
            dead = {pid: process.returncode for pid, process in self.workers.items() if process.returncode is not None}
            assert time.monotonic() < until, f"no {what} within {TIMEOUT:g} s; workers that ended: {dead}"
            await asyncio.sleep(0.2)

    def execute(self, statement: str) -> None:
        """Run a statement in the database of the fleet."""
        self._rows(statement)

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.server.execute(query, self.database.rpartition("/")[2])

    async def stop(self) -> None:
        """Kill every worker that is left."""
        for process in self.workers.values():
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def fleet_run(
    server: PostgresServer, folder: Path, *, lease: float = 4.0, ambiguous: str = "auto", **sandbox: Any
) -> AsyncIterator[FleetRun]:
    """Prepare a fleet without workers and without jobs: an empty database with the schema, and a sandbox."""
    defaults = {"prerendered": True, "clip_bytes": CLIP_BYTES, "latency": 0.1, "median": 1.5, "sigma": 0.4}
    defaults |= {"per_minute": 600, "burst": 5}
    async with SandboxProcess(**defaults | sandbox) as api:
        run = FleetRun(server, server.url(server.create_database()), api, folder, lease, ambiguous)
        try:
            await run.command("init")
            yield run
        finally:
            await run.stop()
