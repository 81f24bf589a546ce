"""Ten hours on an account whose limits move, 60 to 20 to 60 submits a minute, and nobody tells; on virtual time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from benchmarks.figures import TINY, Aim, Figures, by_size, run
from benchmarks.policies import POLICIES, Policy, work_without_end
from benchmarks.virtual import Account, VirtualClient, for_so_long, lognormal, on_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

_RATES = (1.0, 1 / 3, 1.0)  # a second, each for a third of the time
_MEDIAN, _SIGMA = 20.0, 0.35


def _account(seed: int, *, advises: bool) -> Account:
    return Account(lognormal(_MEDIAN, _SIGMA, seed), per_second=_RATES[0], retry_after=advises)


async def _move_limits(account: Account, seconds: float) -> None:
    for rate in _RATES:
        account.per_second = rate
        await asyncio.sleep(seconds / len(_RATES))


def _measure_one(seconds: float, seed: int, advises: bool, policy: Policy | None) -> Account:
    account = _account(seed, advises=advises)

    async def work(folder: Path) -> None:
        moving = asyncio.create_task(_move_limits(account, seconds))
        if policy is None:
            await for_so_long(VirtualClient(account, folder), seconds)
        else:
            with suppress(TimeoutError):
                await asyncio.wait_for(work_without_end(account, policy), seconds)
        moving.cancel()

    on_virtual_time(work, seed)
    return account


def _curve(account: Account, seconds: float) -> list[float]:
    """Give x and y in turn: hours, and how many were accepted a minute around then."""
    start, parts = account.lives[0].accepted, 60
    counts = [0] * parts
    for life in account.lives:
        counts[min(parts - 1, int((life.accepted - start) / seconds * parts))] += 1
    minutes = seconds / parts / 60
    return [value for part, number in enumerate(counts) for value in ((part + 0.5) * minutes / 60, number / minutes)]


def measure(figures: Figures) -> None:
    """Let everybody work."""
    hours = 1 / 60 if figures.size == TINY else by_size(figures, 0, 3, 10)
    for advises in (True, False):
        told = "told" if advises else "not told"
        shares, refused = [], []
        for policy in (None, *POLICIES):
            for seed in range(by_size(figures, 1, 1, 3) if policy is None else 1):
                share, each_hour = _take_in(figures, hours, seed, told, policy)
                if policy is None:
                    shares.append(share)
                    refused.append(each_hour)
        figures.aims.append(Aim(f"% of the possible used (Retry-After {told})", 95, tuple(shares), at_least=True))
        figures.aims.append(Aim(f"refused per hour (Retry-After {told})", 30, tuple(refused)))


def _take_in(figures: Figures, hours: float, seed: int, told: str, policy: Policy | None) -> tuple[float, float]:
    seconds, name = hours * 3600, policy.name if policy else "omni_async"
    start = time.process_time()
    account = _measure_one(seconds, seed, told == "told", policy)
    share = 100 * len(account.lives) / (sum(_RATES) / len(_RATES) * seconds)
    each_hour = account.refused / hours
    figures.rows.append(
        {
            "contestant": name,
            "Retry-After": told,
            "hours": hours,
            "accepted": len(account.lives),
            "% of possible": share,
            "refused per hour": each_hour,
            "CPU s": time.process_time() - start,
        }
    )
    figures.curves.setdefault(f"Accepted a minute while limits move, Retry-After {told}", {})[name] = _curve(
        account, seconds
    )
    return share, each_hour


if __name__ == "__main__":
    run("hours", "Hours on an account whose limits move", measure)
