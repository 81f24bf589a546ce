"""A fleet of three workers beside a single client: share of the account's limit, takeover, checks, CPU and tables.

All processes run on this machine, with a Postgres of the benchmark's own; in real time.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import fleet_tables
from benchmarks.comparison import PeerResult, PeerRun, run_all, start_module
from benchmarks.figures import TINY, Figures, Target, by_size, run
from omni_async.cli.demo_postgres import demo_postgres
from omni_async.fleet import Database, Fleet, install
from omni_async.sandbox import SandboxProcess

if TYPE_CHECKING:
    from benchmarks.comparison import ChildProcess

_PER_SECOND, _BURST = 20.0, 10  # of the account
_ACCOUNT: dict[str, Any] = {"per_minute": 60 * _PER_SECOND, "burst": _BURST, "latency": 0.1, "median": 5.0}
_WORKERS = 3
_SETTLED = 5.0  # seconds after the first submit of a new leader from which on it must be as fast as the limit
_BEFORE = 10.0
_SINGLE, _FLEET, _TAKEOVER = "single client", "fleet of 3", "fleet of 3, leader killed"


@dataclass
class _Run:
    """What a fleet has done. Times are unix seconds, `cpu` is seconds by worker."""

    created: list[float]
    refused: int
    checks: int
    cpu: dict[str, float]
    leader: str
    killed_at: float | None = None
    refused_before: int = 0


@dataclass
class _FleetProcesses:
    """Worker processes, a sandbox and a database."""

    url: str
    sandbox: SandboxProcess
    workers: dict[str, ChildProcess]

    async def leader(self) -> str:
        """Return the name of the worker that leads, as soon as one does."""
        async with await Database(self.url).connect("benchmark") as db:
            while True:
                cursor = await db.execute("SELECT holder FROM omni_accounts WHERE expires_at > now()")
                if (row := await cursor.fetchone()) is not None and row[0] in self.workers:
                    return str(row[0])
                await asyncio.sleep(0.05)

    async def wait_until_accepted(self, count: int) -> dict[str, Any]:
        """Return the sandbox's record, as soon as it has accepted that many tasks."""
        while (record := await self.sandbox.record())["accepted"] < count:
            await asyncio.sleep(0.2)
        return record


async def _run_fleet(postgres: str, folder: Path, jobs: int, *, kill_after: int | None = None) -> _Run:
    """Run jobs with three workers; kill the one that leads when so many are accepted."""
    url = await _new_database(postgres, f"run_{time.time_ns()}")
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(SandboxProcess(prerendered=True, **_ACCOUNT))
        async with Fleet(url) as fleet:
            await fleet.enqueue({str(number): f"clip {number}" for number in range(jobs)})
        workers = {f"worker-{n}": await stack.enter_async_context(_worker()) for n in range(_WORKERS)}
        settings = {"database": url, "store": str(folder), "base_url": sandbox.base_url, "api_key": sandbox.api_key}
        for name, worker in workers.items():
            await worker.send(settings | {"name": name, "limits": {}})
        for worker in workers.values():
            assert (await worker.read_line()).strip() == b"ready"
        ends = {name: asyncio.create_task(worker.request("go")) for name, worker in workers.items()}
        processes = _FleetProcesses(url, sandbox, workers)
        leader, killed_at, refused_before = await processes.leader(), None, 0
        if kill_after is not None:
            record = await processes.wait_until_accepted(kill_after)
            ends.pop(leader).cancel()
            workers[leader].kill()
            killed_at, refused_before = time.time(), record["refused"].get("429", 0)
        cpu = {name: (await end)["cpu"] for name, end in ends.items()}
        record = await sandbox.record()
    clips = _count_clips(folder)
    assert clips == jobs == len(record["tasks"]), f"{clips} clips and {len(record['tasks'])} tasks of {jobs} jobs"
    created = sorted(task["created"] for task in record["tasks"].values())
    refused = record["refused"].get("429", 0)
    return _Run(created, refused, record["checks"], cpu, leader, killed_at, refused_before)


def _count_clips(folder: Path) -> int:
    return len(list(folder.glob("*.mp4")))


def _worker() -> Any:
    return start_module("benchmarks.fleet_worker")


async def _new_database(postgres: str, name: str) -> str:
    async with await Database(postgres).connect("benchmark") as db:
        await db.execute(f"CREATE DATABASE {name}".encode())
    url = postgres.replace("/postgres?", f"/{name}?")
    await install(url)
    return url


def _share(created: list[float]) -> float:
    """Return the share of the account's limit that was used: the least time for these submits / their time."""
    return (len(created) - _BURST) / _PER_SECOND / (created[-1] - created[0])


def _takeover(result: _Run) -> tuple[float, float, float]:
    """Return the longest time without a submit after the leader was killed, and the shares of the limit around it.

    The shares are those of the last `_BEFORE` seconds before, and from `_SETTLED` seconds after it to the end.
    """
    assert result.killed_at is not None
    silence, first = max(
        (later - earlier, later) for earlier, later in pairwise(result.created) if later > result.killed_at
    )
    before = sum(0 <= result.killed_at - at < _BEFORE for at in result.created) / _BEFORE / _PER_SECOND
    late = [at for at in result.created if at >= first + _SETTLED]
    return silence, before, (len(late) - 1) / _PER_SECOND / (late[-1] - late[0]) if len(late) > 2 else 0.0


async def _measure_runs(figures: Figures, postgres: str) -> None:
    """Run a single client and a fleet at the same time, each with an account of its own; then a fleet alone, harmed."""
    jobs = by_size(figures, 40, 1000, 1000)
    singles: list[PeerResult] = []
    fleets: list[_Run] = []
    takeovers: list[_Run] = []
    for _ in range(by_size(figures, 1, 1, 3)):
        with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as folder:
            single, fleet = await asyncio.gather(
                run_all([PeerRun(_SINGLE, "library", jobs, _ACCOUNT)]), _run_fleet(postgres, Path(folder), jobs)
            )
            singles += single
            fleets.append(fleet)
        if figures.size != TINY:  # the end of a lease takes longer than all of the tiny size
            with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as folder:
                takeovers.append(await _run_fleet(postgres, Path(folder), jobs, kill_after=jobs * 4 // 10))
    figures.rows += [_single_row(each, jobs) for each in singles]
    figures.rows += [_fleet_row(_FLEET, each, jobs) for each in fleets]
    figures.rows += [_fleet_row(_TAKEOVER, each, jobs) for each in takeovers]
    _add_targets(figures, singles, fleets, takeovers, jobs)
    curves = {_SINGLE: _curve(_accepted(singles[0])), f"omni_async: {_FLEET}": _curve(fleets[0].created)}
    if takeovers:
        curves[f"omni_async: {_TAKEOVER}"] = _curve(takeovers[0].created)
    curves["the limit"] = [0.0, _BURST, (jobs - _BURST) / _PER_SECOND, jobs]
    figures.curves[f"Jobs accepted after so many seconds, by an account of {_PER_SECOND:g} a second"] = curves


def _accepted(single: PeerResult) -> list[float]:
    return [start for start, _ in single.task_times]


def _curve(created: list[float]) -> list[float]:
    """Return x and y alternating: seconds, and the number of jobs accepted by then."""
    return [value for number, at in enumerate(created, 1) for value in (round(at - created[0], 2), number)]


def _single_row(result: PeerResult, jobs: int) -> dict[str, Any]:
    return {
        "what": _SINGLE,
        "jobs": jobs,
        "share of the limit": _share(_accepted(result)),
        "429s": result.refused,
        "checks per job": result.checks / jobs,
        "CPU ms per job": result.cpu_ms,
    }


def _fleet_row(name: str, result: _Run, jobs: int) -> dict[str, Any]:
    row = {
        "what": name,
        "jobs": jobs,
        "share of the limit": _share(result.created),
        "429s": result.refused,
        "checks per job": result.checks / jobs,
    }
    if result.killed_at is None:
        others = [seconds for worker, seconds in result.cpu.items() if worker != result.leader]
        row |= {"CPU ms per job": 1000 * result.cpu[result.leader] / jobs}
        return row | {"each other worker": 1000 * sum(others) / len(others) / jobs}
    silence, before, after = _takeover(result)
    refused = result.refused - result.refused_before
    return row | {"silent for s": silence, "share before": before, "after": after, "429s after": refused}


def _add_targets(
    figures: Figures, singles: list[PeerResult], fleets: list[_Run], takeovers: list[_Run], jobs: int
) -> None:
    pairs = list(zip(singles, fleets, strict=True))
    points = tuple(100 * (_share(fleet.created) - _share(_accepted(single))) for single, fleet in pairs)
    checks = tuple((fleet.checks - single.checks) / jobs for single, fleet in pairs)
    cpu = tuple(1000 * fleet.cpu[fleet.leader] / jobs / single.cpu_ms for single, fleet in pairs)
    figures.targets += [
        Target("share of the limit: fleet less single client, points", -2, points, at_least=True),
        Target("checks per job: fleet less single client", 0.1, checks),
        Target("the leader's CPU per job / single client", 1.5, cpu),
    ]
    if takeovers:
        shares = [_takeover(each)[1:] for each in takeovers]
        kept = tuple(after / before for before, after in shares)
        refused = tuple(float(each.refused - each.refused_before) for each in takeovers)
        figures.targets += [
            Target(
                f"share of the limit from {_SETTLED:g} s after a takeover",
                0.95,
                tuple(after for _, after in shares),
                at_least=True,
            ),
            Target("the same / share before the takeover", 0.95, kept, at_least=True),
            Target("429s after a takeover", 5, refused),
        ]


async def _measure_tables(figures: Figures, postgres: str) -> None:
    url = await _new_database(postgres, "tables")
    rows, writers = by_size(figures, 400, 50_000, 50_000), by_size(figures, 20, 200, 200)
    rates = [await fleet_tables.enqueued_per_second(url, rows, number * rows) for number in range(3)]
    intents = await fleet_tables.intents_per_second(url, writers, rows // writers // 10, 3)
    queue = await fleet_tables.measure_queue(url, large := by_size(figures, 2000, 2_000_000, 10_000_000))
    figures.rows += [
        {"what": f"enqueue of {rows:,} jobs", "per second": median(rates)},
        {"what": f"durable intents of {writers} coroutines", "per second": median(intents)},
        queue,
    ]
    figures.targets += [
        Target("enqueue: rows per second", 20_000, tuple(rates), at_least=True),
        Target(f"durable intents per second, {writers} coroutines", 1000, tuple(intents), at_least=True),
        Target(f"reading the queue among {large:,} jobs, ms", 20, (queue["ms, jobs have left it"],)),
    ]


async def _measure(figures: Figures) -> None:
    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as folder:
        async with demo_postgres(Path(folder)) as postgres:
            await _measure_tables(figures, postgres)
            await _measure_runs(figures, postgres)


def measure(figures: Figures) -> None:
    """Measure the tables first, where nothing else runs, and then whole runs."""
    asyncio.run(_measure(figures))


if __name__ == "__main__":
    run("fleet", "A fleet beside a single client", measure)
