"""Refusals that are no limit of the account: submits pause, and nothing is learned from them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support import replies
from tests.support.fakes import FakeClient, Server, refusal, response

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.api.parsing import Response

pytestmark = pytest.mark.timeout(60)

_JOBS = 150
# What the gateway says in place of any 429 of an upstream, and what others say.
_SATURATED = {"code": "do_response_failed", "message": "当前分组上游负载已饱和，请稍后再试", "data": None}

UNAVAILABLE = [
    pytest.param(response(503, replies.UNAVAILABLE_503), id="503"),
    pytest.param(response(429, _SATURATED), id="429 of the upstream"),
    pytest.param(refusal(429, message="The upstream is saturated, try again later"), id="the same in English"),
    pytest.param(response(425, b""), id="425"),
]


@pytest.mark.parametrize("answer", UNAVAILABLE)
async def test_a_service_that_is_often_unavailable_is_used_while_it_is_not(tmp_path: Path, answer: Response) -> None:
    """It refuses everything for two of every four seconds. As a limit, that would be one submit a minute."""
    server = Server(duration=5.0, latency=0.05)
    began = server.now()
    server.on_submit = lambda _: answer if 0.3 < (server.now() - began) % 4 < 2.3 else None
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(_JOBS)))
        assert server.now() - began < 45
        learned = client.statistics()
    assert (learned.learned_submits_per_minute, learned.learned_max_in_flight) == (None, None)
    assert len(server.posts) < _JOBS * 1.5
    server.assert_paid_once()


@pytest.mark.parametrize(
    ("seconds", "retry_after"), [(3.0, None), (15.0, None), (15.0, "2"), (60.0, None), (60.0, "2")]
)
@pytest.mark.parametrize("start", [0.25, 1.0])
async def test_a_service_that_fails_at_the_start_is_used_fully_afterwards(
    tmp_path: Path, start: float, seconds: float, retry_after: str | None
) -> None:
    """Its 429s look like any others. As a limit, one pause of a minute would be one submit a minute.

    A Retry-After that it names, and does not keep, is no proof of a limit either.
    """
    server = Server(duration=2.0, latency=0.05)
    began = server.now()
    answer = refusal(429) if retry_after is None else refusal(429, retry_after=retry_after)
    server.on_submit = lambda _: answer if start < server.now() - began < start + seconds else None
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(_JOBS)))
    assert server.now() - began < 1.5 * seconds + 20
    assert len(server.posts) < _JOBS + 12
    server.assert_paid_once()


async def test_its_retry_after_is_kept(tmp_path: Path) -> None:
    """No POST leaves before it has passed, whichever of the refusals named it."""
    server = Server(duration=5000, latency=1.0)
    busy = response(503, replies.UNAVAILABLE_503, retry_after="40")
    server.on_submit = lambda post: busy if post.number == 30 else None
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}").accepted() for number in range(60)))
        refused = next(post for post in server.posts if post.outcome is busy)
        later = [post.at for post in server.posts if post.at > refused.at + 1.0]
        assert min(later) >= refused.at + 41.0
        server.finish()


async def test_the_user_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning while it lasts, and one when it is over."""
    server = Server(duration=5.0)
    server.on_submit = lambda post: response(429, _SATURATED) if post.number < 5 else None
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(10)))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text for text in warnings if "takes no submits just now" in text] == warnings[:1]
    assert "responds to submits again" in warnings[1]


@pytest.mark.parametrize("retry_after", [None, "86400"])
async def test_the_user_is_told_of_a_rate_limit_that_lasts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, retry_after: str | None
) -> None:
    """A limit for the day refuses everything: one warning says so, and one when it has ended."""
    server = Server(duration=5.0)
    begin = server.now()
    answer = refusal(429) if retry_after is None else refusal(429, retry_after=retry_after)
    server.on_submit = lambda _: answer if server.now() < begin + 200 else None
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(10)))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert "refuses every submit, although no task is running" in warnings[0]
    assert ("asks to wait 86400 s" in warnings[0]) is (retry_after is not None)
    assert "retrying for up to 3600 s: submit: HTTP 429" in warnings[0]
    assert "accepts submits again" in warnings[1]


async def test_a_limit_of_tasks_at_once_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It refuses for as long as a task takes: that is no reason for a warning."""
    server = Server(duration=300.0, capacity=2)
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(8)))
    assert any(getattr(post.outcome, "status", 0) == 429 for post in server.posts)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
