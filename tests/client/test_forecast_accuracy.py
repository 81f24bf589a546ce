"""Forecasts during a run on virtual time, against what then happened."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import Forecast, Limits, PaymentRequired
from tests.support.fakes import FakeClient, Server, refusal, script
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from pathlib import Path

JOBS = 80


@pytest.mark.parametrize(
    ("account", "limits"),
    slow_after(
        2,
        [
            ({"per_second": 0.5}, Limits()),
            ({"capacity": 10}, Limits()),
            ({}, Limits(submits_per_minute=30)),
            ({}, Limits(max_in_flight=10)),
        ],
    ),
)
async def test_time_left_and_cost_are_predicted(tmp_path: Path, account: dict[str, Any], limits: Limits) -> None:
    """Nothing is predicted at first. Then the time is right within a fifth or 30 seconds, and the cost is exact."""
    jitter, loop = random.Random(3), asyncio.get_running_loop()
    server = Server(**account, duration=lambda: jitter.lognormvariate(math.log(40), 0.2))
    forecasts: list[tuple[float, Forecast]] = []

    began = loop.time()
    async with FakeClient(server, tmp_path, limits=limits) as client:
        assert client.forecast(upcoming=JOBS).is_learning
        done = 0
        async for _ in client.as_completed(f"p{number}" for number in range(JOBS)):
            done += 1
            if done % 5 == 0:
                forecasts.append((loop.time() - began, client.forecast()))
        assert client.forecast() == Forecast(
            seconds_left=0.0, per_minute=forecasts[-1][1].per_minute, cost=JOBS * server.cost
        )
    end = loop.time() - began
    middle = [(at, forecast) for at, forecast in forecasts if end / 4 < at < 3 * end / 4]
    assert len(middle) > 5
    for at, forecast in middle:
        assert forecast.seconds_left == pytest.approx(end - at, rel=0.2, abs=30)
        assert forecast.cost == JOBS * server.cost


async def test_upcoming_jobs_are_counted(tmp_path: Path) -> None:
    """With more to come it takes longer and costs more, also if jobs are submitted a few at a time."""
    async with FakeClient(Server(), tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(10)))
        jobs = [client.submit(f"q{number}") for number in range(10)]
        await asyncio.gather(*(job.accepted() for job in jobs))
        few, many = client.forecast(), client.forecast(upcoming=1000)
        assert few.seconds_left is not None
        assert many.seconds_left is not None
        assert 0 < few.seconds_left < 60
        assert many.seconds_left > 1000 / 10 * 20 / 2
        assert (few.cost, many.cost) == (20 * 0.5, 1020 * 0.5)


async def test_jobs_do_not_count_after_submissions_stopped(tmp_path: Path) -> None:
    """Jobs that are not submitted any more are no part of the time left."""
    server = Server(submit_script=script([refusal(402, code="payment_required")]))
    async with FakeClient(server, tmp_path) as client:
        with pytest.raises(PaymentRequired):
            await client.submit("p")
        assert client.forecast(upcoming=50).seconds_left == 0.0
