"""Limits refuse requests, and Retry-After says for how long in every form."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime

import pytest

from omni_async.sandbox.limits import FixedWindow, RequestLimiter, RetryAfter, TokenBucket
from tests.support.sandbox_client import open_sandbox


def test_a_token_bucket_refills_at_its_rate() -> None:
    """Two per second with a burst of three: three immediately, then one every half second."""
    limiter = RequestLimiter((TokenBucket(2.0, 3, 0.0),))
    assert [limiter.admit(0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert limiter.admit(0.25) == pytest.approx(0.25)
    assert limiter.admit(0.5) == 0
    assert limiter.admit(0.5) == pytest.approx(0.5)
    assert [limiter.admit(100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_fixed_window_starts_empty() -> None:
    """Two in each ten seconds from the start. The last window does not affect the next."""
    limiter = RequestLimiter((FixedWindow(2, 10.0, 100.0),))
    assert [limiter.admit(at) for at in (101.0, 109.0, 109.5)] == [0, 0, 0.5]
    assert [limiter.admit(at) for at in (110.0, 110.0, 113.0)] == [0, 0, 7.0]
    assert limiter.admit(145.0) == 0


def test_a_request_refused_by_one_limit_does_not_count_on_another() -> None:
    """A request that the window refuses takes no token."""
    bucket = TokenBucket(1.0, 5, 0.0)
    limiter = RequestLimiter((bucket, FixedWindow(1, 10.0, 0.0)))
    assert limiter.admit(0.0) == 0
    assert all(limiter.admit(0.0) == 10.0 for _ in range(20))
    assert bucket.wait(0.0) == 0


def test_retry_after_in_every_form() -> None:
    """Seconds are rounded up, a date is an HTTP date, and the other forms mislead on purpose."""
    assert RetryAfter("seconds").header(2.2, 0.0) == {"Retry-After": "3"}
    date = RetryAfter("date").header(30.0, 1_800_000_000.0)["Retry-After"]
    assert parsedate_to_datetime(date).timestamp() == 1_800_000_030
    assert RetryAfter("none").header(2.0, 0.0) == {}
    assert RetryAfter("huge").header(2.0, 0.0) == {"Retry-After": "86400"}
    wrong = RetryAfter("wrong")
    assert [wrong.header(30.0, 0.0)["Retry-After"] for _ in range(6)] == [*RetryAfter.WRONG, "soon"]


async def test_a_submit_beyond_the_rate_is_429() -> None:
    """Beyond the burst, a submit gets the documented 429 with a Retry-After."""
    async with open_sandbox(per_minute=2, burst=2) as client:
        responses = [await client.submit(str(number)) for number in range(3)]
        assert [response.status for response in responses] == [200, 200, 429]
        assert responses[2].json["error"]["type"] == "rate_limit_error"
        assert 1 <= int(responses[2].headers["Retry-After"]) <= 30
        assert client.sandbox.record.refused == {429: 1}


@pytest.mark.slow
async def test_waiting_for_retry_after_is_enough() -> None:
    """After the time that the 429 names, the next submit is accepted."""
    async with open_sandbox(window=(1, 1.0)) as client:
        await client.submit()
        refused = await client.submit()
        assert refused.status == 429
        await asyncio.sleep(float(refused.headers["Retry-After"]))
        assert (await client.submit()).status == 200


@pytest.mark.slow
async def test_the_concurrency_limit_holds_per_key() -> None:
    """Each key has two slots. A slot is free again when a task ends."""
    async with open_sandbox(max_in_flight=2, median=1.0) as client:
        tasks = [await client.accepted(str(number)) for number in range(2)]
        assert (await client.submit("third")).status == 429
        other = {"model": "gemini-omni-flash-preview", "prompt": "x"}
        assert (await client.call("POST", "/v1/videos/generations", json=other, api_key="sk-2")).status == 200
        await client.ended(tasks[0])
        assert (await client.submit("third")).status == 200
        assert client.sandbox.record.max_in_flight == 3


async def test_a_replay_needs_no_slot() -> None:
    """A submit that is answered with an earlier task is not limited by the number of tasks."""
    async with open_sandbox(max_in_flight=1, median=0.3) as client:
        await client.submit("a", key="one")
        assert (await client.submit("a", key="one")).status == 200


async def test_checks_have_a_limit_of_their_own() -> None:
    """The limit of checks is independent of the limit of submits."""
    async with open_sandbox(checks_per_second=2, per_minute=1, median=5) as client:
        task_id = await client.accepted()
        statuses = [(await client.check(task_id)).status for _ in range(4)]
        assert statuses[:2] == [200, 200]
        assert statuses[3] == 429
        assert client.sandbox.record.checks_refused[429] >= 1
