"""Balance, uploads, webhooks and the record: what surrounds the tasks."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json

import pytest
from aiohttp import FormData

from tests.support.sandbox_client import SandboxClient, open_sandbox
from tests.support.webhook_faults import webhook_server

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 64


async def test_a_submit_beyond_the_credit_is_402() -> None:
    """A clip that the account cannot pay for is refused. The balance says what is left and what was used."""
    async with open_sandbox(credits=10) as client:
        statuses = [(await client.submit(f"prompt {number}")).status for number in range(12)]
        assert statuses[0] == 200
        assert statuses[-1] == 402
        balance = (await client.call("GET", "/v1/user/balance")).json
        paid = client.sandbox.record.paid
        assert balance["used_credits"] == pytest.approx(10 * paid)
        assert balance["remain_credits"] == pytest.approx(10 - 10 * paid)
        assert balance["remain_balance"] == pytest.approx(1 - paid)
        assert balance["success"] is True
        assert balance["unlimited_quota"] is False


async def test_an_unlimited_balance_is_minus_one(client: SandboxClient) -> None:
    """An account without a limit reports -1 under all four paths."""
    for path in ("/v1/balance", "/v1/user/balance", "/balance", "/user/balance"):
        balance = (await client.call("GET", path)).json
        assert balance["remain_balance"] == -1
        assert balance["unlimited_quota"] is True


async def test_the_model_chooses_the_length(client: SandboxClient) -> None:
    """Clips have every length from 3 to 10 seconds, and are billed by the second."""
    for number in range(80):
        await client.accepted(f"prompt {number}")
    tasks = client.sandbox.record.tasks.values()
    assert {task.seconds for task in tasks} == set(range(3, 11))
    assert all(task.price == round(0.088 * task.seconds, 6) for task in tasks)


async def test_failed_tasks_cost_nothing() -> None:
    """A failed task gives its reason under HTTP 200, and its credits are refunded."""
    async with open_sandbox(fail_rate=1.0, credits=100) as client:
        data = await client.ended(await client.accepted())
        assert data["status"] == "failed"
        assert data["error"]["message"]
        assert data["cost"] == 0
        assert "result" not in data
        assert client.sandbox.record.paid == 0
        assert (await client.call("GET", "/v1/balance")).json["remain_credits"] == 100


async def test_an_upload_is_served_by_the_cdn(client: SandboxClient) -> None:
    """The response to an upload has five fields without an envelope. The image can be downloaded without a key."""
    form = FormData()
    form.add_field("file", PNG, filename="cat.png", content_type="image/png")
    response = await client.call("POST", "/v1/uploads/images", data=form)
    assert response.status == 200
    assert set(response.json) == {"url", "filename", "content_type", "bytes", "created_at"}
    assert response.json["bytes"] == len(PNG)
    assert response.json["url"].startswith(client.sandbox.cdn_url)
    assert (await client.fetch(response.json["url"])).body == PNG
    assert client.sandbox.record.uploads_by_sha256 == {hashlib.sha256(PNG).hexdigest(): 1}


async def test_the_url_of_an_upload_expires() -> None:
    """An expired URL is refused for a client, and fails a task that refers to it."""
    async with open_sandbox(upload_lifetime=0.05, prerendered=False) as client:
        form = FormData()
        form.add_field("file", PNG, filename="cat.png", content_type="image/png")
        url = (await client.call("POST", "/v1/uploads/images", data=form)).json["url"]
        await asyncio.sleep(0.06)
        assert (await client.fetch(url)).status in (403, 410)
        task = await client.ended(await client.accepted(image_urls=[url]))
        assert (task["status"], client.sandbox.record.paid) == ("failed", 0)


@pytest.mark.parametrize(
    ("field", "content", "status", "text"),
    [
        ("picture", PNG, 400, "missing or invalid file field"),
        ("file", b"%PDF-1.7", 400, "unsupported image type"),
        ("file", PNG + bytes(20 * 1024 * 1024), 413, "exceeds maximum 20971520 bytes"),
    ],
    ids=["no file", "no image", "too large"],
)
async def test_bad_uploads_are_refused(
    client: SandboxClient, field: str, content: bytes, status: int, text: str
) -> None:
    """The error of a bad upload says what is wrong, and has no code."""
    form = FormData()
    form.add_field(field, io.BytesIO(content), filename="x")
    response = await client.call("POST", "/v1/uploads/images", data=form)
    assert response.status == status
    assert text in response.json["error"]["message"]
    assert "code" not in response.json["error"]


async def test_an_upload_that_is_not_a_form_is_refused(client: SandboxClient) -> None:
    """An image as the raw body is a 400."""
    assert (await client.call("POST", "/v1/uploads/images", data=PNG)).status == 400


@pytest.mark.parametrize(("statuses", "attempts"), [([200], 1), ([404], 1), ([500, 503, 200], 3), ([500] * 4, 4)])
async def test_a_webhook_is_retried_after_5xx_only(statuses: list[int], attempts: int) -> None:
    """A finished task is posted without an envelope to <base>/callback. A 5xx is retried three times, a 4xx never."""
    async with webhook_server([*statuses]) as (url, received), open_sandbox(speed=1000.0) as client:
        task_id = await client.accepted(webhook=url)
        calls = [await asyncio.wait_for(received.get(), 10) for _ in range(attempts)]
        await asyncio.sleep(0.1)
        assert received.empty()
        assert {(call["id"], call["status"]) for call in calls} == {(task_id, "completed")}
        assert [status for _, _, status in client.sandbox.record.webhooks] == statuses


async def test_the_record_counts_requests_tasks_and_money() -> None:
    """Counts, tasks and money agree with what the client did, and are served as JSON too."""
    async with open_sandbox(faults={"http_503": 0.5}, seed=3) as client:
        responses = [await client.submit(f"prompt {number}", key=f"key-{number}") for number in range(8)]
        ids = [response.json["data"][0]["task_id"] for response in responses if response.status == 200]
        for task_id in ids:
            await client.ended(task_id)
        record = client.sandbox.record
        assert (record.submits, record.accepted) == (8, len(ids))
        assert 0 < len(ids) < 8
        assert record.refused == {503: 8 - len(ids)}
        assert list(record.tasks) == ids
        assert record.checks == sum(record.checks_by_task.values())
        assert record.paid == pytest.approx(sum(task.cost for task in record.tasks.values()))
        assert 1 <= record.max_in_flight <= len(ids)
        assert record.in_flight == 0
        assert record.duplicates == 0
        served = (await client.fetch(f"{client.sandbox.base_url}/sandbox/record")).json
        assert served == json.loads(json.dumps(record.to_json()))
        assert served["tasks"][ids[0]]["idempotency_key"].startswith("key-")
        assert served["faults"] == {"http_503": 8 - len(ids)}
