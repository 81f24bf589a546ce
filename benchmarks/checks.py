"""How many checks a job needs and how late they find its end; the real poller on virtual time.

The poller starts without any knowledge of durations. It is compared with fixed intervals and with the optimal schedule
for the known distribution.
"""

from __future__ import annotations

import random
from collections import deque
from statistics import fmean
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figures, Target, by_size, run
from benchmarks.optimum import (
    Schedule,
    best_interval,
    fixed_interval,
    interval_with_checks,
    optimal,
    optimal_with_checks,
)
from benchmarks.virtual import Account, TaskTimes, VirtualClient, lognormal, run_on_virtual_time
from omni_async import Limits, Polling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MEDIAN, _SIGMA = 120.0, 0.35  # of the lognormal durations of tasks, in seconds
_PEER_INTERVALS = {  # seconds between checks
    "snippet, handwritten: every 5 s": 5.0,
    "openai SDK: every 1 s": 1.0,
}
_IN_FLIGHT, _CHECKS_PER_SECOND = 1000, 10.0


def _mixture(seed: int) -> Callable[[], float]:
    """Return a function that draws durations: most jobs are alike, some are slow, a few fail early."""
    rng = random.Random(seed)

    def draw() -> float:
        u = rng.random()
        if u < 0.85:
            return rng.lognormvariate(4.70, 0.25)  # 110 s
        return rng.lognormvariate(5.60, 0.30) if u < 0.97 else rng.uniform(5, 30)

    return draw


def _follow(
    account: Account, jobs: int, *, limits: Limits, polling: Polling, max_pending: int, seed: int
) -> list[TaskTimes]:
    """Let the real client process this number of jobs and return the times of their tasks."""

    async def work(folder: Path) -> None:
        async with VirtualClient(account, folder, limits=limits, polling=polling) as client:
            prompts = ("a clip" for _ in range(jobs))
            async for job in client.as_completed(prompts, max_pending=max_pending):
                await job

    run_on_virtual_time(work, seed)
    return account.tasks


def _row(distribution: str, schedule: Schedule, name: str) -> dict[str, Any]:
    return {
        "durations": distribution,
        "schedule": name,
        "checks per job": schedule.checks,
        "seconds late": schedule.delay,
        "product": schedule.product,
        "checks + late": schedule.checks + schedule.delay,
    }


def _measure_library(draw: Callable[[], float], jobs: int, *, seed: int, reports_progress: bool = False) -> Schedule:
    account = Account(draw, latency=0.0, reports_progress=reports_progress)
    limits = Limits(submits_per_minute=60)
    tasks = _follow(account, jobs, limits=limits, polling=Polling(), max_pending=100_000, seed=seed)
    return Schedule("omni_async", fmean(task.checks for task in tasks), fmean(task.delay for task in tasks))


def _measure_distribution(
    figures: Figures, distribution: str, draw: Callable[[int], Callable[[], float]]
) -> list[float]:
    jobs, products = by_size(figures, 60, 1500, 3000), []
    durations = [rng() for rng in [draw(-1)] for _ in range(20_000)]
    best = best_interval(durations)
    for seed in range(by_size(figures, 1, 1, 5)):
        ours = _measure_library(draw(seed), jobs, seed=seed)
        products.append(ours.product / best.product)
    least = optimal(durations, Polling().check_cost)
    others = [
        _measure_library(draw(seed), jobs, seed=seed, reports_progress=True),
        best,
        interval_with_checks(durations, ours.checks),
        least,
        optimal_with_checks(durations, ours.checks),
        *(fixed_interval(durations, interval) for interval in _PEER_INTERVALS.values()),
    ]
    names = [
        "omni_async",
        "omni_async, true progress",
        "best fixed interval",
        "fixed, as many checks",
        "optimal, same check_cost",
    ]
    names += ["optimal, as many checks", *_PEER_INTERVALS]
    figures.rows += [_row(distribution, each, name) for each, name in zip([ours, *others], names, strict=True)]
    ratio = (ours.checks + ours.delay) / (least.checks + least.delay)
    figures.notes.append(f"{distribution}: checks + seconds late of the last run / least possible: {ratio:.2f}")
    return products


def _round_robin(draw: Callable[[], float], jobs: int) -> list[float]:
    """Check all jobs in turn, as fast as the limit allows. Return the delay of finding each end, in seconds."""
    now = 0.0
    delays: list[float] = []
    queue = deque(draw() for _ in range(_IN_FLIGHT))
    while len(delays) < jobs:
        now += 1 / _CHECKS_PER_SECOND
        end = queue.popleft()
        if end <= now:
            delays.append(now - end)
            queue.append(now + draw())
        else:
            queue.append(end)
    return delays


def _measure_check_limit(figures: Figures) -> None:
    jobs = by_size(figures, 1100, 5000, 10_000)
    ratios: list[float] = []
    for seed in range(by_size(figures, 1, 1, 3)):
        account = Account(_mixture(seed), latency=0.0)
        limits = Limits(checks_per_second=_CHECKS_PER_SECOND)
        tasks = _follow(account, jobs, limits=limits, polling=Polling(), max_pending=_IN_FLIGHT, seed=seed)
        # Without the start, when nothing is known and all jobs begin together, and the end, when no new ones begin.
        steady = slice(min(2 * _IN_FLIGHT, jobs // 3), max(jobs - _IN_FLIGHT, jobs // 2))
        ours = fmean(task.delay for task in tasks[steady])
        round_robin = fmean(_round_robin(_mixture(seed), jobs)[steady])
        ratios.append(ours / round_robin)
    for name, delay in (("omni_async, 10 checks/s", ours), ("round robin, 10 checks/s", round_robin)):
        figures.rows.append({"durations": "mixture, 1,000 in flight", "schedule": name, "seconds late": delay})
    figures.targets.append(Target("1,000 in flight, 10 checks/s: seconds late / round robin", 0.65, tuple(ratios)))


def measure(figures: Figures) -> None:
    """Measure free polling with two distributions, and polling under a limit."""
    products = _measure_distribution(figures, "lognormal", lambda seed: lognormal(_MEDIAN, _SIGMA, seed))
    figures.targets.append(Target("checks x seconds late / best fixed interval (lognormal)", 0.60, tuple(products)))
    _measure_distribution(figures, "mixture", _mixture)
    _measure_check_limit(figures)


if __name__ == "__main__":
    run("checks", "Checks, and how late they find the end of a job", measure)
