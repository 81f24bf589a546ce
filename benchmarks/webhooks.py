"""What webhooks save, and what a hostile caller costs. Real sockets, in real time, a sandbox in its own process."""

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

from benchmarks.comparison import start_module
from benchmarks.figures import Figures, Target, by_size, run
from omni_async import JobEvent, JobStatus, OmniClient
from omni_async.api.http import HttpTransport
from omni_async.sandbox import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omni_async.api.parsing import Response
    from omni_async.api.transport import Transport

_PLAIN, _WEBHOOKS, _HOSTILE = "no webhooks", "webhooks", "webhooks, hostile caller"


@dataclass(frozen=True)
class _Setup:
    """How the jobs of a run are followed. `calls` is the number of hostile webhook calls."""

    has_webhook: bool = True
    faults: dict[str, float] = field(default_factory=dict)
    calls: int = 0


@dataclass
class _Run:
    """The result of one run.

    `delays` are seconds from the end of a task until the client knows it. `checks` are the time and task id of
    each status request. `statuses` counts the responses to hostile calls, which took `seconds`. `longest_block` is the
    longest time in seconds for which the event loop was blocked.
    """

    delays: list[float]
    requests: int
    checks: list[tuple[float, str]]
    statuses: dict[str, int]
    seconds: float
    longest_block: float

    def most_checks_in_a_second(self) -> int:
        """Return the highest number of checks of one job within one second."""
        most = 0
        by_job: dict[str, list[float]] = {}
        for at, task_id in self.checks:
            times = by_job.setdefault(task_id, [])
            times.append(at)
            most = max(most, sum(at - time < 1 for time in times[-5:]))
        return most


class _Client(OmniClient):
    """The real client, which records each check."""

    recorded_checks: list[tuple[float, str]]

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        self.recorded_checks = checks = []

        class RecordingTransport(HttpTransport):
            async def check(self, task_id: str) -> Response:
                checks.append((time.time(), task_id))
                return await super().check(task_id)

        return RecordingTransport(base_url, api_key)


@asynccontextmanager
async def _serve_webhooks(client: OmniClient) -> AsyncIterator[None]:
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
async def _serve_nothing(_: OmniClient) -> AsyncIterator[None]:
    yield


async def _watch_loop(longest: list[float]) -> None:
    """Record the longest time in seconds for which the event loop was blocked."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.01)
        longest[0] = max(longest[0], time.monotonic() - before - 0.01)


async def _measure_setup(setup: _Setup, jobs: int, median: float) -> _Run:
    known_at: dict[str, float] = {}

    def record(event: JobEvent) -> None:
        if event.status is JobStatus.DOWNLOADING and event.task_id:
            known_at.setdefault(event.task_id, event.timestamp)

    with tempfile.TemporaryDirectory(prefix="omni-benchmark-") as folder:
        async with SandboxProcess(prerendered=True, median=median, faults=setup.faults, seed=1) as sandbox:
            client = _Client(
                sandbox.api_key,
                base_url=sandbox.base_url,
                output_dir=Path(folder),
                ledger=None,
                on_event=record,
            )
            longest = [0.0]
            async with (_serve_webhooks if setup.has_webhook else _serve_nothing)(client), client:
                watcher = asyncio.create_task(_watch_loop(longest))
                jobs_submitted = [client.submit(f"p{number}") for number in range(jobs)]
                attack = (
                    await _attack(setup, [await job.accepted() for job in jobs_submitted], sandbox)
                    if setup.calls
                    else {}
                )
                paths = await asyncio.gather(*jobs_submitted)
                requests = client.statistics().checks
                watcher.cancel()
            assert len(set(paths)) == jobs
            tasks = (await sandbox.record())["tasks"]
    delays = [known_at[task_id] - tasks[task_id]["completed"] for task_id in tasks]
    return _Run(
        delays, requests, client.recorded_checks, attack.get("statuses", {}), attack.get("seconds", 0.0), longest[0]
    )


async def _attack(setup: _Setup, task_ids: list[str], sandbox: SandboxProcess) -> dict[str, Any]:
    """Attack the webhook while the jobs run, and return the number of responses by status."""
    tasks = (await sandbox.record())["tasks"]
    url = f"{tasks[task_ids[0]]['body']['webhook']}/callback"
    async with start_module("benchmarks.hostile_caller") as caller:
        large = setup.calls // 500
        assignment = {"url": url, "task_ids": task_ids, "calls": setup.calls, "large_bodies": large}
        result: dict[str, Any] = await caller.request(assignment)
        return result


def _row(name: str, result: _Run, jobs: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "jobs are followed with": name,
        "jobs": jobs,
        "checks per job": result.requests / jobs,
        "seconds late": fmean(result.delays),
        "95 %": quantiles(result.delays, n=20)[-1],
        "max": max(result.delays),
        "most checks of a job in 1 s": result.most_checks_in_a_second(),
        "loop blocked, ms": 1000 * result.longest_block,
    }
    if result.statuses:
        row |= {"calls": sum(result.statuses.values()), "calls/s": sum(result.statuses.values()) / result.seconds}
    return row


def measure(figures: Figures) -> None:
    """Measure the same jobs in each setup: all without an attack at the same time, then the attack alone."""
    jobs, median = by_size(figures, 8, 300, 300), by_size(figures, 1, 30, 30)
    setups = {
        _PLAIN: _Setup(has_webhook=False),
        _WEBHOOKS: _Setup(),
        "webhooks, a fifth lost, a fifth twice": _Setup(faults={"lost_webhook": 0.2, "twice_webhook": 0.2}),
        "webhooks that never come": _Setup(faults={"lost_webhook": 1.0}),
    }
    hostile = _Setup(calls=by_size(figures, 60, 10_000, 10_000))
    runs = asyncio.run(_measure_all(setups, jobs, float(median)))
    runs[_HOSTILE] = asyncio.run(_measure_setup(hostile, jobs, float(median)))
    figures.rows += [_row(name, result, jobs) for name, result in runs.items()]
    statuses = Counter(runs[_HOSTILE].statuses)
    responses = ", ".join(f"{number} x {status}" for status, number in statuses.most_common())
    figures.notes.append(
        f"The caller knows the path and all task ids. Responses to its {hostile.calls} calls: {responses}."
    )
    plain, webhooks, attacked = runs[_PLAIN], runs[_WEBHOOKS], runs[_HOSTILE]
    delay = fmean(runs["webhooks that never come"].delays) / fmean(plain.delays)
    figures.targets += [
        Target("webhooks: checks per job / without", 0.65, (webhooks.requests / plain.requests,)),
        Target("webhooks: seconds late / without", 0.1, (fmean(webhooks.delays) / fmean(plain.delays),)),
        Target("webhooks that never come: seconds late / without", 1.5, (delay,)),
        Target("hostile caller: most checks of a job in 1 s", 2, (attacked.most_checks_in_a_second(),)),
        Target("hostile caller: seconds late / without webhooks", 1.0, (fmean(attacked.delays) / fmean(plain.delays),)),
    ]


async def _measure_all(setups: dict[str, _Setup], jobs: int, median: float) -> dict[str, _Run]:
    runs = await asyncio.gather(*(_measure_setup(setup, jobs, median) for setup in setups.values()))
    return dict(zip(setups, runs, strict=True))


if __name__ == "__main__":
    run("webhooks", "Webhooks", measure)
