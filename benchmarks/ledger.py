"""What the ledger costs: durable operations per second, its share of a run, and ledgers of 100,000 jobs.

`TMPDIR` chooses the disk that is measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figures, by_size, run
from omni_async import JobStatus, LedgerReader, Limits, OmniClient, Polling, VideoRequest
from omni_async.jobs.records import JobRecord
from omni_async.ledger import SqliteJobStore
from omni_async.sandbox import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path(__file__).parent.parent
_PROMPT = "a red apple on a wooden table, number {}, soft light from the left, slow pan, short cinematic clip"


def _record(number: int, status: JobStatus = JobStatus.WAITING, **facts: Any) -> JobRecord:
    """Return a record of a typical size."""
    return JobRecord(
        key=f"a-red-apple-on-a-wooden-table-{number:06}",
        idempotency_key=f"omni-{number:032x}",
        request=VideoRequest(prompt=_PROMPT.format(number)).to_json(),
        status=status,
        created_at=time.time(),
        **facts,
    )


# Operations per second


async def _grouped_commits(path: Path, writers: int, operations: int) -> float:
    """Return durable operations per second of concurrent writers. Each awaits its operation before the next one."""
    store = SqliteJobStore(path)
    await store.open()

    async def write(number: int) -> None:
        await store.insert(record := _record(number))
        for _ in range(operations - 1):
            await store.save(record)

    start = time.perf_counter()
    await asyncio.gather(*(write(number) for number in range(writers)))
    seconds = time.perf_counter() - start
    await store.aclose()
    return writers * operations / seconds


def _single_commits(path: Path, operations: int) -> float:
    """Return operations per second of plain sqlite3, equally durable, with one commit for each."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, key TEXT UNIQUE, status TEXT, request TEXT)")
        record = _record(0)
        start = time.perf_counter()
        for number in range(operations):
            db.execute(
                "INSERT INTO jobs (key, status, request) VALUES (?, ?, ?)",
                (str(number), "waiting", record.request),
            )
        return operations / (time.perf_counter() - start)


def _measure_operations(figures: Figures, folder: Path) -> None:
    grouped, single, alone = [], [], []
    operations = by_size(figures, 50, 1000, 1000)
    for repetition in range(3):
        single.append(_single_commits(folder / f"plain-{repetition}.db", operations))
        alone.append(asyncio.run(_grouped_commits(folder / f"alone-{repetition}.db", 1, operations)))
        grouped.append(asyncio.run(_grouped_commits(folder / f"group-{repetition}.db", 200, operations // 10)))
    for name, rates in (
        ("200 writers", grouped),
        ("1 writer", alone),
        ("plain sqlite3, one commit each", single),
    ):
        ratio = median(rates) / median(single)
        figures.rows.append({"what": name, "operations/s": median(rates), "/ plain sqlite3": ratio})


# Share of a run


async def _run_jobs(base_url: str, folder: Path, jobs: int, ledger: Path | None) -> tuple[float, float]:
    """Run jobs from submit to clip and return the seconds of wall time and of this process's CPU."""
    limits, polling = Limits(max_downloads=16), Polling(min_interval=0.2, max_interval=0.5)
    wall, cpu = time.perf_counter(), time.process_time()
    async with OmniClient(
        "sk-bench", base_url=base_url, output_dir=folder, ledger=ledger, limits=limits, polling=polling
    ) as client:
        await asyncio.gather(*(client.submit(_PROMPT.format(number), key=f"k{number}") for number in range(jobs)))
    return time.perf_counter() - wall, time.process_time() - cpu


async def _measure_share(figures: Figures, folder: Path, jobs: int, rounds: int) -> None:
    """Measure runs with and without a ledger, alternating, against one sandbox in its own process."""
    seconds: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    async with SandboxProcess(prerendered=True, median=0.5, sigma=0.1, seconds=3) as sandbox:
        await _run_jobs(sandbox.base_url, folder / "warm-up", min(jobs, 20), None)
        for repetition in range(rounds):
            for has_ledger in (True, False) if repetition % 2 else (False, True):
                output_dir = folder / f"run-{repetition}-{has_ledger}"
                ledger = output_dir / "ledger.db" if has_ledger else None
                seconds[has_ledger].append(await _run_jobs(sandbox.base_url, output_dir, jobs, ledger))
    wall, cpu = (
        {has_ledger: median(each[which] for each in seconds[has_ledger]) for has_ledger in (True, False)}
        for which in (0, 1)
    )
    for has_ledger in (True, False):
        name = f"{jobs:,} jobs, {'with a ledger' if has_ledger else 'ledger in memory'}"
        figures.rows.append({"what": name, "wall s": wall[has_ledger], "CPU s": cpu[has_ledger]})
    ratios = f"wall {wall[True] / wall[False]:.3f}, CPU {cpu[True] / cpu[False]:.3f}"
    figures.notes.append(f"A run with a ledger / with its ledger in memory: {ratios}.")


# Large ledgers


async def fill(path: Path, jobs: int, unfinished: int) -> None:
    """Make a ledger with this many jobs, the last of which are unfinished."""
    store = SqliteJobStore(path)
    await store.open()
    now = time.time()
    last: Any = None
    for number in range(jobs):
        facts: dict[str, Any] = {}
        if number < jobs - unfinished:
            times = dict.fromkeys(("submitted_at", "accepted_at", "finished_at"), now)
            facts = {"status": JobStatus.COMPLETED, "task_id": f"task_{number:026}", "submits": 1, "cost": 0.88}
            facts |= times | {"credits": 8.8, "paths": (f"clips/a-red-apple-on-a-wooden-table-{number:06}.mp4",)}
        last = store.insert(_record(number, **facts))
    await last
    await store.aclose()


def resident() -> float:
    """Return the memory that this process uses now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _peak() -> float:
    """Return the peak memory of this process in MB. `getrusage` would include the process that started it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1e3


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


async def _open_and_resume(path: Path) -> dict[str, Any]:
    """Open a client with the ledger and resume every job, as a run after a crash does. Nothing is sent."""
    client = OmniClient("sk-bench", base_url="http://127.0.0.1:9", output_dir=path.parent, ledger=path)
    before, start = resident(), time.perf_counter()
    await client.__aenter__()
    opened = time.perf_counter() - start
    start = time.perf_counter()
    # More than the ledger contains, so that all jobs are resumed: none of them ever finishes here.
    jobs = [job async for job in client.resume(max_pending=1_000_000)]
    seconds = time.perf_counter() - start
    after = resident()
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        await client.__aexit__(type(error), error, error.__traceback__)
    for job in jobs:
        assert job.done()
    return {
        "open s": opened,
        "resume() s": seconds,
        "jobs resumed": len(jobs),
        "MB for them": after - before,
        "peak MB": _peak(),
    }


async def _read(path: Path) -> dict[str, Any]:
    """Read the ledger as `omni-async status` does."""
    with LedgerReader(path) as reader:
        sums, totals = _timed(reader.totals)
        everything, count = _timed(lambda: sum(1 for _ in reader.jobs()))
    assert totals.jobs == count
    return {"totals() s": sums, "jobs() s": everything}


_CHILDREN = {"read": _read, "resume": _open_and_resume}


def _measure_large(figures: Figures, folder: Path, jobs: int) -> None:
    """Measure a ledger whose jobs are all finished and one where none is, each in a new process for its memory."""
    for name, unfinished in (("all finished", 0), ("none finished", jobs)):
        path = folder / name.replace(" ", "-") / "ledger.db"
        start = time.perf_counter()
        asyncio.run(fill(path, jobs, unfinished))
        row: dict[str, Any] = {"what": f"{jobs:,} jobs, {name}", "fill s": time.perf_counter() - start}
        row["file MB"] = path.stat().st_size / 1e6
        for child in _CHILDREN:
            command = [sys.executable, "-m", "benchmarks.ledger", "--child", child, str(path)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
            row |= json.loads(done.stdout.splitlines()[-1])
        figures.rows.append(row)


def measure(figures: Figures) -> None:
    """Measure operations, runs and large ledgers."""
    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as temporary:
        folder = Path(temporary)
        _measure_operations(figures, folder)
        asyncio.run(_measure_share(figures, folder, by_size(figures, 10, 1000, 1000), by_size(figures, 1, 1, 3)))
        _measure_large(figures, folder, by_size(figures, 100, 100_000, 100_000))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(asyncio.run(_CHILDREN[sys.argv[2]](Path(sys.argv[3])))))
    else:
        run("ledger", "What the ledger costs", measure)
