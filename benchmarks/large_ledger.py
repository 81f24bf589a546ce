"""Large ledgers: opening one, `omni-async status`, and resuming its unfinished jobs; in real time.

A ledger of 1,000,000 finished jobs is opened after a clean close, with the note of that removed (as after a crash), and
read as `status` reads it. Of one with 100,000 unfinished jobs some thousands are resumed, up to their clips; the server
is in memory and each task is done at once. `TMPDIR` chooses the disk.

The longest stall of the event loop is the longest time between two turns of it. The second figure is the CPU that its
thread used meanwhile: other load on the machine adds little to it. The third is the longest collection of garbage by
the interpreter in that thread, which is part of the others and the program's to avoid (`gc.freeze`).
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figures, Target, by_size, run
from benchmarks.interpreter import cpu_of, environment
from benchmarks.ledger import fill, resident
from benchmarks.virtual import Account
from omni_async import LedgerReader, Limits, OmniClient, Polling
from omni_async.ledger import SqliteJobStore

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path(__file__).parent.parent


class _Client(OmniClient):
    def _make_transport(self, base_url: str, api_key: str) -> Any:
        return Account(lambda: 0.0, latency=0.0)


class _Loop:
    """The longest stall of the event loop, in seconds of time and of its thread's CPU; and its longest collection."""

    def __init__(self) -> None:
        self.seconds = self.cpu = self.collection = 0.0
        self._thread, self._collects_since = threading.get_ident(), 0.0
        gc.callbacks.append(self._note_collection)

    def _note_collection(self, phase: str, _: object) -> None:
        if threading.get_ident() != self._thread:
            return
        if phase == "start":
            self._collects_since = time.thread_time()
        else:
            self.collection = max(self.collection, time.thread_time() - self._collects_since)

    async def watch(self) -> None:
        """Measure until it is cancelled."""
        while True:
            now, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0)
            self.seconds = max(self.seconds, time.perf_counter() - now)
            self.cpu = max(self.cpu, time.thread_time() - used)
            await asyncio.sleep(0.001)


async def _open(path: Path) -> float:
    store = SqliteJobStore(path)
    start = time.perf_counter()
    await store.open()
    seconds = time.perf_counter() - start
    await store.aclose()
    return seconds


async def _open_clean(path: Path, _: int) -> dict[str, Any]:
    return {"open s": await _open(path)}


async def _open_checked(path: Path, _: int) -> dict[str, Any]:
    """Open a ledger whose note is gone: its whole content is checked."""
    for lock in path.parent.glob("*.lock"):
        lock.unlink()
    return {"open, checked s": await _open(path)}


async def _status(path: Path, _: int) -> dict[str, Any]:
    """Read the ledger as `status` does: its totals and the first jobs."""
    start, used = time.perf_counter(), time.process_time()
    with LedgerReader(path) as reader:
        reader.totals()
        assert list(islice(reader.jobs("completed"), 20))
    return {"status: reading s": time.perf_counter() - start, "status: reading, CPU s": time.process_time() - used}


async def _resume(path: Path, jobs: int) -> dict[str, Any]:
    """Resume the ledger until so many jobs have their clips."""
    limits, polling = Limits(max_in_flight=1000), Polling(min_interval=0.01, max_interval=0.05)
    client = _Client("sk-bench", output_dir=path.parent, ledger=path, limits=limits, polling=polling)
    loop, finished = _Loop(), 0
    await client.__aenter__()
    await asyncio.sleep(0.2)
    before = resident()
    watch = asyncio.create_task(loop.watch())
    async for job in client.as_completed(client.resume()):
        await job
        finished += 1
        if finished == jobs:
            break
    watch.cancel()
    measured = {"stall s": loop.seconds, "stall, CPU s": loop.cpu, "collection, CPU s": loop.collection}
    measured["MB more"] = resident() - before
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        await client.__aexit__(type(error), error, error.__traceback__)
    return measured


_CHILDREN = {"open": _open_clean, "open_checked": _open_checked, "status": _status, "resume": _resume}


def _child(name: str, path: Path, jobs: int = 0) -> dict[str, Any]:
    """Measure in a new process."""
    command = [sys.executable, "-m", "benchmarks.large_ledger", "--child", name, str(path), str(jobs)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _repeat(rounds: int, once: Callable[[], dict[str, Any]], figures: Figures, what: str) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, value in once().items():
            values[name].append(value)
    for name, measured in values.items():
        cells = {"median": median(measured), "from": min(measured), "to": max(measured)}
        figures.rows.append({"ledger": what, "figure": name, **cells})
    return values


def _measure_finished(figures: Figures, folder: Path, jobs: int, rounds: int) -> None:
    path = folder / "finished" / "ledger.db"
    asyncio.run(fill(path, jobs, 0))
    variables = environment(folder / "cache", PYTHONPATH=str(_ROOT))
    cpu_of(["-m", "omni_async", "status", str(path.parent)], variables, folder)

    def once() -> dict[str, Any]:
        measured = _child("open", path) | _child("status", path)
        start = time.perf_counter()
        used = cpu_of(["-m", "omni_async", "status", str(path.parent)], variables, folder)
        measured |= {"status: command s": time.perf_counter() - start, "status: command, CPU s": used}
        return measured | _child("open_checked", path)

    values = _repeat(rounds, once, figures, f"{jobs:,} jobs, all finished")
    figures.targets.append(Target("seconds to open it after a clean close", 0.3, tuple(values["open s"])))
    for what in ("status: reading s", "status: reading, CPU s", "status: command s", "status: command, CPU s"):
        figures.targets.append(Target(what, 0.5, tuple(values[what])))


def _measure_unfinished(figures: Figures, folder: Path, jobs: int, resumed: int, rounds: int) -> None:
    source = folder / "unfinished.db"
    asyncio.run(fill(source, jobs, jobs))

    def once() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            path = Path(temporary, "ledger.db")
            path.write_bytes(source.read_bytes())
            return _child("resume", path, resumed)

    values = _repeat(rounds, once, figures, f"{jobs:,} jobs, none finished; {resumed:,} resumed")
    for what in ("stall s", "stall, CPU s"):
        figures.targets.append(Target(f"resume(): {what}", 0.05, tuple(values[what])))
    figures.targets.append(Target("resume(): MB more", 10, tuple(values["MB more"])))


def measure(figures: Figures) -> None:
    """Measure both ledgers."""
    rounds = by_size(figures, 1, 3, 7)
    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as temporary:
        _measure_finished(figures, Path(temporary), by_size(figures, 100, 1_000_000, 1_000_000), rounds)
        resumed = by_size(figures, 20, 5000, 5000)
        _measure_unfinished(figures, Path(temporary), by_size(figures, 100, 100_000, 100_000), resumed, rounds)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(asyncio.run(_CHILDREN[sys.argv[2]](Path(sys.argv[3]), int(sys.argv[4])))))
    else:
        run("large_ledger", "Large ledgers", measure)
