"""Memory per job in flight: many jobs of one client in one process, accepted and not finished. And of finished jobs.

The client, its poller, rate limiter and SQLite ledger are real. The server is in memory and responds immediately, so
that the client is what is measured. Each figure is measured in its own process.

The memory of finished jobs: `as_completed(max_pending=1000)` over many requests, whose jobs are not kept. Counted is
what there is after 15/16 of them in excess of what there was after half: of Python objects (tracemalloc), and of memory
of the process, which also grows as free memory between its objects becomes scattered. The server forgets its tasks.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figures, Target, by_size, run
from benchmarks.policies import POLICIES
from benchmarks.virtual import Account, TaskTimes, memory_folder
from omni_async import Limits, OmniClient, Polling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from omni_async.api.parsing import Response

_ROOT = Path(__file__).parent.parent
_NEVER = 1e9  # seconds; a duration after which no run is still going
_FINISHED_JOBS = "finished jobs"
_BATCH = 1000  # jobs submitted before the first of them is accepted, so that the queue of the client stays short


class _Client(OmniClient):
    def __init__(self, account: Account, folder: Path, **settings: Any) -> None:
        self._account = account
        super().__init__("sk-memory", output_dir=folder, **settings)

    def _make_transport(self, base_url: str, api_key: str) -> Any:
        return self._account


def _resident() -> int:
    """Return the memory that this process uses now, in bytes."""
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * 4096


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.05)


async def _library(jobs: int, account: Account, folder: Path, sample: Callable[[], None]) -> None:
    async with _Client(account, folder) as client:
        await client.submit("the first", key="first").accepted()
        sample()
        for start in range(0, jobs, _BATCH):
            for number in range(start, min(start + _BATCH, jobs)):
                client.submit(f"a clip of its own, number {number}", key=f"scene-{number}")
            await _until(lambda start=start: len(account.tasks) > start)  # type: ignore[misc]
        await _until(lambda: len(account.tasks) > jobs and client.statistics().in_flight > jobs)
        sample()
        raise _Measured


async def _handwritten(jobs: int, account: Account, _: Path, sample: Callable[[], None]) -> None:
    policy = POLICIES[0]

    async def one(number: int) -> None:
        prompt = json.dumps({"model": "m", "prompt": f"a clip of its own, number {number}"}).encode()
        task_id = (await account.submit(prompt, "")).body.split(b'"task_id":"')[1].split(b'"')[0].decode()
        await asyncio.sleep(policy.first_check)
        while b'"completed"' not in (await account.check(task_id)).body:
            await asyncio.sleep(_NEVER)  # its checks are not measured

    sample()
    async with asyncio.TaskGroup() as group:
        for number in range(jobs):
            group.create_task(one(number))
        await _until(lambda: len(account.tasks) >= jobs)
        sample()
        raise _Measured


class _Measured(Exception):
    """Raised to stop the program: both samples are taken."""


_PROGRAMS = {"omni_async": _library, "handwritten asyncio": _handwritten}


async def _measure_memory(program: Callable[..., Awaitable[None]], jobs: int, *, traced: bool) -> dict[str, Any]:
    samples: list[int] = []
    by_line: Counter[str] = Counter()

    def sample() -> None:
        gc.collect()
        samples.append(_resident())
        if traced:
            samples[-1] = tracemalloc.get_traced_memory()[0]
            sign = -1 if len(samples) == 1 else 1
            for each in tracemalloc.take_snapshot().statistics("lineno"):
                frame = each.traceback[0]
                by_line[f"{_short(frame.filename)}:{frame.lineno}"] += sign * each.size

    account = Account(lambda: _NEVER, latency=0.0)
    start = time.process_time()
    with memory_folder() as folder:
        try:
            await program(jobs, account, Path(folder), sample)
        except* _Measured:
            pass
    per_job = (samples[1] - samples[0]) / jobs
    top = {name: size / jobs for name, size in by_line.most_common(12)}
    return {"bytes": per_job, "by_line": top, "cpu": time.process_time() - start}


class _ForgetfulAccount(Account):
    """An account that keeps nothing of a task once it was reported as completed."""

    async def check(self, task_id: str) -> Response:
        response = await super().check(task_id)
        if self.tasks[int(task_id)].noticed is not None:
            self.tasks[int(task_id)] = _FINISHED
        return response


_FINISHED = TaskTimes(0.0, 0.0, 0.0, 0.0)


async def _measure_finished(folder: Path, jobs: int, *, traced: bool) -> float:
    """Return the bytes for each job that finished between a half and 15/16 of the run, while 1000 are pending."""
    samples, finished, steps = [0], 0, (jobs // 2, jobs * 15 // 16)
    account, polling = _ForgetfulAccount(lambda: 0.05, latency=0.0), Polling(min_interval=0.02, max_interval=0.1)
    async with _Client(account, folder, limits=Limits(max_in_flight=1000), polling=polling) as client:
        prompts: Iterator[str] = (f"a clip of its own, number {number}" for number in range(jobs))
        async for _ in client.as_completed(prompts, max_pending=1000):
            finished += 1
            if finished in steps:
                gc.collect()
                samples.append(tracemalloc.get_traced_memory()[0] if traced else _resident())
    return (samples[-1] - samples[-2]) / (steps[1] - steps[0])


def _short(name: str) -> str:
    for mark in ("site-packages/", "omni_async/", "benchmarks/", "lib/python3"):
        if mark in name:
            return name[name.index(mark) :].removeprefix("site-packages/")
    return Path(name).name


def _measure_in_process(name: str, jobs: int, *, traced: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", "--child", name, str(jobs), str(int(traced))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(figures: Figures) -> None:
    """Measure each program, and list the lines of code that hold most of the library's memory."""
    for program in _PROGRAMS:
        sizes = []
        for jobs in {by_size(figures, 50, 10_000, 10_000): 1, by_size(figures, 50, 10_000, 100_000): 1}:
            measured = _measure_in_process(program, jobs, traced=False)
            sizes.append(measured["bytes"])
            figures.rows.append(
                {
                    "program": program,
                    "jobs in flight": jobs,
                    "KB per job": measured["bytes"] / 1024,
                    "CPU ms per job": 1000 * measured["cpu"] / jobs,
                }
            )
        if program == "omni_async":
            largest = sizes[-1:]
            figures.targets.append(Target("KB per job in flight", 3.0, tuple(size / 1024 for size in largest)))
    measured = _measure_in_process("omni_async", by_size(figures, 50, 5_000, 10_000), traced=True)
    for name, size in measured["by_line"].items():
        figures.rows.append({"program": "omni_async, of which", "where": name, "bytes": round(size)})
    figures.notes.append(f"Python objects alone, by tracemalloc: {measured['bytes'] / 1024:.2f} KB per job.")
    jobs = by_size(figures, 2000, 24_000, 64_000)
    for kind, traced, most in (("Python objects", True, 0.05), ("memory of the process", False, 0.5)):
        kept = _measure_in_process(_FINISHED_JOBS, jobs, traced=traced)["bytes"] / 1024
        figures.targets.append(Target(f"KB kept per finished job ({kind}; {jobs:,} jobs)", most, (kept,)))


def _measure_and_print(name: str, jobs: int, traced: bool) -> None:
    if traced:
        tracemalloc.start()
    if name == _FINISHED_JOBS:
        with memory_folder() as folder:
            print(json.dumps({"bytes": asyncio.run(_measure_finished(Path(folder), jobs, traced=traced))}))
        return
    print(json.dumps(asyncio.run(_measure_memory(_PROGRAMS[name], jobs, traced=traced))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _measure_and_print(sys.argv[2], int(sys.argv[3]), traced=sys.argv[4] == "1")
    else:
        run("memory", "Memory per job in flight", measure)
