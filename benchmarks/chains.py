"""Chains side by side, beside as many plain jobs: CPU and memory for each job, on virtual time.

A chain goes on as soon as its parent is finished on the server. The client is real, the server is in memory; each
figure is taken in a process of its own, at two sizes, so that whatever grows faster than the work shows.
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

from benchmarks.figures import Aim, Figures, by_size, run
from benchmarks.virtual import Account, VirtualClient, lognormal, on_virtual_time
from omni_async import batch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from omni_async import Job, OmniClient

_ROOT = Path(__file__).parent.parent
_TURNS = 3
_MEDIAN, _SIGMA = 60.0, 0.35


async def _plain(client: OmniClient, chains: int, _: Path) -> None:
    await asyncio.gather(*[client.submit(f"clip {number}", key=f"c{number}") for number in range(chains * _TURNS)])


async def _extended(client: OmniClient, chains: int, _: Path) -> None:
    jobs: list[Job] = []
    for number in range(chains):
        job = client.submit(f"clip {number}", key=f"c{number}")
        jobs.append(job)
        for turn in range(1, _TURNS):
            job = job.extend(f"turn {turn}", key=f"c{number}-{turn}")
            jobs.append(job)
    await asyncio.gather(*jobs)


async def _star(client: OmniClient, chains: int, _: Path) -> None:
    first = client.submit("the one that all others extend", key="first")
    jobs = [first.extend(f"turn {number}", key=f"c{number}") for number in range(chains * _TURNS - 1)]
    await asyncio.gather(first, *jobs)


async def _from_file(client: OmniClient, chains: int, folder: Path) -> None:
    records = [
        {"id": f"c{number}-{turn}", "prompt": f"turn {turn}"}
        | ({"extend_from": f"c{number}-{turn - 1}"} if turn else {})
        for turn in reversed(range(_TURNS))
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
    "one parent, all others extend it": _star,
}


def _child(kind: str, chains: int) -> None:
    account = Account(lognormal(_MEDIAN, _SIGMA, 1))
    told: dict[str, Any] = {}

    async def work(folder: Path) -> None:
        before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        async with VirtualClient(account, folder) as client:
            await _KINDS[kind](client, chains, folder)
            told["done"] = client.statistics().completed
        told["cpu"] = time.process_time() - cpu
        told["peak"] = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        told["virtual"] = asyncio.get_running_loop().time()

    on_virtual_time(work)
    print(json.dumps(told))


def measure(figures: Figures) -> None:
    """Measure each kind at both sizes."""
    sizes = (by_size(figures, 5, 500, 1_000), by_size(figures, 10, 1_500, 3_000))
    cpu: dict[tuple[str, int], float] = {}
    for kind in _KINDS:
        for chains in sizes:
            command = [sys.executable, "-m", "benchmarks.chains", "--child", kind, str(chains)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
            told = json.loads(done.stdout.splitlines()[-1])
            jobs = chains * _TURNS
            assert told["done"] == jobs
            cpu[kind, chains] = 1000 * told["cpu"] / jobs
            figures.rows.append(
                {
                    "kind": kind,
                    "jobs": jobs,
                    "CPU ms per job": cpu[kind, chains],
                    "peak KB per job": told["peak"] / jobs / 1024,
                    "virtual seconds": told["virtual"],
                }
            )
    most = sizes[-1]
    ratio = cpu["chains of 3", most] / cpu["plain jobs", most]
    figures.aims.append(Aim("CPU of a job in a chain, over that of a plain one", 1.5, (ratio,)))
    for kind in _KINDS:
        growth = cpu[kind, most] / cpu[kind, sizes[0]]
        figures.aims.append(Aim(f"CPU per job at {most / sizes[0]:g} times the size: {kind}", 1.5, (growth,)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2], int(sys.argv[3]))
    else:
        run("chains", "Chains side by side", measure)
