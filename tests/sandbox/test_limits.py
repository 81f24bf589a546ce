"""Limits refuse what is too much, and say for how long in every style."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime

import pytest

from omni_async.sandbox.limits import FixedWindow, RequestLimiter, RetryAfter, TokenBucket
from tests.support.talk import talking


def test_a_bucket_gives_back_at_its_rate() -> None:
    """Two per second with a burst of three: three at once, then one each half second."""
    gate = RequestLimiter((TokenBucket(2.0, 3, 0.0),))
    assert [gate.admit(0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert gate.admit(0.25) == pytest.approx(0.25)
    assert gate.admit(0.5) == 0
    assert gate.admit(0.5) == pytest.approx(0.5)
    assert [gate.admit(100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_window_starts_anew() -> None:
    """Two in each ten seconds, counted from the start; the next window is not touched by the last."""
    gate = RequestLimiter((FixedWindow(2, 10.0, 100.0),))
    assert [gate.admit(at) for at in (101.0, 109.0, 109.5)] == [0, 0, 0.5]
    assert [gate.admit(at) for at in (110.0, 110.0, 113.0)] == [0, 0, 7.0]
    assert gate.admit(145.0) == 0


def test_what_one_limit_refuses_does_not_count_on_the_other() -> None:
    """A request that the window refuses takes no token."""
    bucket = TokenBucket(1.0, 5, 0.0)
    gate = RequestLimiter((bucket, FixedWindow(1, 10.0, 0.0)))
    assert gate.admit(0.0) == 0
    assert all(gate.admit(0.0) == 10.0 for _ in range(20))
    assert bucket.wait(0.0) == 0


def test_retry_after_in_every_style() -> None:
    """Seconds are rounded up, a date is that of HTTP, and the others mislead on purpose."""
    assert RetryAfter("seconds").header(2.2, 0.0) == {"Retry-After": "3"}
    date = RetryAfter("date").header(30.0, 1_800_000_000.0)["Retry-After"]
    assert parsedate_to_datetime(date).timestamp() == 1_800_000_030
    assert RetryAfter("none").header(2.0, 0.0) == {}
    assert RetryAfter("huge").header(2.0, 0.0) == {"Retry-After": "86400"}
    wrong = RetryAfter("wrong")
    assert [wrong.header(30.0, 0.0)["Retry-After"] for _ in range(6)] == [*RetryAfter.WRONG, "soon"]


async def test_submits_per_minute() -> None:
    """Beyond the burst a submit is 429 in the shape of the page, and says when to come again."""
    async with talking(per_minute=2, burst=2) as talk:
        answers = [await talk.submit(str(number)) for number in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2].json["error"]["type"] == "rate_limit_error"
        assert 1 <= int(answers[2].headers["Retry-After"]) <= 30
        assert talk.sandbox.record.refused == {429: 1}


async def test_waiting_as_told_is_enough() -> None:
    """After the time a 429 names, the next submit passes."""
    async with talking(window=(1, 0.4)) as talk:
        await talk.submit()
        refused = await talk.submit()
        assert refused.status == 429
        await asyncio.sleep(float(refused.headers["Retry-After"]))
        assert (await talk.submit()).status == 200


async def test_tasks_at_once() -> None:
    """Only so many tasks run at once for a key; when one ends there is room; another key has its own."""
    async with talking(max_in_flight=2, median=0.3) as talk:
        tasks = [await talk.accepted(str(number)) for number in range(2)]
        assert (await talk.submit("third")).status == 429
        other = {"model": "gemini-omni-flash-preview", "prompt": "x"}
        assert (await talk.call("POST", "/v1/videos/generations", json=other, api_key="sk-2")).status == 200
        await talk.ended(tasks[0])
        assert (await talk.submit("third")).status == 200
        assert talk.sandbox.record.max_in_flight == 3


async def test_a_replay_needs_no_room() -> None:
    """A submit that only asks for the answer of another is no task."""
    async with talking(max_in_flight=1, median=0.3) as talk:
        await talk.submit("a", key="one")
        assert (await talk.submit("a", key="one")).status == 200


async def test_checks_per_second() -> None:
    """Checks have a limit of their own."""
    async with talking(checks_per_second=2, per_minute=1, median=5) as talk:
        task_id = await talk.accepted()
        statuses = [(await talk.check(task_id)).status for _ in range(4)]
        assert statuses[:2] == [200, 200]
        assert statuses[3] == 429
        assert talk.sandbox.record.checks_refused[429] >= 1
