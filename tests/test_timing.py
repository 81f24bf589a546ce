"""Asyncio tasks are cancelled until they have ended."""

from __future__ import annotations

import asyncio

import pytest

from omni_async.timing import cancel_and_wait


async def test_a_task_that_misses_cancellations_ends() -> None:
    """It is cancelled again and again; one that has ended already is left alone."""
    missed = 0

    async def stubborn() -> None:
        nonlocal missed
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                missed += 1
                if missed == 3:
                    raise

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(asyncio.sleep(0.1, "result"))]
    await asyncio.sleep(1)
    async with asyncio.timeout(60):
        await cancel_and_wait(tasks)
    assert (tasks[0].cancelled(), missed, tasks[1].result()) == (True, 3, "result")
    await cancel_and_wait([])


@pytest.mark.parametrize("turns", range(5))
async def test_a_cancellation_that_arrives_with_a_result(turns: int) -> None:
    """Python 3.11 loses it in `asyncio.wait_for`, one turn of the loop after the event; the task ends all the same."""
    arrived = asyncio.Event()

    async def listen() -> None:
        while True:
            await asyncio.wait_for(arrived.wait(), 3600)
            arrived.clear()

    task = asyncio.create_task(listen())
    await asyncio.sleep(1)
    arrived.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await cancel_and_wait([task])
    assert task.cancelled()
