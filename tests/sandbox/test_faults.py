"""Each fault does what its table says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import FormData

from omni_async.sandbox import FAULTS
from omni_async.sandbox.faults import FaultInjector
from tests.support.shown_checks import CHECKS
from tests.support.shown_clips import CLIPS, SLOW, TASKS, UPLOADS
from tests.support.shown_submits import SUBMITS
from tests.support.shown_webhooks import HOOKS, listening
from tests.support.talk import Answer, Talk, link_of, talking


def test_every_fault_is_shown_here() -> None:
    """No fault is without a test."""
    assert set(FAULTS) == {*SUBMITS, *CHECKS, *CLIPS, *TASKS, *UPLOADS, *HOOKS}


@pytest.mark.parametrize("name", SUBMITS)
async def test_faults_of_a_submit(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each does to a submit what the table says, and the server logs no trouble."""
    caplog.set_level(logging.WARNING)
    async with talking(faults={name: 1.0}) as talk:
        await SUBMITS[name](talk)
        assert talk.sandbox.record.faults[name] >= 1
    assert not caplog.records


@pytest.mark.parametrize("name", CHECKS)
async def test_faults_of_a_check(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each does to a check what the table says."""
    caplog.set_level(logging.WARNING)
    async with talking(faults={name: 1.0}, median=0.3) as talk:
        await CHECKS[name](talk, await talk.accepted())
        assert talk.sandbox.record.faults[name] >= 1
        assert talk.sandbox.record.accepted == 1
    assert not caplog.records


@pytest.mark.parametrize("name", CLIPS)
async def test_faults_of_a_clip(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each does to a download what the table says."""
    caplog.set_level(logging.WARNING)
    async with talking(faults={name: 1.0}) as talk:
        url = await talk.link()
        talk.sandbox.script("clip", [None])
        whole = (await talk.fetch(url)).body
        talk.sandbox.record.bytes_sent = 0
        await CLIPS[name](talk, url, whole)
        assert talk.sandbox.record.faults[name] >= 1
    assert not caplog.records


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("how", ["jitter", "script"])
async def test_faults_that_stay_with_a_task(name: str, how: str) -> None:
    """Each marks the tasks it hits for life, by the jitter or by a script for submits."""
    async with talking(faults={name: 1.0} if how == "jitter" else {}) as talk:
        if how == "script":
            talk.sandbox.script("submit", [name] * 20)
        await TASKS[name](await talk.completed(), talk)
        assert talk.sandbox.record.faults[name] >= 1


@pytest.mark.parametrize("name", UPLOADS)
async def test_faults_of_an_upload(name: str) -> None:
    """Each does to an upload what the table says."""
    async with talking(faults={name: 1.0}) as talk:
        form = FormData()
        form.add_field("file", b"\xff\xd8\xff" + bytes(64), filename="x.jpg")
        status = UPLOADS[name]
        if name == "hang_upload":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(talk.call("POST", "/v1/uploads/images", data=form), SLOW)
            assert talk.sandbox.record.uploads_by_sha256.total() == 1
        elif status is None:
            with pytest.raises(aiohttp.ClientError):
                await talk.call("POST", "/v1/uploads/images", data=form)
        else:
            assert (await talk.call("POST", "/v1/uploads/images", data=form)).status == status


@pytest.mark.parametrize("name", HOOKS)
async def test_faults_of_a_webhook(name: str) -> None:
    """Each does to a delivery what the table says; a late one comes after the pause of a retry."""
    async with listening([204]) as (address, got), talking(faults={name: 1.0}, speed=200.0) as talk:
        task_id = await talk.accepted(webhook=address)
        await talk.ended(task_id)
        assert got.empty() or name != "late_webhook"
        calls = [await asyncio.wait_for(got.get(), 10) for _ in range(HOOKS[name])]
        await asyncio.sleep(0.1)
        assert got.empty()
        assert {call["id"] for call in calls} <= {task_id}
        assert talk.sandbox.record.faults[name] == 1


async def test_a_script_is_played_in_order() -> None:
    """Scripted faults befall the next requests of their kind, None lets one pass, and then the jitter rule again."""
    async with talking() as talk:
        talk.sandbox.script("submit", ["http_429", "http_503", None])
        talk.sandbox.script("check", ["http_500_check"])
        statuses = [(await talk.submit(str(number))).status for number in range(5)]
        assert statuses == [429, 503, 200, 200, 200]
        task_id = next(iter(talk.sandbox.record.tasks))
        assert [(await talk.check(task_id)).status for _ in range(2)] == [500, 200]
        with pytest.raises(ValueError, match="cannot befall a check"):
            talk.sandbox.script("check", ["http_429"])
        with pytest.raises(ValueError, match="no kind of request"):
            talk.sandbox.script("dance", [])


def _hits(chances: dict[str, float], seed: int, kind: str = "submit") -> list[str | None]:
    fault_injector = FaultInjector(chances, seed)
    return [fault_injector.next_fault(kind) for _ in range(400)]


def test_the_dice_are_seeded_and_apart() -> None:
    """Same seed, same hits; a second fault does not move those of the first; about as many as asked for."""
    alone = _hits({"http_500": 0.25}, 7)
    assert alone == _hits({"http_500": 0.25}, 7) != _hits({"http_500": 0.25}, 8)
    both = _hits({"http_500": 0.25, "http_429": 0.5}, 7)
    assert [each == "http_500" for each in both] == [each == "http_500" for each in alone]
    assert 70 < alone.count("http_500") < 130
    assert both.count("http_429") > 100


async def test_all_faults_together() -> None:
    """With every fault at one in 25, a stubborn client still gets every clip, one task per key."""
    chances = dict.fromkeys(set(FAULTS) - {"never_link", "http_400", "http_500_parameter"}, 0.04)
    async with talking(faults=chances, seed=11) as talk:
        clips = await asyncio.gather(*(_stubborn(talk, number) for number in range(12)))
        assert len(set(clips)) == 12
        record = talk.sandbox.record
        assert (record.accepted, record.duplicates, record.leaked_keys) == (12, 0, 0)
        assert sum(record.faults.values()) > 12


async def _stubborn(talk: Talk, number: int) -> bytes:
    def has_id(answer: Answer) -> Any:
        return answer.json["data"][0]["task_id"]

    def has_link(answer: Answer) -> Any:
        return link_of(answer.json["data"])

    def is_whole(answer: Answer) -> Any:
        length = int(answer.headers["Content-Length"])
        return answer.body if answer.body[4:8] == b"ftyp" and len(answer.body) == length else None

    task_id = await _until(has_id, lambda: talk.submit(str(number), key=f"key-{number}"))

    async def download() -> Answer:
        url = await _until(has_link, lambda: talk.check(task_id))
        return await talk.fetch(url, allow_redirects=True)

    clip: bytes = await _until(is_whole, download)
    return clip


async def _until(find: Callable[[Answer], Any], ask: Callable[[], Awaitable[Answer]]) -> Any:
    for _ in range(200):
        try:
            found = find(await asyncio.wait_for(ask(), 1.5))
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            found = None
        if found:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("never")
