"""What webhooks save, and what a hostile caller costs; real sockets, a sandbox in its own process."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, quantiles
from typing import TYPE_CHECKING, Any

from aiohttp import web

from benchmarks.contest import child
from benchmarks.figures import Aim, Figures, by_size, run
from omni_async import JobEvent, JobStatus, OmniClient
from omni_async.api.http import HttpTransport
from omni_async.sandbox import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omni_async.api.parsing import Response
    from omni_async.api.transport import Transport

_PLAIN, _HOOKS, _HOSTILE = "no webhooks", "webhooks", "webhooks, hostile caller"


@dataclass(frozen=True)
class _Way:
    """How the jobs of a run are followed."""

    hooks: bool = True
    faults: dict[str, float] = field(default_factory=dict)
    calls: int = 0  # of a stranger


@dataclass
class _Run:
    """What one run came to."""

    late: list[float]
    requests: int
    looks: list[tuple[float, str]]
    statuses: dict[str, int]
    seconds: float
    stall: float

    def most_in_a_second(self) -> int:
        """Give how often one job was looked at within one second, at most."""
        most = 0
        by_job: dict[str, list[float]] = {}
        for at, task_id in self.looks:
            times = by_job.setdefault(task_id, [])
            times.append(at)
            most = max(most, sum(at - time < 1 for time in times[-5:]))
        return most


class _Client(OmniClient):
    """The real client; each check is written down."""

    looks: list[tuple[float, str]]

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        self.looks = looks = []

        class Watched(HttpTransport):
            async def check(self, task_id: str) -> Response:
                looks.append((time.time(), task_id))
                return await super().check(task_id)

        return Watched(base_url, api_key)


@asynccontextmanager
async def _mounted(client: OmniClient) -> AsyncIterator[None]:
    """Serve the client's webhooks."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    app = web.Application()
    app.add_subapp("/omni", client.webhook(f"http://127.0.0.1:{listener.getsockname()[1]}/omni"))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _no_server(_: OmniClient) -> AsyncIterator[None]:
    yield


async def _stall(longest: list[float]) -> None:
    """Note for how long the event loop was held up at most."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.01)
        longest[0] = max(longest[0], time.monotonic() - before - 0.01)


async def _followed(way: _Way, jobs: int, median: float) -> _Run:
    noticed: dict[str, float] = {}

    def note(event: JobEvent) -> None:
        if event.status is JobStatus.DOWNLOADING and event.task_id:
            noticed.setdefault(event.task_id, event.timestamp)

    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as folder:
        async with SandboxProcess(prerendered=True, median=median, faults=way.faults, seed=1) as sandbox:
            client = _Client(
                sandbox.api_key,
                base_url=sandbox.base_url,
                output_dir=Path(folder),
                ledger=None,
                on_event=note,
            )
            longest = [0.0]
            async with (_mounted if way.hooks else _no_server)(client), client:
                watcher = asyncio.create_task(_stall(longest))
                work = [client.submit(f"p{number}") for number in range(jobs)]
                told = await _harass(way, [await job.accepted() for job in work], sandbox) if way.calls else {}
                paths = await asyncio.gather(*work)
                requests = client.statistics().checks
                watcher.cancel()
            assert len(set(paths)) == jobs
            tasks = (await sandbox.record())["tasks"]
    late = [noticed[task_id] - tasks[task_id]["completed"] for task_id in tasks]
    return _Run(late, requests, client.looks, told.get("statuses", {}), told.get("seconds", 0.0), longest[0])


async def _harass(way: _Way, task_ids: list[str], sandbox: SandboxProcess) -> dict[str, Any]:
    """Let a stranger call while the jobs run."""
    tasks = (await sandbox.record())["tasks"]
    url = f"{tasks[task_ids[0]]['body']['webhook']}/callback"
    async with child("benchmarks.stranger") as stranger:
        order = {"url": url, "task_ids": task_ids, "calls": way.calls, "huge": way.calls // 500}
        told: dict[str, Any] = await stranger.ask(order)
        return told


def _row(name: str, one: _Run, jobs: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "jobs are followed with": name,
        "jobs": jobs,
        "checks per job": one.requests / jobs,
        "seconds late": fmean(one.late),
        "95 %": quantiles(one.late, n=20)[-1],
        "most": max(one.late),
        "most checks of a job in 1 s": one.most_in_a_second(),
        "loop held up, ms": 1000 * one.stall,
    }
    if one.statuses:
        row |= {"calls": sum(one.statuses.values()), "calls/s": sum(one.statuses.values()) / one.seconds}
    return row


def measure(figures: Figures) -> None:
    """Let the same jobs be followed in each way: the harmless ways at the same time, the hostile one alone."""
    jobs, median = by_size(figures, 8, 300, 300), by_size(figures, 1, 30, 30)
    ways = {
        _PLAIN: _Way(hooks=False),
        _HOOKS: _Way(),
        "webhooks, a fifth lost, a fifth twice": _Way(faults={"lost_webhook": 0.2, "twice_webhook": 0.2}),
        "webhooks that never come": _Way(faults={"lost_webhook": 1.0}),
    }
    hostile = _Way(calls=by_size(figures, 60, 10_000, 10_000))
    runs = asyncio.run(_all(ways, jobs, float(median)))
    runs[_HOSTILE] = asyncio.run(_followed(hostile, jobs, float(median)))
    figures.rows += [_row(name, one, jobs) for name, one in runs.items()]
    statuses = Counter(runs[_HOSTILE].statuses)
    answers = ", ".join(f"{number} x {status}" for status, number in statuses.most_common())
    figures.notes.append(f"The stranger knows the path and all tasks; {hostile.calls} calls were answered: {answers}.")
    plain, hooks, attacked = runs[_PLAIN], runs[_HOOKS], runs[_HOSTILE]
    late = fmean(runs["webhooks that never come"].late) / fmean(plain.late)
    figures.aims += [
        Aim("webhooks: checks per job / without", 0.65, (hooks.requests / plain.requests,)),
        Aim("webhooks: seconds late / without", 0.1, (fmean(hooks.late) / fmean(plain.late),)),
        Aim("webhooks that never come: seconds late / without", 1.5, (late,)),
        Aim("hostile caller: most checks of a job in 1 s", 2, (attacked.most_in_a_second(),)),
        Aim("hostile caller: seconds late / without webhooks", 1.0, (fmean(attacked.late) / fmean(plain.late),)),
    ]


async def _all(ways: dict[str, _Way], jobs: int, median: float) -> dict[str, _Run]:
    runs = await asyncio.gather(*(_followed(way, jobs, median) for way in ways.values()))
    return dict(zip(ways, runs, strict=True))


if __name__ == "__main__":
    run("webhooks", "Webhooks", measure)
