"""The same key and the same request are one task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.talk import talking


async def test_the_same_key_is_the_same_task() -> None:
    """A second submit with the key of the first is answered with its task, and says so in a header."""
    async with talking() as talk:
        first = await talk.submit("a", key="one")
        second = await talk.submit("a", key="one")
        assert second.json == first.json
        assert "Idempotency-Replayed" not in first.headers
        assert second.headers["Idempotency-Replayed"] == "true"
        record = talk.sandbox.record
        assert (record.submits, record.accepted, record.replayed, record.duplicates) == (2, 1, 1, 0)


async def test_another_key_is_another_task() -> None:
    """Equal requests under two keys, or under none, are two tasks."""
    async with talking() as talk:
        for key in ("one", "two", None, None):
            await talk.submit("a", key=key)
        assert talk.sandbox.record.accepted == 4
        assert talk.sandbox.record.duplicates == 0


async def test_a_key_reused_for_another_request_is_refused() -> None:
    """The same key with another body is 409 idempotency_key_reused."""
    async with talking() as talk:
        await talk.submit("a", key="one")
        answer = await talk.submit("b", key="one")
        assert answer.status == 409
        assert answer.json["error"]["code"] == "idempotency_key_reused"
        assert answer.json["request_id"] == answer.headers["X-Oneapi-Request-Id"]


async def test_while_the_first_is_handled_the_second_waits() -> None:
    """The same key at the same time is 409 idempotency_in_progress, with Retry-After."""
    async with talking(latency=0.2) as talk:
        answers = await asyncio.gather(*(talk.submit("a", key="one") for _ in range(3)))
        assert sorted(answer.status for answer in answers) == [200, 409, 409]
        late = next(answer for answer in answers if answer.status == 409)
        assert late.json["error"]["code"] == "idempotency_in_progress"
        assert late.headers["Retry-After"] == "1"
        assert (await talk.submit("a", key="one")).headers["Idempotency-Replayed"] == "true"


async def test_a_refused_submit_does_not_use_up_its_key() -> None:
    """After a 402 or a 429 the key is as good as new."""
    async with talking(max_in_flight=1, median=0.2) as talk:
        task_id = await talk.accepted("first")
        assert (await talk.submit("a", key="one")).status == 429
        await talk.ended(task_id)
        assert (await talk.submit("a", key="one")).status == 200


async def test_keys_of_two_accounts_are_apart() -> None:
    """A key belongs to the API key it came with."""
    async with talking() as talk:
        body = {"model": "gemini-omni-flash-preview", "prompt": "a"}
        for api_key in ("sk-a", "sk-b"):
            options: dict[str, Any] = {"json": body, "headers": {"Idempotency-Key": "one"}, "api_key": api_key}
            answer = await talk.call("POST", "/v1/videos/generations", **options)
            assert "Idempotency-Replayed" not in answer.headers
        assert talk.sandbox.record.accepted == 2


@pytest.mark.parametrize("key", ["with space", "k" * 192])
async def test_keys_that_are_none(key: str) -> None:
    """A key is 1 to 191 visible ASCII characters."""
    async with talking() as talk:
        assert (await talk.submit("a", key=key)).status == 400
        assert (await talk.submit("a", key="k" * 191)).status == 200


async def test_without_idempotency_the_same_key_pays_twice() -> None:
    """Switched off, keys are ignored, and the record shows the double payment."""
    async with talking(idempotency=False) as talk:
        first, second = await talk.accepted("a", key="one"), await talk.accepted("a", key="one")
        assert first != second
        assert talk.sandbox.record.duplicates == 1
        assert talk.sandbox.record.duplicate_keys == {"one": [first, second]}
