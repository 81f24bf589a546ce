"""What the ledger does and costs: operations per second, its part in a run of jobs, and a hundred thousand of them.

`python -m benchmarks.ledger [--out FOLDER] [--dir FOLDER]` prints a table and writes `ledger.json` into the folder
that `--out` names. `--dir` is where its files are made meanwhile: it decides which disk is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from omni_async import JobStatus, LedgerReader, Limits, OmniClient, Polling, VideoRequest
from omni_async.jobs.records import JobRecord
from omni_async.ledger import SqliteJobStore
from omni_async.sandbox.process import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = "a red apple on a wooden table, number {}, soft light from the left, slow pan, short cinematic clip"


def record_of(number: int, status: JobStatus = JobStatus.WAITING, **facts: Any) -> JobRecord:
    """Give a record of the usual size."""
    return JobRecord(
        key=f"a-red-apple-on-a-wooden-table-{number:06}",
        idempotency_key=f"omni-{number:032x}",
        request=VideoRequest(prompt=PROMPT.format(number)).to_json(),
        status=status,
        created_at=time.time(),
        **facts,
    )


# Operations per second


async def _with_writers(path: Path, writers: int, each: int) -> float:
    """Give durable operations per second where so many writers await each of theirs before the next."""
    ledger = SqliteJobStore(path)
    await ledger.open()

    async def write(number: int) -> None:
        await ledger.insert(record := record_of(number))
        for _ in range(each - 1):
            await ledger.save(record)

    start = time.perf_counter()
    await asyncio.gather(*(write(number) for number in range(writers)))
    took = time.perf_counter() - start
    await ledger.aclose()
    return writers * each / took


def _one_commit_each(path: Path, operations: int) -> float:
    """Give operations per second of plain sqlite3, as durable, with a commit for each: what the ledger is beside."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, key TEXT UNIQUE, status TEXT, request TEXT)")
        record = record_of(0)
        start = time.perf_counter()
        for number in range(operations):
            db.execute(
                "INSERT INTO jobs (key, status, request) VALUES (?, ?, ?)",
                (str(number), "waiting", record.request),
            )
        return operations / (time.perf_counter() - start)


def measure_operations(folder: Path) -> dict[str, Any]:
    """Measure both, one after the other and three times, on the same file system."""
    grouped, single, alone = [], [], []
    for turn in range(3):
        single.append(_one_commit_each(folder / f"plain-{turn}.db", 1000))
        alone.append(asyncio.run(_with_writers(folder / f"alone-{turn}.db", 1, 1000)))
        grouped.append(asyncio.run(_with_writers(folder / f"group-{turn}.db", 200, 100)))
    return {
        "200 writers, operations/s": round(median(grouped)),
        "1 writer, operations/s": round(median(alone)),
        "plain sqlite3, one commit each, operations/s": round(median(single)),
        "ratio of 200 writers to plain": round(median(grouped) / median(single), 1),
    }


# Its part in a run


async def _run_jobs(base_url: str, folder: Path, count: int, ledger: Path | None) -> tuple[float, float]:
    """Give wall and CPU seconds (of this process) for so many jobs from submit to clip."""
    limits, polling = Limits(max_downloads=16), Polling(min_interval=0.2, max_interval=0.5)
    wall, cpu = time.perf_counter(), time.process_time()
    async with OmniClient(
        "sk-bench", base_url=base_url, output_dir=folder, ledger=ledger, limits=limits, polling=polling
    ) as client:
        await asyncio.gather(*(client.submit(PROMPT.format(number), key=f"k{number}") for number in range(count)))
    return time.perf_counter() - wall, time.process_time() - cpu


async def measure_overhead(folder: Path, count: int, turns: int) -> dict[str, Any]:
    """Measure a run with and without the ledger, by turns, against one prerendered sandbox in a process of its own."""
    figures: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    async with SandboxProcess(prerendered=True, median=0.5, sigma=0.1, seconds=3) as sandbox:
        await _run_jobs(sandbox.base_url, folder / "warm", 20, None)
        for turn in range(turns):
            for has_ledger in (True, False) if turn % 2 else (False, True):
                place = folder / f"run-{turn}-{has_ledger}"
                ledger = place / "ledger.db" if has_ledger else None
                figures[has_ledger].append(await _run_jobs(sandbox.base_url, place, count, ledger))
    wall, cpu = (
        {has_ledger: median(each[which] for each in figures[has_ledger]) for has_ledger in (True, False)}
        for which in (0, 1)
    )
    return {
        "jobs": count,
        "with ledger: wall s, CPU s": [round(wall[True], 2), round(cpu[True], 2)],
        "without: wall s, CPU s": [round(wall[False], 2), round(cpu[False], 2)],
        "ratio of wall": round(wall[True] / wall[False], 3),
        "ratio of CPU": round(cpu[True] / cpu[False], 3),
    }


# A hundred thousand jobs


async def _fill(path: Path, count: int, unfinished: int) -> None:
    ledger = SqliteJobStore(path)
    await ledger.open()
    now = time.time()
    last: Any = None
    for number in range(count):
        facts: dict[str, Any] = {}
        if number < count - unfinished:
            times = dict.fromkeys(("submitted_at", "accepted_at", "finished_at"), now)
            facts = {"status": JobStatus.COMPLETED, "task_id": f"task_{number:026}", "submits": 1, "cost": 0.88}
            facts |= times | {"credits": 8.8, "paths": (f"clips/a-red-apple-on-a-wooden-table-{number:06}.mp4",)}
        last = ledger.insert(record_of(number, **facts))
    await last
    await ledger.aclose()


def _megabytes() -> float:
    """What this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _peak() -> float:
    """The most that this process ever had in memory; what `getrusage` tells includes the process that started it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1e3


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return round(time.perf_counter() - start, 3), result


async def _open_and_resume(path: Path) -> dict[str, Any]:
    """Open a client over the ledger and take up everything, as a run does after a crash; nothing is sent."""
    client = OmniClient("sk-bench", base_url="http://127.0.0.1:9", output_dir=path.parent, ledger=path)
    before, start = _megabytes(), time.perf_counter()
    await client.__aenter__()
    opened = time.perf_counter() - start
    took, jobs = _timed(client.resume)
    after = _megabytes()
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        await client.__aexit__(type(error), error, error.__traceback__)
    for job in jobs:
        assert job.done()
    return {
        "opening, s": round(opened, 3),
        "resume(), s": took,
        "jobs resumed": len(jobs),
        "memory for them, MB": round(after - before, 1),
        "peak memory of the process, MB": round(_peak(), 1),
    }


def _read(path: Path) -> dict[str, Any]:
    """Read it as a command that tells how things stand does."""
    with LedgerReader(path) as reader:
        sums, totals = _timed(reader.totals)
        everything, count = _timed(lambda: sum(1 for _ in reader.jobs()))
    assert totals.jobs == count
    return {"LedgerReader.totals(), s": sums, "reading all, s": everything}


def measure_many(folder: Path, count: int) -> dict[str, Any]:
    """Measure ledgers of so many jobs, all finished and none, each in a fresh process for the sake of its memory."""
    found: dict[str, Any] = {"jobs": count}
    for name, unfinished in (("all finished", 0), ("none finished", count)):
        path = folder / name.replace(" ", "-") / "ledger.db"
        filling, _ = _timed(lambda path=path, left=unfinished: asyncio.run(_fill(path, count, left)))  # type: ignore[misc]
        found[name] = {"making it, s": filling, "size, MB": round(path.stat().st_size / 1e6, 1)}
        for what in ("read", "resume"):
            command = [sys.executable, "-m", "benchmarks.ledger", "--only", what, "--dir", str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[name] |= json.loads(done.stdout)
    return found


# The program


def main() -> None:
    """Measure, print, and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for ledger.json")
    parser.add_argument("--dir", type=Path, help="folder for files of the measurement")
    parser.add_argument("--jobs", type=int, default=1000, help="jobs of a run with and without the ledger")
    parser.add_argument("--turns", type=int, default=3, help="runs of each")
    parser.add_argument("--many", type=int, default=100_000, help="jobs of the large ledger")
    parser.add_argument("--skip-many", action="store_true", help="leave out the large ledger")
    parser.add_argument("--only", choices=["read", "resume"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(_read(options.dir) if options.only == "read" else asyncio.run(_open_and_resume(options.dir))))
        return
    with tempfile.TemporaryDirectory(dir=options.dir) as place:
        folder = Path(place)
        report = {
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "sqlite": sqlite3.sqlite_version},
            "operations": measure_operations(folder),
            "overhead": asyncio.run(measure_overhead(folder, options.jobs, options.turns)),
            "many": {} if options.skip_many else measure_many(folder, options.many),
        }
    _print(report)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "ledger.json").write_text(json.dumps(report, indent=1) + "\n")


def _print(report: dict[str, Any], depth: int = 0) -> None:
    for name, value in report.items():
        if isinstance(value, dict):
            print(f"{'  ' * depth}{name}")
            _print(value, depth + 1)
        else:
            print(f"{'  ' * depth}{name:<{50 - 2 * depth}} {value}")


if __name__ == "__main__":
    main()
