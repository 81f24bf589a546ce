"""CPU and memory per job of many chains, beside the same number of plain jobs; on virtual time.

Each job of a chain is submitted when its parent has finished on the server. The client is real, the server is in
memory. Each figure is measured in its own process and at two sizes, to show whatever grows faster than the number of
jobs.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figures, Target, by_size, run
from benchmarks.virtual import Account, VirtualClient, lognormal, run_on_virtual_time
from omni_async import batch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from omni_async import Job, OmniClient

_ROOT = Path(__file__).parent.parent
_LENGTH = 3  # jobs per chain
_MEDIAN, _SIGMA = 60.0, 0.35  # of the lognormal durations of tasks, in seconds


async def _plain(client: OmniClient, chains: int, _: Path) -> None:
    await asyncio.gather(*[client.submit(f"clip {number}", key=f"c{number}") for number in range(chains * _LENGTH)])


async def _extended(client: OmniClient, chains: int, _: Path) -> None:
    jobs: list[Job] = []
    for number in range(chains):
        job = client.submit(f"clip {number}", key=f"c{number}")
        jobs.append(job)
        for turn in range(1, _LENGTH):
            job = job.extend(f"turn {turn}", key=f"c{number}-{turn}")
            jobs.append(job)
    await asyncio.gather(*jobs)


async def _one_parent(client: OmniClient, chains: int, _: Path) -> None:
    first = client.submit("the clip that all others extend", key="first")
    jobs = [first.extend(f"turn {number}", key=f"c{number}") for number in range(chains * _LENGTH - 1)]
    await asyncio.gather(first, *jobs)


async def _from_file(client: OmniClient, chains: int, folder: Path) -> None:
    records = [
        {"id": f"c{number}-{turn}", "prompt": f"turn {turn}"}
        | ({"extend_from": f"c{number}-{turn - 1}"} if turn else {})
        for turn in reversed(range(_LENGTH))
        for number in range(chains)
    ]
    file = folder / "chains.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    async for job in client.as_completed(batch.submit_lines(client, batch.read(file)), max_pending=10 * chains):
        await job


_KINDS: dict[str, Callable[[OmniClient, int, Path], Coroutine[Any, Any, None]]] = {
    "plain jobs": _plain,
    "chains of 3": _extended,
    "chains of 3, from a file, children first": _from_file,
    "one parent, all others extend it": _one_parent,
}


def _measure_kind(kind: str, chains: int) -> None:
    account = Account(lognormal(_MEDIAN, _SIGMA, 1))
    measured: dict[str, Any] = {}

    async def work(folder: Path) -> None:
        before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        async with VirtualClient(account, folder) as client:
            await _KINDS[kind](client, chains, folder)
            measured["done"] = client.statistics().completed
        measured["cpu"] = time.process_time() - cpu
        measured["peak"] = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        measured["virtual"] = asyncio.get_running_loop().time()

    run_on_virtual_time(work)
    print(json.dumps(measured))


def measure(figures: Figures) -> None:
    """Measure each kind of jobs at both sizes."""
    sizes = (by_size(figures, 5, 500, 1_000), by_size(figures, 10, 1_500, 3_000))
    cpu: dict[tuple[str, int], float] = {}
    for kind in _KINDS:
        for chains in sizes:
            command = [sys.executable, "-m", "benchmarks.chains", "--child", kind, str(chains)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
            measured = json.loads(done.stdout.splitlines()[-1])
            jobs = chains * _LENGTH
            assert measured["done"] == jobs
            cpu[kind, chains] = 1000 * measured["cpu"] / jobs
            figures.rows.append(
                {
                    "kind": kind,
                    "jobs": jobs,
                    "CPU ms per job": cpu[kind, chains],
                    "peak KB per job": measured["peak"] / jobs / 1024,
                    "virtual seconds": measured["virtual"],
                }
            )
    largest = sizes[-1]
    ratio = cpu["chains of 3", largest] / cpu["plain jobs", largest]
    figures.targets.append(Target("CPU per job: chains of 3 / plain jobs", 1.5, (ratio,)))
    for kind in _KINDS:
        growth = cpu[kind, largest] / cpu[kind, sizes[0]]
        figures.targets.append(
            Target(
                f"CPU per job at {largest / sizes[0]:g} times the size / at the smaller size: {kind}", 1.5, (growth,)
            )
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _measure_kind(sys.argv[2], int(sys.argv[3]))
    else:
        run("chains", "Chains of clips", measure)
