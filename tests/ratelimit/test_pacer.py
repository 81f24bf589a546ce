"""A told pace is kept where a strict server counts: when requests leave."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from omni_async.ratelimit.pacer import Pacer

PER_MINUTE = 240.0


def now() -> float:
    """Give the loop's time."""
    return asyncio.get_running_loop().time()


async def departures(delays: list[tuple[float, float]], per_minute: float = PER_MINUTE) -> list[float]:
    """Let requests out: each is recorded for so long, then connected for so long, and then leaves."""
    pace, left = Pacer(per_minute), list[float]()

    async def one(recording: float, connecting: float) -> None:
        await asyncio.sleep(recording)
        leaves = await pace.wait_for_interval()
        await asyncio.sleep(connecting)
        leaves()
        left.append(now())

    async with asyncio.TaskGroup() as group:
        for delay in delays:
            await pace.acquire()
            group.create_task(one(*delay))
    return left


async def test_no_two_leave_too_close_together() -> None:
    """Neither a slow disk nor a new connection, for some of them only, brings one closer to the one before."""
    delays = [(0.0, 0.1), (0.0, 0.0), (0.2, 0.0), (0.01, 0.0), (0.0, 0.0), (0.0, 0.15), (0.0, 0.0)]
    left = await departures(delays)
    assert min(after - before for before, after in pairwise(left)) >= 60 / PER_MINUTE


async def test_nothing_is_lost_by_it() -> None:
    """A hundred of them, some of which are late, and all of which need some time to leave, keep the pace."""
    left = await departures([(0.05 * (number % 3), 0.02) for number in range(100)])
    assert left[-1] - left[0] <= 99 * 60 / PER_MINUTE * 1.02


@pytest.mark.parametrize("connecting", [0.002, 0.005, 0.03])
async def test_a_fast_pace_is_kept_as_well(connecting: float) -> None:
    """Sixty a second, where leaving takes a good part of the interval, or more than that."""
    left = await departures([(0.003, connecting)] * 300, 3600)
    assert left[-1] - left[0] <= 299 / 60 * 1.02
