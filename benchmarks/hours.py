"""Ten hours on an account whose rate limit changes from 60 to 20 to 60 submits per minute; on virtual time.

No program is configured with the limit or knows of the changes.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from benchmarks.figures import TINY, Figures, Target, by_size, run
from benchmarks.policies import POLICIES, Policy, work_endlessly
from benchmarks.virtual import Account, VirtualClient, lognormal, run_for, run_on_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

_RATES = (1.0, 1 / 3, 1.0)  # submits per second, each for a third of the time
_MEDIAN, _SIGMA = 20.0, 0.35  # of the lognormal durations of tasks, in seconds


def _account(seed: int, *, sends_retry_after: bool) -> Account:
    return Account(lognormal(_MEDIAN, _SIGMA, seed), per_second=_RATES[0], retry_after=sends_retry_after)


async def _change_limits(account: Account, seconds: float) -> None:
    for rate in _RATES:
        account.per_second = rate
        await asyncio.sleep(seconds / len(_RATES))


def _measure_one(seconds: float, seed: int, sends_retry_after: bool, policy: Policy | None) -> Account:
    account = _account(seed, sends_retry_after=sends_retry_after)

    async def work(folder: Path) -> None:
        changes = asyncio.create_task(_change_limits(account, seconds))
        if policy is None:
            await run_for(VirtualClient(account, folder), seconds)
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await work_endlessly(account, policy)
        changes.cancel()

    run_on_virtual_time(work, seed)
    return account


def _curve(account: Account, seconds: float) -> list[float]:
    """Return x and y alternating: hours, and the submits accepted per minute around that time."""
    start, parts = account.tasks[0].accepted, 60
    counts = [0] * parts
    for task in account.tasks:
        counts[min(parts - 1, int((task.accepted - start) / seconds * parts))] += 1
    minutes = seconds / parts / 60
    return [value for part, number in enumerate(counts) for value in ((part + 0.5) * minutes / 60, number / minutes)]


def measure(figures: Figures) -> None:
    """Measure the library and the policies of other programs, with and without Retry-After."""
    hours = 1 / 60 if figures.size == TINY else by_size(figures, 0, 3, 10)
    for sends_retry_after in (True, False):
        retry_after = "sent" if sends_retry_after else "not sent"
        shares, refusals = [], []
        for policy in (None, *POLICIES):
            for seed in range(by_size(figures, 1, 1, 3) if policy is None else 1):
                share, per_hour = _measure_and_add(figures, hours, seed, retry_after, policy)
                if policy is None:
                    shares.append(share)
                    refusals.append(per_hour)
        figures.targets.append(
            Target(f"% of the possible submits accepted (Retry-After {retry_after})", 95, tuple(shares), at_least=True)
        )
        figures.targets.append(Target(f"429s per hour (Retry-After {retry_after})", 30, tuple(refusals)))


def _measure_and_add(
    figures: Figures, hours: float, seed: int, retry_after: str, policy: Policy | None
) -> tuple[float, float]:
    seconds, name = hours * 3600, policy.name if policy else "omni_async"
    start = time.process_time()
    account = _measure_one(seconds, seed, retry_after == "sent", policy)
    share = 100 * len(account.tasks) / (sum(_RATES) / len(_RATES) * seconds)
    per_hour = account.rate_limited / hours
    figures.rows.append(
        {
            "program": name,
            "Retry-After": retry_after,
            "hours": hours,
            "accepted": len(account.tasks),
            "% of possible": share,
            "429s per hour": per_hour,
            "CPU s": time.process_time() - start,
        }
    )
    figures.curves.setdefault(f"Submits accepted per minute, Retry-After {retry_after}", {})[name] = _curve(
        account, seconds
    )
    return share, per_hour


if __name__ == "__main__":
    run("hours", "Ten hours on an account whose limits change", measure)
