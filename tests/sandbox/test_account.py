"""Money, uploads, models, webhooks and the record: what is around the tasks."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json

import pytest
from aiohttp import FormData

from tests.support.shown_webhooks import listening
from tests.support.talk import MODEL, talking

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 64


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


async def test_the_model_chooses_the_length() -> None:
    """Clips are 3 to 10 seconds long, of every length between, and billed by the second."""
    async with talking() as talk:
        for number in range(80):
            await talk.accepted(f"prompt {number}")
        tasks = talk.sandbox.record.tasks.values()
        assert {task.seconds for task in tasks} == set(range(3, 11))
        assert all(task.price == round(0.088 * task.seconds, 2) for task in tasks)


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
        assert talk.sandbox.record.uploads_by_sha256 == {hashlib.sha256(PNG).hexdigest(): 1}


async def test_the_link_of_an_upload_expires() -> None:
    """After its time it leads nowhere, neither for a client nor for a task that is to use the picture."""
    async with talking(upload_lifetime=0.05, prerendered=False) as talk:
        form = FormData()
        form.add_field("file", PNG, filename="cat.png", content_type="image/png")
        url = (await talk.call("POST", "/v1/uploads/images", data=form)).json["url"]
        await asyncio.sleep(0.06)
        assert (await talk.fetch(url)).status in (403, 410)
        task = await talk.ended(await talk.accepted(image_urls=[url]))
        assert (task["status"], talk.sandbox.record.paid) == ("failed", 0)


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
    async with listening([*answers]) as (address, got), talking(speed=1000.0) as talk:
        task_id = await talk.accepted(webhook=address)
        calls = [await asyncio.wait_for(got.get(), 10) for _ in range(posts)]
        await asyncio.sleep(0.1)
        assert got.empty()
        assert {(call["id"], call["status"]) for call in calls} == {(task_id, "completed")}
        assert [status for _, _, status in talk.sandbox.record.webhooks] == answers


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
