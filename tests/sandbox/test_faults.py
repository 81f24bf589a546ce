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
from omni_async.sandbox.faults import Mischief

from .talk import Answer, Talk, link_of, talking

SUBMIT = {name for name, fault in FAULTS.items() if "submit" in fault.kinds}
SLOW = 0.3  # seconds after which a test calls a server silent


def refused(status: int, words: str) -> Callable[[Talk], Awaitable[None]]:
    """Shows that a submit is answered so, and makes no task."""

    async def show(talk: Talk) -> None:
        answer = await talk.submit(key="one")
        assert answer.status == status
        assert words in answer.body.decode()
        assert talk.sandbox.record.accepted == 0
        assert talk.sandbox.record.refused == {status: 1}

    return show


async def dropped_before(talk: Talk) -> None:
    """The connection closes, and no task is made."""
    with pytest.raises(aiohttp.ClientError):
        await talk.submit()
    assert (talk.sandbox.record.submits, talk.sandbox.record.accepted) == (1, 0)


async def redirected(talk: Talk) -> None:
    """The POST is sent elsewhere, to a third origin, and no task is made."""
    answer = await talk.submit()
    assert answer.status == 307
    target = answer.headers["Location"]
    assert not target.startswith((talk.sandbox.base_url, talk.sandbox.cdn_url))
    assert (await talk.fetch(target, method="POST", json={})).status == 403
    record = talk.sandbox.record
    assert (record.accepted, record.redirected_submits, record.redirected_keys) == (0, 1, 0)


async def error_in_200(talk: Talk) -> None:
    """Both kinds of error come under 200, and no task is made."""
    answers = [await talk.submit(str(number)) for number in range(12)]
    assert {answer.status for answer in answers} == {200}
    assert {answer.json.get("code", answer.json.get("success")) for answer in answers} == {429, False}
    assert talk.sandbox.record.accepted == 0
    assert "data" not in (await talk.check("task_x")).json


def accepted_though(status: int) -> Callable[[Talk], Awaitable[None]]:
    """Shows that the answer is not that of an accepted submit, but a task is made; the key brings its id."""

    async def show(talk: Talk) -> None:
        answer = await talk.submit(key="one")
        assert answer.status == status
        await _is_made(talk)
        if status == 200:
            with pytest.raises(ValueError):
                _ = answer.json

    return show


async def _is_made(talk: Talk) -> None:
    assert talk.sandbox.record.accepted == 1
    talk.sandbox.script("submit", [None])
    again = await talk.submit(key="one")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json["data"][0]["task_id"] == next(iter(talk.sandbox.record.tasks))


async def dropped_after(talk: Talk) -> None:
    """The connection closes, but the task is made."""
    with pytest.raises(aiohttp.ClientError):
        await talk.submit(key="one")
    await _is_made(talk)


async def hangs(talk: Talk) -> None:
    """No answer comes, but the task is made."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(talk.submit(key="one"), SLOW)
    await _is_made(talk)


SUBMITS: dict[str, Callable[[Talk], Awaitable[None]]] = {
    "http_400": refused(400, "invalid_request_error"),
    "http_401": refused(401, "invalid API key (request id: "),
    "http_402": refused(402, "payment_required"),
    "http_403": refused(403, "permission_error"),
    "http_429": refused(429, "rate_limit_error"),
    "http_500": refused(500, "get_channel_failed"),
    "http_500_parameter": refused(500, "build_request_failed: invalid size"),
    "http_502_html": refused(502, "<h1>502 Bad Gateway</h1>"),
    "http_503": refused(503, "service_unavailable"),
    "idempotency_unavailable": refused(503, "idempotency_unavailable"),
    "idempotency_in_progress": refused(409, "idempotency_in_progress"),
    "idempotency_indeterminate": refused(409, "idempotency_result_indeterminate"),
    "drop_before": dropped_before,
    "redirect_submit": redirected,
    "error_in_200": error_in_200,
    "drop_after": dropped_after,
    "http_500_after": accepted_though(500),
    "garbage_json": accepted_though(200),
    "hang_submit": hangs,
}


def answered(status: int, words: str) -> Callable[[Talk, str], Awaitable[None]]:
    """Shows that a check is answered so."""

    async def show(talk: Talk, task_id: str) -> None:
        answer = await talk.check(task_id)
        assert answer.status == status
        assert words in answer.body.decode()

    return show


async def check_dropped(talk: Talk, task_id: str) -> None:
    """The connection closes."""
    with pytest.raises(aiohttp.ClientError):
        await talk.check(task_id)


async def check_hangs(talk: Talk, task_id: str) -> None:
    """No answer comes."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(talk.check(task_id), SLOW)


async def check_is_late(talk: Talk, task_id: str) -> None:
    """The answer comes, but late."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(talk.check(task_id), SLOW)
    assert (await talk.check(task_id)).status == 200


async def check_is_garbage(talk: Talk, task_id: str) -> None:
    """The answer is no JSON."""
    answer = await talk.check(task_id)
    assert answer.status == 200
    with pytest.raises(ValueError):
        _ = answer.json


async def not_found_yet(talk: Talk, task_id: str) -> None:
    """A young task is not found, in two ways; an older one is."""
    statuses = {(await talk.check(task_id)).status for _ in range(20)}
    assert statuses == {400, 404}
    await asyncio.sleep(1.05)
    assert (await talk.check(task_id)).status == 200


async def odd_word(talk: Talk, task_id: str) -> None:
    """The status is no word that is known."""
    word = (await talk.check(task_id)).json["data"]["status"]
    assert word not in ("submitted", "pending", "queued", "processing", "in_progress", "completed", "failed")


async def other_case(talk: Talk, task_id: str) -> None:
    """The status is written in another case, to the end."""
    assert (await talk.check(task_id)).json["data"]["status"] in ("Pending", "Processing")
    async with asyncio.timeout(10):
        while (await talk.check(task_id)).json["data"]["status"] != "COMPLETED":
            await asyncio.sleep(0.05)


async def no_link_yet(talk: Talk, task_id: str) -> None:
    """The link is missing once."""
    assert "result" not in await talk.ended(task_id)
    talk.sandbox.script("check", [None])
    assert link_of((await talk.check(task_id)).json["data"])


CHECKS: dict[str, Callable[[Talk, str], Awaitable[None]]] = {
    "http_401_check": answered(401, "apimart_error"),
    "http_403_check": answered(403, "permission_error"),
    "http_429_check": answered(429, "rate_limit_error"),
    "http_500_check": answered(500, "server_error"),
    "http_502_check": answered(502, "<html>"),
    "html_check": answered(200, "<!DOCTYPE html>"),
    "garbage_check": check_is_garbage,
    "drop_check": check_dropped,
    "hang_check": check_hangs,
    "slow_check": check_is_late,
    "not_found_check": not_found_yet,
    "unknown_status": odd_word,
    "upper_status": other_case,
    "no_link": no_link_yet,
}


async def cut_off(talk: Talk, url: str, _: bytes) -> None:
    """The body ends before its announced length."""
    async with talk.session.get(url) as response:
        assert response.content_length
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert 0 < talk.sandbox.record.bytes_sent < response.content_length


async def cut_clean(talk: Talk, url: str, whole: bytes) -> None:
    """The body ends too early, and looks as if that were all."""
    answer = await talk.fetch(url)
    assert answer.status == 200
    assert "Content-Length" not in answer.headers
    assert answer.body == whole[: len(whole) // 2]


async def stalls(talk: Talk, url: str, whole: bytes) -> None:
    """Half of the body comes, and then nothing."""
    async with talk.session.get(url) as response:
        got = await response.content.readexactly(len(whole) // 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.readany(), SLOW)
    assert whole.startswith(got)


async def expires(talk: Talk, url: str, whole: bytes) -> None:
    """The first link of the task is refused for good; the next one leads to the clip."""
    assert (await talk.fetch(url)).status in (403, 410)
    assert (await talk.fetch(url)).status in (403, 410)
    fresh = link_of((await talk.check(next(iter(talk.sandbox.record.tasks)))).json["data"])
    assert fresh != url
    assert (await talk.fetch(fresh)).body == whole


def instead_of_clip(status: int, words: str) -> Callable[[Talk, str, bytes], Awaitable[None]]:
    """Shows that a clip is answered so."""

    async def show(talk: Talk, url: str, _: bytes) -> None:
        answer = await talk.fetch(url)
        assert answer.status == status
        assert words in answer.body.decode()

    return show


async def ignores_range(talk: Talk, url: str, whole: bytes) -> None:
    """The whole clip comes, whatever was asked for."""
    answer = await talk.fetch(url, headers={"Range": "bytes=100-"})
    assert (answer.status, answer.body) == (200, whole)
    assert "Accept-Ranges" not in answer.headers


async def changes_etag(talk: Talk, url: str, whole: bytes) -> None:
    """The ETag is never the same, so that a part becomes the whole."""
    first = await talk.fetch(url)
    again = await talk.fetch(url, headers={"Range": "bytes=100-", "If-Range": first.headers["ETag"]})
    assert again.headers["ETag"] != first.headers["ETag"]
    assert (again.status, again.body) == (200, whole)


async def redirects(talk: Talk, url: str, whole: bytes) -> None:
    """The clip is elsewhere, by turns near and far; whoever sends a key there is found out."""
    answers = [await talk.fetch(url) for _ in range(2)]
    assert [answer.status for answer in answers] == [302, 302]
    near, far = (answer.headers["Location"] for answer in answers)
    assert near.startswith("/f/moved/")
    assert far.startswith("http://127.0.0.1:")
    assert not far.startswith((talk.sandbox.cdn_url, talk.sandbox.base_url))
    assert (await talk.fetch(url, allow_redirects=True)).body == whole
    assert (await talk.fetch(far)).body == whole
    assert talk.sandbox.record.leaked_keys == 0
    await talk.fetch(far, headers={"Authorization": "Bearer sk-oh-no"})
    assert (talk.sandbox.record.leaked_keys, talk.sandbox.record.redirected_keys) == (1, 1)


CLIPS: dict[str, Callable[[Talk, str, bytes], Awaitable[None]]] = {
    "cut_download": cut_off,
    "cut_download_clean": cut_clean,
    "stall_download": stalls,
    "expired_link": expires,
    "json_clip": instead_of_clip(200, "server_error"),
    "html_clip": instead_of_clip(200, "<html>"),
    "no_range": ignores_range,
    "wrong_etag": changes_etag,
    "http_500_clip": instead_of_clip(500, "server_error"),
    "http_429_clip": instead_of_clip(429, "rate_limit_error"),
    "redirect_clip": redirects,
}


async def never_linked(data: dict[str, Any], talk: Talk) -> None:
    """No check ever brings a link."""
    assert "result" not in data
    assert "result" not in (await talk.check(data["id"])).json["data"]


async def two_videos(data: dict[str, Any], talk: Talk) -> None:
    """Two videos come, in two items or as two urls of one."""
    shapes = set()
    for number in range(16):
        videos = (await talk.completed(str(number)))["result"]["videos"]
        urls = [url for video in videos for url in video["url"]]
        assert len({(await talk.fetch(url)).body for url in urls}) == 2
        shapes.add(len(videos))
    assert shapes == {1, 2}


async def all_strings(data: dict[str, Any], talk: Talk) -> None:
    """Every number is a text."""
    assert all(isinstance(data[name], str) for name in ("progress", "created", "completed", "cost", "actual_time"))
    assert isinstance(data["result"]["videos"][0]["expires_at"], str)


async def bare(data: dict[str, Any], talk: Talk) -> None:
    """Only what cannot be missed is there."""
    assert set(data) == {"id", "status", "result"}
    assert set(data["result"]["videos"][0]) == {"url"}


TASKS: dict[str, Callable[[dict[str, Any], Talk], Awaitable[None]]] = {
    "never_link": never_linked,
    "two_videos": two_videos,
    "numbers_as_strings": all_strings,
    "missing_optionals": bare,
}
UPLOADS = {"http_429_upload": 429, "http_500_upload": 500, "drop_upload": None}


def test_every_fault_is_shown_here() -> None:
    """No fault is without a test in this file."""
    assert set(FAULTS) == {*SUBMITS, *CHECKS, *CLIPS, *TASKS, *UPLOADS}


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
@pytest.mark.parametrize("how", ["dice", "script"])
async def test_faults_that_stay_with_a_task(name: str, how: str) -> None:
    """Each marks the tasks it hits for life, by the dice or by a script for submits."""
    async with talking(faults={name: 1.0} if how == "dice" else {}) as talk:
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
        if status is None:
            with pytest.raises(aiohttp.ClientError):
                await talk.call("POST", "/v1/uploads/images", data=form)
        else:
            assert (await talk.call("POST", "/v1/uploads/images", data=form)).status == status


async def test_a_script_is_played_in_order() -> None:
    """Scripted faults befall the next requests of their kind, None lets one pass, and then the dice rule again."""
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
    mischief = Mischief(chances, seed)
    return [mischief.of(kind) for _ in range(400)]


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
            found = find(await asyncio.wait_for(ask(), 3.0))
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            found = None
        if found:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("never")
