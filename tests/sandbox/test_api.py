"""Submits, checks and the rest of the API answer as the page and the facts say."""

from __future__ import annotations

import asyncio
import io
import math
import re
import time
from typing import Any

import pytest

from tests.support.talk import MODEL, link_of, talking

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 64


async def test_a_submit_is_answered_as_on_the_page() -> None:
    """The reply to a submit has exactly the shape of the page."""
    async with talking() as talk:
        answer = await talk.submit()
        assert answer.json == {
            "code": 200,
            "data": [{"status": "submitted", "task_id": answer.json["data"][0]["task_id"]}],
        }
        assert re.fullmatch(r"task_[0-9A-HJKMNP-TV-Z]{26}", answer.json["data"][0]["task_id"])
        assert answer.headers["X-Oneapi-Request-Id"]


@pytest.mark.parametrize("by", ["header", "setting"])
async def test_the_newer_shape_of_a_submit(by: str) -> None:
    """The version header, or the setting, makes data an object with an id."""
    async with talking(submit_shape="object" if by == "setting" else "list") as talk:
        headers = {"X-APIMart-Response-Version": "2026-07-27"} if by == "header" else {}
        body = {"model": MODEL, "prompt": "x"}
        answer = await talk.call("POST", "/v1/videos/generations", json=body, headers=headers)
        assert answer.json["data"]["id"].startswith("task_")
        assert answer.json["data"]["object"] == "generation.task"
        assert answer.json["request_id"]


async def test_a_task_says_only_what_it_knows() -> None:
    """A running task has five fields; a completed one adds time, price and result."""
    async with talking(median=0.4) as talk:
        task_id = await talk.accepted()
        running = (await talk.check(task_id)).json
        assert running["code"] == 200
        assert set(running["data"]) == {"id", "status", "progress", "created", "estimated_time"}
        assert running["data"]["status"] in ("pending", "processing")
        done = await talk.ended(task_id)
        assert set(done) - set(running["data"]) == {"completed", "actual_time", "cost", "credits_cost", "result"}
        assert done["progress"] == 100
        assert done["credits_cost"] == pytest.approx(10 * done["cost"])
        assert done["cost"] in {round(0.088 * seconds, 2) for seconds in range(3, 11)}
        assert done["result"]["videos"][0]["url"] == [link_of(done)]
        assert done["result"]["videos"][0]["expires_at"] == pytest.approx(time.time() + 86400, abs=30)


@pytest.mark.parametrize("progress", ["true", "guess", "none"])
async def test_what_progress_tells(progress: str) -> None:
    """The share of the task's time that is over, that of the estimate (1.5 times the median), or nothing."""
    async with talking(median=2.0, sigma=0.0, progress=progress) as talk:
        since, task_id, accepted = time.monotonic(), await talk.accepted(), time.monotonic()
        await asyncio.sleep(1.0)
        asked = time.monotonic()
        task = (await talk.check(task_id)).json["data"]
        seconds = {"true": 2.0, "guess": 3.0, "none": math.inf}[progress]
        earliest, latest = (100 * age / seconds for age in (asked - accepted, time.monotonic() - since))
        assert ("progress" in task) is (progress != "none")
        assert min(99, earliest - 1) <= task.get("progress", 0) <= latest
        assert (await talk.ended(task_id)).get("progress", 100) == 100


async def test_language_is_ignored() -> None:
    """A language changes nothing."""
    async with talking() as talk:
        task_id = await talk.accepted(language="ja")
        assert (await talk.call("GET", f"/v1/tasks/{task_id}?language=ja")).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x"},
        {"model": "sora-9", "prompt": "x"},
        {"model": MODEL},
        {"model": MODEL, "prompt": "  "},
        {"model": MODEL, "prompt": 5},
        {"model": MODEL, "prompt": None},
        {"model": MODEL, "prompt": "x", "image_urls": ["https://example.com/a.png"] * 17},
        {"model": MODEL, "prompt": "x", "image_urls": "https://example.com/a.png"},
        {"model": MODEL, "prompt": "x", "image_urls": ["data:image/png;base64,AAAA"]},
        {"model": MODEL, "prompt": "x", "video_urls": ["https://example.com/a.mp4"] * 2},
        {"model": MODEL, "prompt": "x", "video_urls": ["ftp://example.com/a.mp4"]},
        {"model": MODEL, "prompt": "x", "resolution": "4k"},
        {"model": MODEL, "prompt": "x", "extend_from_task_id": "task_unknown"},
        ["not an object"],
    ],
    ids=str,
)
async def test_bad_parameters_are_refused(body: Any) -> None:
    """What the page does not allow is a 400 in the shape of the page, and makes no task."""
    async with talking() as talk:
        answer = await talk.call("POST", "/v1/videos/generations", json=body)
        assert answer.status == 400
        assert set(answer.json["error"]) == {"code", "message", "type"}
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert talk.sandbox.record.accepted == 0
        assert talk.sandbox.record.refused == {400: 1}


async def test_what_is_not_json_is_refused() -> None:
    """A body that is no JSON is a 400."""
    async with talking() as talk:
        assert (await talk.call("POST", "/v1/videos/generations", data=b"{nope")).status == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"aspect_ratio": "4:3"},
        {"aspect_ratio": "9:16", "resolution": "720p"},
        {"something": "else"},
        {"prompt": "", "image_urls": ["https://example.com/sketch.jpg"]},
        {"image_urls": ["https://example.com/a.png"] * 16, "video_urls": ["https://example.com/clip.mp4"]},
    ],
    ids=str,
)
async def test_what_the_service_takes_is_taken(fields: dict[str, Any]) -> None:
    """Odd ratios, unknown fields and references without a prompt are accepted."""
    async with talking() as talk:
        assert (await talk.submit(**{"prompt": "x", **fields})).status == 200


@pytest.mark.parametrize("key", ["", "sk-wrong", "INVALID"])
async def test_a_bad_key_is_401_as_the_service_words_it(key: str) -> None:
    """401 has the empty code, the request id in its words, and in a header."""
    async with talking() as talk:
        for answer in (
            await talk.call("GET", "/v1/tasks/task_x", api_key=key),
            await talk.call("POST", "/v1/videos/generations", api_key=key, json={}),
            await talk.call("GET", "/v1/balance", api_key=key),
            await talk.call("POST", "/v1/uploads/images", api_key=key),
        ):
            assert answer.status == 401
            request_id = answer.headers["X-Oneapi-Request-Id"]
            message = f"invalid API key (request id: {request_id})"
            assert answer.json == {"error": {"code": "", "message": message, "param": "", "type": "apimart_error"}}


async def test_only_one_key_is_right_if_so_set() -> None:
    """With an api_key of its own, a sandbox refuses every other."""
    async with talking(api_key="sk-right") as talk:
        assert talk.sandbox.api_key == "sk-right"
        assert (await talk.submit()).status == 200
        assert (await talk.call("GET", "/v1/balance", api_key="sk-other")).status == 401
        assert (await talk.fetch(f"{talk.sandbox.base_url}/v1/balance")).status == 401


async def test_a_forbidden_key_is_403() -> None:
    """A key that may not is told so."""
    async with talking() as talk:
        answer = await talk.call("POST", "/v1/videos/generations", api_key="sk-forbidden", json={})
        assert answer.status == 403
        assert answer.json["error"]["type"] == "permission_error"


async def test_unknown_tasks_and_paths() -> None:
    """A task nobody knows is 404, an id that cannot be one 400, another path 404."""
    async with talking() as talk:
        assert (await talk.check("task_01KS1H7ZYSJWH1N779S2FSHTKA")).status == 404
        assert (await talk.check("nonsense")).status == 400
        assert (await talk.call("GET", "/v1/nowhere")).json["error"]["code"] == 404
        assert (await talk.call("DELETE", "/v1/videos/generations")).status == 404


async def test_a_body_too_large_is_413() -> None:
    """Nobody submits 50 MB."""
    async with talking() as talk:
        answer = await talk.call("POST", "/v1/videos/generations", data=io.BytesIO(b"x" * (41 * 1024 * 1024)))
        assert answer.status == 413


async def test_an_extension_needs_a_finished_parent() -> None:
    """A parent that still runs is refused; one that is completed is taken."""
    async with talking(median=0.3) as talk:
        parent = await talk.accepted()
        assert (await talk.submit("snow", extend_from_task_id=parent)).status == 400
        await talk.ended(parent)
        assert (await talk.submit("snow", extend_from_task_id=parent)).status == 200


@pytest.mark.parametrize(("shape", "videos"), [("list", 1), ("string", 2), ("list", 3)])
async def test_shapes_of_a_result(shape: str, videos: int) -> None:
    """A url is a list or a text, and a task can have several videos, each another file."""
    async with talking(url_shape=shape, videos_per_task=videos) as talk:
        found = (await talk.completed())["result"]["videos"]
        assert len(found) == videos
        assert all(isinstance(video["url"], str if shape == "string" else list) for video in found)
        urls = [video["url"] if shape == "string" else video["url"][0] for video in found]
        bodies = {(await talk.fetch(url)).body for url in urls}
        assert len(bodies) == videos
