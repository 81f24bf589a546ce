"""Submits and checks are answered as the API page and the known facts say."""

from __future__ import annotations

import asyncio
import io
import math
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from omni_async.sandbox.tasks import FAILURES
from tests.support.sandbox_client import MODEL, SandboxClient, link_of, open_sandbox
from tests.support.webhook_faults import webhook_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="module")
async def failing() -> AsyncIterator[SandboxClient]:
    """Serve a sandbox whose tasks all fail."""
    async with open_sandbox(fail_rate=1.0) as client:
        yield client


PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 64


async def test_a_submit_is_answered_as_documented(client: SandboxClient) -> None:
    """The response to a submit has exactly the form of the API page."""
    response = await client.submit()
    assert response.json == {
        "code": 200,
        "data": [{"status": "submitted", "task_id": response.json["data"][0]["task_id"]}],
    }
    assert re.fullmatch(r"task_[0-9A-HJKMNP-TV-Z]{26}", response.json["data"][0]["task_id"])
    assert response.headers["X-Oneapi-Request-Id"]


@pytest.mark.parametrize("by", ["header", "setting"])
async def test_the_newer_form_of_a_submit_response(by: str) -> None:
    """The version header, or the setting, makes data an object with an id."""
    async with open_sandbox(submit_shape="object" if by == "setting" else "list") as client:
        headers = {"X-APIMart-Response-Version": "2026-07-27"} if by == "header" else {}
        body = {"model": MODEL, "prompt": "x"}
        response = await client.call("POST", "/v1/videos/generations", json=body, headers=headers)
        assert response.json["data"]["id"].startswith("task_")
        assert response.json["data"]["object"] == "generation.task"
        assert response.json["request_id"]


async def test_a_task_has_only_the_fields_of_its_status() -> None:
    """A running task has five fields; a completed one adds times, price and result."""
    async with open_sandbox(median=0.4) as client:
        task_id = await client.accepted()
        running = (await client.check(task_id)).json
        assert running["code"] == 200
        assert set(running["data"]) == {"id", "status", "progress", "created", "estimated_time"}
        assert running["data"]["status"] in ("pending", "processing")
        done = await client.ended(task_id)
        assert set(done) - set(running["data"]) == {"completed", "actual_time", "cost", "credits_cost", "result"}
        assert done["progress"] == 100
        assert done["credits_cost"] == pytest.approx(10 * done["cost"])
        assert done["cost"] in {round(0.088 * seconds, 6) for seconds in range(3, 11)}
        assert done["result"]["videos"][0]["url"] == [link_of(done)]
        assert done["result"]["videos"][0]["expires_at"] == pytest.approx(time.time() + 86400, abs=30)


@pytest.mark.slow
@pytest.mark.parametrize("progress", ["true", "guess", "none"])
async def test_progress_is_true_guessed_or_absent(progress: str) -> None:
    """Progress is the share of the task's duration, that of its estimate (1.5 times the median), or absent."""
    async with open_sandbox(median=2.0, sigma=0.0, progress=progress) as client:
        submitted, task_id, accepted = time.monotonic(), await client.accepted(), time.monotonic()
        await asyncio.sleep(1.0)
        checked = time.monotonic()
        task = (await client.check(task_id)).json["data"]
        seconds = {"true": 2.0, "guess": 3.0, "none": math.inf}[progress]
        earliest, latest = (100 * age / seconds for age in (checked - accepted, time.monotonic() - submitted))
        assert ("progress" in task) is (progress != "none")
        assert min(99, earliest - 1) <= task.get("progress", 0) <= latest
        assert (await client.ended(task_id)).get("progress", 100) == 100


@pytest.mark.parametrize("language", ["en", "zh", "ja", "ko", "ru", "fr", "de", "id", "pt", "es"])
async def test_the_message_of_a_failed_task_is_translated(failing: SandboxClient, language: str) -> None:
    """A check with one of ten languages changes the message of the error, and nothing else."""
    task_id = await failing.accepted()
    plain = await failing.ended(task_id)
    translated = (await failing.call("GET", f"/v1/tasks/{task_id}?language={language}")).json["data"]
    assert plain["error"]["message"] != translated["error"]["message"]
    assert plain["error"] | {"message": ""} == translated["error"] | {"message": ""}
    assert plain | {"error": {}} == translated | {"error": {}}


@pytest.mark.parametrize("language", ["zh-CN", "JA", "it", "", "en,de"])
async def test_other_languages_leave_the_message_as_it_is(failing: SandboxClient, language: str) -> None:
    """A language that the service does not have, or one with a region, gives the message of the upstream."""
    task_id = await failing.accepted()
    plain = await failing.ended(task_id)
    assert (await failing.call("GET", f"/v1/tasks/{task_id}?language={language}")).json["data"] == plain


async def test_a_webhook_has_the_language_of_the_submit(failing: SandboxClient) -> None:
    """The language in the body of a submit is that of its webhook, and not of its checks; what is none is ignored."""
    async with webhook_server([200]) as (url, received):
        task_id = await failing.accepted(webhook=url, language="ja")
        told = await asyncio.wait_for(received.get(), 10)
    checked = await failing.ended(task_id)
    assert told["error"]["message"].endswith("。")
    assert checked["error"]["message"] in {failure["message"] for failure in FAILURES}
    assert (await failing.submit(language=["ja"])).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x"},
        {"model": "", "prompt": "x"},
        {"model": 5, "prompt": "x"},
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
async def test_bad_parameters_are_refused(client: SandboxClient, body: Any) -> None:
    """What the page does not allow is a 400 in the form seen from the service, and creates no task."""
    response = await client.call("POST", "/v1/videos/generations", json=body)
    assert response.status == 400
    error, request_id = response.json["error"], response.headers["X-Oneapi-Request-Id"]
    assert (error["code"], error["type"]) == ("", "apimart_error")
    assert error["message"].endswith(f" (request id: {request_id})")
    assert client.sandbox.record.accepted == 0
    assert client.sandbox.record.refused == {400: 1}


async def test_a_body_that_is_not_json_is_refused(client: SandboxClient) -> None:
    """A malformed body is a 400."""
    assert (await client.call("POST", "/v1/videos/generations", data=b"{nope")).status == 400


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
async def test_unusual_requests_are_accepted(client: SandboxClient, fields: dict[str, Any]) -> None:
    """Other aspect ratios, unknown fields, and references without a prompt are accepted."""
    assert (await client.submit(**{"prompt": "x", **fields})).status == 200


@pytest.mark.parametrize("key", ["", "sk-wrong", "INVALID"])
async def test_a_bad_api_key_is_401_in_the_form_of_the_service(client: SandboxClient, key: str) -> None:
    """The 401 has an empty code, and the request id both in its message and in a header."""
    for response in (
        await client.call("GET", "/v1/tasks/task_x", api_key=key),
        await client.call("POST", "/v1/videos/generations", api_key=key, json={}),
        await client.call("GET", "/v1/balance", api_key=key),
        await client.call("POST", "/v1/uploads/images", api_key=key),
    ):
        assert response.status == 401
        request_id = response.headers["X-Oneapi-Request-Id"]
        message = f"invalid API key (request id: {request_id})"
        assert response.json == {"error": {"code": "", "message": message, "param": "", "type": "apimart_error"}}


async def test_a_configured_api_key_is_the_only_valid_one() -> None:
    """Every other key is refused."""
    async with open_sandbox(api_key="sk-right") as client:
        assert client.sandbox.api_key == "sk-right"
        assert (await client.submit()).status == 200
        assert (await client.call("GET", "/v1/balance", api_key="sk-other")).status == 401
        assert (await client.fetch(f"{client.sandbox.base_url}/v1/balance")).status == 401


async def test_a_forbidden_key_is_403(client: SandboxClient) -> None:
    """A key that contains the word "forbidden" is refused with a 403."""
    response = await client.call("POST", "/v1/videos/generations", api_key="sk-forbidden", json={})
    assert response.status == 403
    assert response.json["error"]["type"] == "permission_error"


async def test_unknown_tasks_and_paths(client: SandboxClient) -> None:
    """An unknown task is a 404, a malformed task id a 400, an unknown path a 404."""
    assert (await client.check("task_01KS1H7ZYSJWH1N779S2FSHTKA")).status == 404
    assert (await client.check("nonsense")).status == 400
    assert (await client.call("GET", "/v1/nowhere")).json["error"]["code"] == 404
    assert (await client.call("DELETE", "/v1/videos/generations")).status == 404


async def test_a_body_too_large_is_413(client: SandboxClient) -> None:
    """A body above 40 MB is refused."""
    response = await client.call("POST", "/v1/videos/generations", data=io.BytesIO(b"x" * (41 * 1024 * 1024)))
    assert response.status == 413


async def test_an_extension_needs_a_completed_parent() -> None:
    """A parent that is still running is refused; a completed one is accepted."""
    async with open_sandbox(median=0.3) as client:
        parent = await client.accepted()
        assert (await client.submit("snow", extend_from_task_id=parent)).status == 400
        await client.ended(parent)
        assert (await client.submit("snow", extend_from_task_id=parent)).status == 200


@pytest.mark.parametrize(("shape", "videos"), [("list", 1), ("string", 2), ("list", 3)])
async def test_forms_of_a_result(shape: str, videos: int) -> None:
    """A url is a list or a string. A task can have several videos, each a different file."""
    async with open_sandbox(url_shape=shape, videos_per_task=videos) as client:
        found = (await client.completed())["result"]["videos"]
        assert len(found) == videos
        assert all(isinstance(video["url"], str if shape == "string" else list) for video in found)
        urls = [video["url"] if shape == "string" else video["url"][0] for video in found]
        bodies = {(await client.fetch(url)).body for url in urls}
        assert len(bodies) == videos
