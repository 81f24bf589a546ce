"""Submits with the same idempotency key and the same body create one task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.sandbox_client import MODEL, SandboxClient, open_sandbox


async def test_the_same_key_returns_the_same_task(client: SandboxClient) -> None:
    """A second submit with the same key gets the response of the first, marked by a header."""
    first = await client.submit("a", key="one")
    second = await client.submit("a", key="one")
    assert second.json == first.json
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    record = client.sandbox.record
    assert (record.submits, record.accepted, record.replayed, record.duplicates) == (2, 1, 1, 0)


async def test_another_key_creates_another_task(client: SandboxClient) -> None:
    """Equal requests with different keys, or without one, create separate tasks."""
    for key in ("one", "two", None, None):
        await client.submit("a", key=key)
    assert client.sandbox.record.accepted == 4
    assert client.sandbox.record.duplicates == 0


async def test_a_key_reused_for_another_request_is_refused(client: SandboxClient) -> None:
    """The same key with another body is a 409 idempotency_key_reused."""
    await client.submit("a", key="one")
    response = await client.submit("b", key="one")
    assert response.status == 409
    assert response.json["error"]["code"] == "idempotency_key_reused"
    assert response.json["request_id"] == response.headers["X-Oneapi-Request-Id"]


async def test_a_concurrent_submit_with_the_same_key_is_409() -> None:
    """While the first request is handled, others with its key get a 409 idempotency_in_progress with Retry-After."""
    async with open_sandbox(latency=0.2) as client:
        responses = await asyncio.gather(*(client.submit("a", key="one") for _ in range(3)))
        assert sorted(response.status for response in responses) == [200, 409, 409]
        late = next(response for response in responses if response.status == 409)
        assert late.json["error"]["code"] == "idempotency_in_progress"
        assert late.headers["Retry-After"] == "1"
        assert (await client.submit("a", key="one")).headers["Idempotency-Replayed"] == "true"


async def test_a_refused_submit_does_not_use_up_its_key() -> None:
    """After a 429 the same key can be used again."""
    async with open_sandbox(max_in_flight=1, median=0.2) as client:
        task_id = await client.accepted("first")
        assert (await client.submit("a", key="one")).status == 429
        await client.ended(task_id)
        assert (await client.submit("a", key="one")).status == 200


async def test_each_api_key_has_its_own_idempotency_keys(client: SandboxClient) -> None:
    """The same idempotency key under two API keys creates two tasks."""
    body = {"model": "gemini-omni-flash-preview", "prompt": "a"}
    for api_key in ("sk-a", "sk-b"):
        options: dict[str, Any] = {"json": body, "headers": {"Idempotency-Key": "one"}, "api_key": api_key}
        response = await client.call("POST", "/v1/videos/generations", **options)
        assert "Idempotency-Replayed" not in response.headers
    assert client.sandbox.record.accepted == 2


@pytest.mark.parametrize("key", ["with space", "k" * 192])
async def test_malformed_keys_are_refused(client: SandboxClient, key: str) -> None:
    """A key has 1 to 191 visible ASCII characters."""
    assert (await client.submit("a", key=key)).status == 400
    assert (await client.submit("a", key="k" * 191)).status == 200


async def test_the_record_shows_double_payment_without_idempotency() -> None:
    """Switched off, the same key creates two tasks, and the record counts a duplicate."""
    async with open_sandbox(idempotency=False) as client:
        first, second = await client.accepted("a", key="one"), await client.accepted("a", key="one")
        assert first != second
        assert client.sandbox.record.duplicates == 1
        assert client.sandbox.record.duplicate_keys == {"one": [first, second]}


@pytest.mark.parametrize("is_honoured", [True, False])
@pytest.mark.parametrize("declared", [None, True, False])
async def test_the_schema_declares_idempotency_as_the_settings_say(is_honoured: bool, declared: bool | None) -> None:
    """What a model's schema declares follows what is honoured, unless it is set apart from it."""
    async with open_sandbox(idempotency=is_honoured, declare_idempotency=declared) as client:
        schema = (await client.call("GET", f"/v1/model-schema?model={MODEL}&operation=video_generation")).json
        first, second = await client.submit("a", key="one"), await client.submit("a", key="one")
    assert ("idempotency" in schema) is (is_honoured if declared is None else declared)
    assert (first.json == second.json) is is_honoured
    assert ("Idempotency-Replayed" in second.headers) is is_honoured
