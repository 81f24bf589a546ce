"""A configured rate is kept where a strict server counts: when requests leave."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from omni_async.ratelimit.pacer import Pacer

PER_MINUTE = 240.0


def now() -> float:
    """Return the time of the event loop."""
    return asyncio.get_running_loop().time()


async def sending_times(delays: list[tuple[float, float]], per_minute: float = PER_MINUTE) -> list[float]:
    """Send one request per pair (seconds until recorded, seconds until connected). Return when each one left."""
    pacer, sent_at = Pacer(per_minute), list[float]()

    async def send(recording: float, connecting: float) -> None:
        await asyncio.sleep(recording)
        on_sent = await pacer.wait_for_interval()
        await asyncio.sleep(connecting)
        on_sent()
        sent_at.append(now())

    async with asyncio.TaskGroup() as group:
        for delay in delays:
            await pacer.acquire()
            group.create_task(send(*delay))
    return sent_at


async def test_no_two_requests_leave_too_close_together() -> None:
    """A slow disk or a new connection delays some requests only. None leaves too soon after the one before."""
    delays = [(0.0, 0.1), (0.0, 0.0), (0.2, 0.0), (0.01, 0.0), (0.0, 0.0), (0.0, 0.15), (0.0, 0.0)]
    sent_at = await sending_times(delays)
    assert min(after - before for before, after in pairwise(sent_at)) >= 60 / PER_MINUTE


async def test_delayed_requests_do_not_lower_the_rate() -> None:
    """A hundred requests keep the rate, although some are late and all need some time to leave."""
    sent_at = await sending_times([(0.05 * (number % 3), 0.02) for number in range(100)])
    assert sent_at[-1] - sent_at[0] <= 99 * 60 / PER_MINUTE * 1.02


@pytest.mark.parametrize("connecting", [0.002, 0.005, 0.03])
async def test_a_high_rate_is_kept_as_well(connecting: float) -> None:
    """The rate is 60 per second, and leaving takes a large part of the interval or more."""
    sent_at = await sending_times([(0.003, connecting)] * 300, 3600)
    assert sent_at[-1] - sent_at[0] <= 299 / 60 * 1.02
