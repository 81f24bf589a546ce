"""Submits, checks and the rest of the API answer as the page and the facts say."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from typing import Any

import pytest
from aiohttp import FormData, web

from .talk import MODEL, link_of, talking

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


async def test_credit_runs_out() -> None:
    """A clip that the account cannot pay is 402; the balance says what is left and used."""
    async with talking(credits=10) as talk:
        statuses = [(await talk.submit(f"prompt {number}")).status for number in range(12)]
        assert statuses[0] == 200
        assert statuses[-1] == 402
        balance = (await talk.call("GET", "/v1/user/balance")).json
        paid = talk.sandbox.record.paid
        assert balance["used_credits"] == pytest.approx(10 * paid)
        assert balance["remain_credits"] == pytest.approx(10 - 10 * paid)
        assert balance["remain_balance"] == pytest.approx(1 - paid)
        assert balance["success"] is True
        assert balance["unlimited_quota"] is False


async def test_without_end_the_balance_is_minus_one() -> None:
    """An unlimited account says -1, at all four paths."""
    async with talking() as talk:
        for path in ("/v1/balance", "/v1/user/balance", "/balance", "/user/balance"):
            balance = (await talk.call("GET", path)).json
            assert balance["remain_balance"] == -1
            assert balance["unlimited_quota"] is True


async def test_failed_tasks_cost_nothing() -> None:
    """A task that fails says why, under HTTP 200, and its credits come back."""
    async with talking(fail_rate=1.0, credits=100) as talk:
        data = await talk.ended(await talk.accepted())
        assert data["status"] == "failed"
        assert data["error"]["message"]
        assert data["cost"] == 0
        assert "result" not in data
        assert talk.sandbox.record.paid == 0
        assert (await talk.call("GET", "/v1/balance")).json["remain_credits"] == 100


async def test_many_tasks_at_once() -> None:
    """The batch check gives ids and status words, nothing else, under either name of its field."""
    async with talking() as talk:
        ids = [(await talk.completed("a"))["id"], (await talk.completed("b"))["id"]]
        for name in ("task_ids", "ids"):
            answer = await talk.call("POST", "/v1/tasks/batch", json={name: [*ids, "task_unknown"]})
            assert answer.json["data"] == [{"id": task_id, "status": "completed"} for task_id in ids]
        assert (await talk.call("POST", "/v1/tasks/batch", json={})).status == 400


async def test_models_and_schema() -> None:
    """The model is listed, and its schema declares idempotency."""
    async with talking() as talk:
        listed = (await talk.call("GET", "/v1/models")).json["data"]
        assert MODEL in [each["id"] for each in listed]
        schema = await talk.call("GET", f"/v1/model-schema?model={MODEL}&operation=video_generation")
        assert schema.json["data"]["idempotency"]["retention_seconds"] == 86400
        assert (await talk.call("GET", "/v1/model-schema?model=none")).status == 404


async def test_an_upload_becomes_a_picture_on_the_second_origin() -> None:
    """An uploaded picture has five fields without an envelope, and can be fetched without a key."""
    async with talking() as talk:
        form = FormData()
        form.add_field("file", PNG, filename="cat.png", content_type="image/png")
        answer = await talk.call("POST", "/v1/uploads/images", data=form)
        assert answer.status == 200
        assert set(answer.json) == {"url", "filename", "content_type", "bytes", "created_at"}
        assert answer.json["bytes"] == len(PNG)
        assert answer.json["url"].startswith(talk.sandbox.cdn_url)
        assert (await talk.fetch(answer.json["url"])).body == PNG


@pytest.mark.parametrize(
    ("name", "start", "size", "status", "words"),
    [
        ("picture", PNG, 0, 400, "missing or invalid file field"),
        ("file", b"%PDF-1.7", 0, 400, "unsupported image type"),
        ("file", PNG, 20 * 1024 * 1024, 413, "exceeds maximum 20971520 bytes"),
    ],
    ids=["no file", "no image", "too large"],
)
async def test_bad_uploads(name: str, start: bytes, size: int, status: int, words: str) -> None:
    """A bad upload says what is wrong, without a code."""
    async with talking() as talk:
        form = FormData()
        form.add_field(name, io.BytesIO(start + bytes(size)), filename="x")
        answer = await talk.call("POST", "/v1/uploads/images", data=form)
        assert answer.status == status
        assert words in answer.json["error"]["message"]
        assert "code" not in answer.json["error"]


async def test_an_upload_that_is_no_form() -> None:
    """A raw body is no upload."""
    async with talking() as talk:
        assert (await talk.call("POST", "/v1/uploads/images", data=PNG)).status == 400


@pytest.mark.parametrize(("answers", "posts"), [([200], 1), ([404], 1), ([500, 503, 200], 3), ([500] * 4, 4)])
async def test_webhooks(answers: list[int], posts: int) -> None:
    """A finished task is posted, bare, to <base>/callback; 5xx is tried again three times, 4xx never."""
    got: list[dict[str, Any]] = []
    enough = asyncio.Event()

    async def callback(request: web.Request) -> web.Response:
        got.append(await request.json())
        if len(got) == posts:
            enough.set()
        return web.Response(status=answers[len(got) - 1])

    app = web.Application()
    app.router.add_post("/hook/callback", callback)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with talking(speed=1000.0) as talk:
            task_id = await talk.accepted(webhook=f"http://127.0.0.1:{runner.addresses[0][1]}/hook/")
            async with asyncio.timeout(10):
                await enough.wait()
            await asyncio.sleep(0.1)
            assert len(got) == posts
            assert got[0]["id"] == task_id
            assert got[0]["status"] == "completed"
            assert [status for _, _, status in talk.sandbox.record.webhooks] == answers
    finally:
        await runner.cleanup()


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


async def test_the_record_tells_it_all() -> None:
    """Counts, tasks and money of a run, also as JSON over HTTP."""
    async with talking(faults={"http_503": 0.5}, seed=3) as talk:
        answers = [await talk.submit(f"prompt {number}", key=f"key-{number}") for number in range(8)]
        ids = [answer.json["data"][0]["task_id"] for answer in answers if answer.status == 200]
        for task_id in ids:
            await talk.ended(task_id)
        record = talk.sandbox.record
        assert (record.submits, record.accepted) == (8, len(ids))
        assert 0 < len(ids) < 8
        assert record.refused == {503: 8 - len(ids)}
        assert list(record.tasks) == ids
        assert record.checks == sum(record.checks_by_task.values())
        assert record.paid == pytest.approx(sum(task.cost for task in record.tasks.values()))
        assert 1 <= record.max_in_flight <= len(ids)
        assert record.in_flight == 0
        assert record.duplicates == 0
        told = (await talk.fetch(f"{talk.sandbox.base_url}/sandbox/record")).json
        assert told == json.loads(json.dumps(record.to_json()))
        assert told["tasks"][ids[0]]["idempotency_key"].startswith("key-")
        assert told["faults"] == {"http_503": 8 - len(ids)}
