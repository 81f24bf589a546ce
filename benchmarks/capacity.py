"""How fully the real client uses accounts with limits that it does not know; on virtual time.

Each figure is one row of the table in benchmarks/README.md, over ten seeds: the makespan over the least possible, and
the refusals per clip. Even seeds send Retry-After, odd ones do not; every third seed does not tell when tasks ended.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, Any

from benchmarks import lower_bound
from benchmarks.figures import TINY, Figures, Target, by_size, run
from benchmarks.virtual import Account, VirtualClient, lognormal, run_on_virtual_time, true_progress
from omni_async import Limits
from omni_async.ledger import MemoryJobStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_SIGMA = 0.35  # of the lognormal durations


def half(share: float, age: float) -> int:
    """Return the percentage of a server that reports 50 % until the end."""
    return 50


def nothing(share: float, age: float) -> None:
    """Report no percentage."""


def guess(share: float, age: float) -> int:
    """Return the percentage of a server that counts up to its own estimate of 6 s, and stops at 95 %."""
    return min(95, int(100 * age / 6.0))


@dataclass(frozen=True)
class Row:
    """One account and its workload: so many jobs of this median duration in seconds, and what must be reached."""

    jobs: int
    median: float
    account: dict[str, Any]
    least: Callable[[Sequence[float]], float]
    mean: float
    worst: float
    refused: float | None = None
    limits: Limits | None = None


_rate, _at_once = lower_bound.rate_limited, lower_bound.concurrency_limited


def _bucket(durations: Sequence[float]) -> float:
    return lower_bound.rate_limited(durations, 20.0, burst=10)


def _window(durations: Sequence[float]) -> float:
    return lower_bound.windowed(durations, 30, 10.0)


def _both(durations: Sequence[float]) -> float:
    return lower_bound.rate_and_concurrency_limited(durations, 4.0, 30)


_AT_ONCE = {"progress": true_progress}
ROWS = {
    "200 at once": Row(800, 20, {"capacity": 200} | _AT_ONCE, partial(_at_once, capacity=200), 1.10, 1.20, 0.04),
    "50 at once": Row(200, 8, {"capacity": 50} | _AT_ONCE, partial(_at_once, capacity=50), 1.10, 1.20, 0.04),
    **{
        f"12 at once, progress {name}": Row(
            100, 5, {"capacity": 12, "progress": progress}, partial(_at_once, capacity=12), 1.12, 1.25, 0.06
        )
        for name, progress in {"true": true_progress, "50 %": half, "guessed": guess, "missing": nothing}.items()
    },
    "no limit, progress 50 %": Row(100, 9, {"progress": half}, max, 1.3, 1.45, 0.0),
    "4/s": Row(100, 8, {"per_second": 4.0}, partial(_rate, per_second=4.0), 1.08, 1.2, 0.03),
    "30 in 10 s": Row(100, 8, {"window": (30, 10.0)}, _window, 1.12, 1.3, 0.08),
    "20/s, bucket 10": Row(1000, 8, {"per_second": 20.0, "burst": 10}, _bucket, 1.075, 1.12, 0.04),
    "4/s and 30 at once": Row(300, 8, {"per_second": 4.0, "capacity": 30}, _both, 1.12, 1.25, 0.06),
    "4/s, POST 1 s": Row(
        200, 8, {"per_second": 4.0, "submit_latency": 1.0}, partial(_rate, per_second=4.0), 1.10, 1.25
    ),
    "20/s, bucket 10, POST .1 s": Row(
        1000, 8, {"per_second": 20.0, "burst": 10, "submit_latency": 0.1}, _bucket, 1.075, 1.15, 0.04
    ),
    "20/s, bucket 10, POST 1 s": Row(
        1000, 8, {"per_second": 20.0, "burst": 10, "submit_latency": 1.0}, _bucket, 1.12, 1.2
    ),
    "200 at once, POST 1 s": Row(
        800, 20, {"capacity": 200, "submit_latency": 1.0} | _AT_ONCE, partial(_at_once, capacity=200), 1.15, 1.25
    ),
    "12 at once, told": Row(
        100,
        5,
        {"capacity": 12, "progress": true_progress},
        partial(_at_once, capacity=12),
        1.15,
        1.25,
        0.0,
        Limits(max_in_flight=12),
    ),
    "200 at once, told": Row(
        800,
        20,
        {"capacity": 200, "progress": true_progress},
        partial(_at_once, capacity=200),
        1.15,
        1.25,
        0.0,
        Limits(max_in_flight=200),
    ),
}


def run_row(name: str, seed: int) -> tuple[float, float]:
    """Return the makespan over the least possible, and the refusals per clip."""
    row = ROWS[name]
    draw = lognormal(row.median, _SIGMA, seed)
    durations = [draw() for _ in range(row.jobs)]
    replay = iter(durations)
    account = Account(lambda: next(replay), retry_after=seed % 2 == 0, tells_end=seed % 3 != 2, **row.account)
    seconds = 0.0

    async def work(folder: Path) -> None:
        nonlocal seconds
        began = asyncio.get_running_loop().time()
        async with VirtualClient(account, folder, limits=row.limits) as client:
            await asyncio.gather(*[client.submit(f"clip {number}") for number in range(row.jobs)])
        # Not the last download but the end of the last task; where progress or polling matter, when that was noticed.
        last = max(task.noticed or 0.0 for task in account.tasks) if row.least is max else 0.0
        seconds = max(last, *(task.ready for task in account.tasks)) - began

    run_on_virtual_time(work, seed)
    return seconds / row.least(durations), account.rate_limited / row.jobs


# Figures of another kind: each returns the share or the seconds, and the refusals per clip.


def changing(seed: int, *, limit: str, values: tuple[float, float, float], part: float, possible: float) -> Any:
    """Return the share of the possible submits that were accepted while a limit changed twice."""
    account = Account(lognormal(20, _SIGMA, seed), retry_after=seed % 2 == 0, progress=true_progress)

    async def change() -> None:
        for value in values:
            setattr(account, limit, value)
            await asyncio.sleep(part)

    async def work(folder: Path) -> None:
        account_changes = asyncio.create_task(change())
        await asyncio.sleep(0)

        async def submit() -> None:
            async with VirtualClient(account, folder) as client:
                async for job in client.as_completed((f"clip {n}" for n in range(10**9)), max_pending=400):
                    del job

        with suppress(TimeoutError):
            async with asyncio.timeout(3 * part):
                await submit()
        account_changes.cancel()

    run_on_virtual_time(work, seed)
    return len(account.tasks) / possible, account.rate_limited / len(account.tasks)


def free(seed: int, *, submit_latency: float, jobs: int, runs: int) -> Any:
    """Return after how many seconds a free account has accepted so many jobs, in the last of some runs."""
    account = Account(lognormal(3, _SIGMA, seed), submit_latency=submit_latency, progress=half)
    seconds = 0.0

    async def work(folder: Path) -> None:
        nonlocal seconds
        store = MemoryJobStore()
        for number in range(runs):
            began, first = asyncio.get_running_loop().time(), len(account.tasks)
            async with VirtualClient(account, folder, ledger=store) as client:
                await asyncio.gather(*[client.submit(f"clip {number} {each}") for each in range(jobs)])
            seconds = max(task.accepted for task in account.tasks[first:]) - began

    run_on_virtual_time(work, seed)
    return seconds, account.rate_limited / jobs


def downloads(seed: int, *, jobs: int) -> Any:
    """Return the end of a run over the time when its last clip was ready, where each clip takes 0.08 s."""
    account = Account(
        lognormal(20, _SIGMA, seed), progress=true_progress, submit_latency=0.02, clip_seconds=0.08 - 0.05
    )
    ratio = 0.0

    async def work(folder: Path) -> None:
        nonlocal ratio
        began = asyncio.get_running_loop().time()
        async with VirtualClient(account, folder) as client:
            await asyncio.gather(*[client.submit(f"clip {number}") for number in range(jobs)])
            ended = asyncio.get_running_loop().time()
        ratio = (ended - began) / (max(task.ready for task in account.tasks) - began)

    run_on_virtual_time(work, seed)
    return ratio, 0.0


def lateness(seed: int, *, progress: Callable[[float, float], int | None]) -> float:
    """Return the mean seconds until the end of a task is noticed on a server with 20 workers and a queue."""
    account = Account(lognormal(20, _SIGMA, seed), workers=20, progress=progress)

    async def work(folder: Path) -> None:
        async with VirtualClient(account, folder) as client:
            await asyncio.gather(*[client.submit(f"clip {number}") for number in range(200)])

    run_on_virtual_time(work, seed)
    return mean(task.delay for task in account.tasks)


def queue_like(seed: int) -> Any:
    """Return the lateness where tasks report 0 % until a worker starts them, over that without any progress."""
    return lateness(seed, progress=true_progress) / lateness(seed, progress=nothing), 0.0


_MEAN_20 = 20 * 2.718281828 ** (_SIGMA**2 / 2)
OTHERS: dict[str, tuple[Callable[[int], Any], float, bool]] = {  # with the target, and whether it is a least value
    "200, 50, 200 at once: share": (
        partial(changing, limit="capacity", values=(200, 50, 200), part=600, possible=600 * 450 / _MEAN_20),
        0.90,
        True,
    ),
    "60, 20, 60 a minute: share": (
        partial(changing, limit="per_second", values=(1, 1 / 3, 1), part=3600, possible=3600 * 7 / 3),
        0.96,
        True,
    ),
    "free, POST 1 s: seconds to 1,000": (partial(free, submit_latency=1.0, jobs=1000, runs=1), 30.0, False),
    "free, POST .02 s: seconds to 100": (partial(free, submit_latency=0.02, jobs=100, runs=1), 1.5, False),
    "the same in a second run": (partial(free, submit_latency=0.02, jobs=100, runs=2), 0.7, False),
    "8,000 clips of .08 s: end / last ready": (partial(downloads, jobs=8000), 1.1, False),
    "queue-like, progress 0 until started: late / without progress": (queue_like, 1.1, False),
}


def _run_one(task: tuple[str, int]) -> tuple[float, float]:
    name, seed = task
    return run_row(name, seed) if name in ROWS else OTHERS[name][0](seed)


def measure(figures: Figures) -> None:
    """Measure every row with each seed."""
    first = int(os.environ.get("CAPACITY_FIRST_SEED", "0"))
    seeds = range(first, first + by_size(figures, 1, 3, 10))
    names = [name for name in ROWS if ROWS[name].jobs <= 100] if figures.size == TINY else [*ROWS, *OTHERS]
    only = os.environ.get("CAPACITY_ONLY", "")
    names = [name for name in names if any(part in name for part in only.split(","))]
    counts = {name: 1 if name.startswith("8,000") else len(seeds) for name in names}
    tasks = [(name, seed) for name in names for seed in list(seeds)[: counts[name]]]
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = dict(zip(tasks, pool.map(_run_one, tasks), strict=True))
    figures.curves = {
        f"{title}: makespan / least, by seed": {
            name: [number for seed in seeds for number in (seed, results[name, seed][0])]
            for name in names
            if name in ROWS and ("at once" in name or "no limit" in name) == is_concurrency
        }
        for title, is_concurrency in (("Concurrency limits", True), ("Rate limits", False))
    }
    for name in names:
        values = [results[task] for task in tasks if task[0] == name]
        ratios, refused = tuple(each[0] for each in values), tuple(each[1] for each in values)
        is_share = name in OTHERS and OTHERS[name][2]
        figures.rows.append(
            {
                "account": name,
                "mean": mean(ratios),
                "best": max(ratios) if is_share else min(ratios),
                "worst": min(ratios) if is_share else max(ratios),
                "must reach": ROWS[name].mean if name in ROWS else OTHERS[name][1],
                "refused": mean(refused),
                "at most": max(refused),
                "values": [round(each, 3) for each in ratios],
                "refusals": [round(each, 4) for each in refused],
            }
        )
        figures.targets.append(Target(name, figures.rows[-1]["must reach"], ratios, at_least=is_share))
        if name in ROWS:
            figures.targets.append(Target(f"{name}: worst seed", ROWS[name].worst, (max(ratios),)))
            if (most := ROWS[name].refused) is not None:
                figures.targets.append(Target(f"{name}: refused per clip", most, (mean(refused),)))


if __name__ == "__main__":
    run("capacity", "How fully unknown limits of an account are used", measure)
