"""Memory for each job in flight: so many jobs of one client, accepted and not finished, in one process.

The client, its poller, gate and SQLite ledger are real; the server is in memory and answers at once, so that what is
measured is the client. Each figure is taken in a process of its own.
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

from benchmarks.figures import Aim, Figures, by_size, run
from benchmarks.policies import POLICIES
from benchmarks.virtual import Account, folder_in_memory
from omni_async import OmniClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_ROOT = Path(__file__).parent.parent
_FOR_EVER = 1e9


class _Client(OmniClient):
    def __init__(self, account: Account, folder: Path) -> None:
        self._account = account
        super().__init__("sk-memory", output_dir=folder)

    def _make_transport(self, base_url: str, api_key: str) -> Any:
        return self._account


def _resident() -> int:
    """Give the memory that this process holds now, in bytes."""
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * 4096


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.05)


async def _library(jobs: int, account: Account, folder: Path, look: Callable[[], None]) -> None:
    async with _Client(account, folder) as client:
        await client.submit("the first", key="first").accepted()
        look()
        for start in range(0, jobs, 1000):
            for number in range(start, min(start + 1000, jobs)):
                client.submit(f"a clip of its own, number {number}", key=f"scene-{number}")
            await _until(lambda start=start: len(account.lives) > start)  # type: ignore[misc]
        await _until(lambda: len(account.lives) > jobs and client.statistics().in_flight > jobs)
        look()
        raise _Over


async def _handwritten(jobs: int, account: Account, _: Path, look: Callable[[], None]) -> None:
    policy = POLICIES[0]

    async def one(number: int) -> None:
        prompt = json.dumps({"model": "m", "prompt": f"a clip of its own, number {number}"}).encode()
        task_id = (await account.submit(prompt, "")).body.split(b'"task_id":"')[1].split(b'"')[0].decode()
        await asyncio.sleep(policy.first_check)
        while b'"completed"' not in (await account.check(task_id)).body:
            await asyncio.sleep(_FOR_EVER)  # its checks are not what is measured

    look()
    async with asyncio.TaskGroup() as group:
        for number in range(jobs):
            group.create_task(one(number))
        await _until(lambda: len(account.lives) >= jobs)
        look()
        raise _Over


class _Over(Exception):
    """It has been seen what was to be seen."""


_WHOM = {"omni_async": _library, "handwritten asyncio": _handwritten}


async def _watch(who: Callable[..., Awaitable[None]], jobs: int, *, traced: bool) -> dict[str, Any]:
    looks: list[int] = []
    parts: Counter[str] = Counter()

    def look() -> None:
        gc.collect()
        looks.append(_resident())
        if traced:
            looks[-1] = tracemalloc.get_traced_memory()[0]
            sign = -1 if len(looks) == 1 else 1
            for each in tracemalloc.take_snapshot().statistics("lineno"):
                frame = each.traceback[0]
                parts[f"{_short(frame.filename)}:{frame.lineno}"] += sign * each.size

    account = Account(lambda: _FOR_EVER, latency=0.0)
    start = time.process_time()
    with folder_in_memory() as folder:
        try:
            await who(jobs, account, Path(folder), look)
        except* _Over:
            pass
    each = (looks[1] - looks[0]) / jobs
    top = {name: size / jobs for name, size in parts.most_common(12)}
    return {"bytes": each, "parts": top, "cpu": time.process_time() - start}


def _short(name: str) -> str:
    for mark in ("site-packages/", "omni_async/", "benchmarks/", "lib/python3"):
        if mark in name:
            return name[name.index(mark) :].removeprefix("site-packages/")
    return Path(name).name


def _in_a_process(who: str, jobs: int, *, traced: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", "--child", who, str(jobs), str(int(traced))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def measure(figures: Figures) -> None:
    """Measure each, and see what the library's memory consists of."""
    for who in _WHOM:
        sizes = []
        for jobs in (by_size(figures, 50, 10_000, 10_000), by_size(figures, 0, 100_000, 100_000)):
            runs = [_in_a_process(who, jobs, traced=False) for _ in range(by_size(figures, 1, 1, 3))] if jobs else []
            for told in runs:
                sizes.append(told["bytes"])
                figures.rows.append(
                    {
                        "contestant": who,
                        "jobs in flight": jobs,
                        "KB per job": told["bytes"] / 1024,
                        "CPU ms per job": 1000 * told["cpu"] / jobs,
                    }
                )
        if who == "omni_async":
            most = sizes[-by_size(figures, 1, 1, 3) :]
            figures.aims.append(Aim("KB per job in flight", 3.0, tuple(size / 1024 for size in most)))
    told = _in_a_process("omni_async", by_size(figures, 50, 10_000, 20_000), traced=True)
    for name, size in told["parts"].items():
        figures.rows.append({"contestant": "omni_async, of which", "where": name, "bytes": round(size)})
    figures.notes.append(f"Python objects alone, by tracemalloc: {told['bytes'] / 1024:.2f} KB for each job.")


def _child(who: str, jobs: int, traced: bool) -> None:
    if traced:
        tracemalloc.start()
    print(json.dumps(asyncio.run(_watch(_WHOM[who], jobs, traced=traced))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2], int(sys.argv[3]), traced=sys.argv[4] == "1")
    else:
        run("memory", "Memory for each job in flight", measure)
