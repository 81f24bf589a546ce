"""How many checks find out how late that a job is done: the real poller on virtual time, learning from nothing."""

from __future__ import annotations

import random
from collections import deque
from statistics import fmean
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Aim, Figures, by_size, run
from benchmarks.optimum import Schedule, at_intervals, best_interval, interval_of, optimal, optimal_of
from benchmarks.virtual import Account, Life, VirtualClient, lognormal, on_virtual_time
from omni_async import Limits, Polling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MEDIAN, _SIGMA = 120.0, 0.35
_HABITS = {"snippet, handwritten: every 5 s": 5.0, "openai SDK: every 1 s": 1.0}
_IN_FLIGHT, _BUDGET = 1000, 10.0


def _mixture(seed: int) -> Callable[[], float]:
    """Most jobs alike, some slow, a few that fail early."""
    jitter = random.Random(seed)

    def draw() -> float:
        which = jitter.random()
        if which < 0.85:
            return jitter.lognormvariate(4.70, 0.25)  # 110 s
        return jitter.lognormvariate(5.60, 0.30) if which < 0.97 else jitter.uniform(5, 30)

    return draw


def _watched(account: Account, jobs: int, *, limits: Limits, polling: Polling, ahead: int, seed: int) -> list[Life]:
    """Let the real client follow so many jobs."""

    async def work(folder: Path) -> None:
        async with VirtualClient(account, folder, limits=limits, polling=polling) as client:
            prompts = ("a clip" for _ in range(jobs))
            async for job in client.as_completed(prompts, max_pending=ahead):
                await job

    on_virtual_time(work, seed)
    return account.lives


def _row(law: str, schedule: Schedule, name: str) -> dict[str, Any]:
    return {
        "durations": law,
        "schedule": name,
        "checks per job": schedule.checks,
        "seconds late": schedule.late,
        "product": schedule.product,
        "checks + late": schedule.checks + schedule.late,
    }


def _ours(draw: Callable[[], float], jobs: int, *, seed: int, tells: bool = False) -> Schedule:
    account = Account(draw, latency=0.0, tells=tells)
    limits = Limits(submits_per_minute=60)
    lives = _watched(account, jobs, limits=limits, polling=Polling(), ahead=100_000, seed=seed)
    return Schedule("omni_async", fmean(life.checks for life in lives), fmean(life.late for life in lives))


def _one_law(figures: Figures, law: str, draw: Callable[[int], Callable[[], float]]) -> list[float]:
    jobs, products = by_size(figures, 60, 1500, 3000), []
    true = [jitter() for jitter in [draw(-1)] for _ in range(20_000)]
    best = best_interval(true)
    for seed in range(by_size(figures, 1, 1, 5)):
        ours = _ours(draw(seed), jobs, seed=seed)
        products.append(ours.product / best.product)
    least = optimal(true, Polling().check_cost)
    others = [
        _ours(draw(seed), jobs, seed=seed, tells=True),
        best,
        interval_of(true, ours.checks),
        least,
        optimal_of(true, ours.checks),
        *(at_intervals(true, interval) for interval in _HABITS.values()),
    ]
    names = [
        "omni_async",
        "omni_async, progress told",
        "best fixed interval",
        "fixed, as many checks",
        "optimal, same check_cost",
    ]
    names += ["optimal, as many checks", *_HABITS]
    figures.rows += [_row(law, each, name) for each, name in zip([ours, *others], names, strict=True)]
    ratio = (ours.checks + ours.late) / (least.checks + least.late)
    figures.notes.append(f"{law}: cost of the last run (checks + seconds late) / least possible: {ratio:.2f}")
    return products


def _round_robin(draw: Callable[[], float], jobs: int) -> list[float]:
    """Look at all in turn, as fast as is allowed; give how late each end was noticed."""
    now = 0.0
    late: list[float] = []
    line = deque(draw() for _ in range(_IN_FLIGHT))
    while len(late) < jobs:
        now += 1 / _BUDGET
        end = line.popleft()
        if end <= now:
            late.append(now - end)
            line.append(now + draw())
        else:
            line.append(end)
    return late


def _budget(figures: Figures) -> None:
    jobs = by_size(figures, 1100, 5000, 10_000)
    ratios: list[float] = []
    for seed in range(by_size(figures, 1, 1, 3)):
        account = Account(_mixture(seed), latency=0.0)
        limits = Limits(checks_per_second=_BUDGET)
        lives = _watched(account, jobs, limits=limits, polling=Polling(), ahead=_IN_FLIGHT, seed=seed)
        # Not at the start, when nothing is known and all begin at once, nor at the end, when no new ones come.
        steady = slice(min(2 * _IN_FLIGHT, jobs // 3), max(jobs - _IN_FLIGHT, jobs // 2))
        ours = fmean(life.late for life in lives[steady])
        turns = fmean(_round_robin(_mixture(seed), jobs)[steady])
        ratios.append(ours / turns)
    for name, late in (("omni_async, 10 checks/s", ours), ("round robin, 10 checks/s", turns)):
        figures.rows.append({"durations": "mixture, 1,000 in flight", "schedule": name, "seconds late": late})
    figures.aims.append(Aim("1,000 in flight, 10 checks/s: seconds late / round robin", 0.65, tuple(ratios)))


def measure(figures: Figures) -> None:
    """Measure both."""
    products = _one_law(figures, "lognormal", lambda seed: lognormal(_MEDIAN, _SIGMA, seed))
    figures.aims.append(Aim("checks x seconds late / best fixed interval (lognormal)", 0.60, tuple(products)))
    _one_law(figures, "mixture", _mixture)
    _budget(figures)


if __name__ == "__main__":
    run("checks", "Checks, and how late they notice", measure)
