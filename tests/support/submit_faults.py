"""What each fault of a submit looks like to a client, as assertions by name."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.support.sandbox_client import TIMEOUT, SandboxClient

SILENCE = 0.3  # seconds without a response after which a request counts as hanging


def assert_refused(status: int, text: str) -> Callable[[SandboxClient], Awaitable[None]]:
    """Return the assertion that a submit gets this status and text, and that no task is created."""

    async def check(client: SandboxClient) -> None:
        response = await client.submit(key="one")
        assert response.status == status
        assert text in response.body.decode()
        assert client.sandbox.record.accepted == 0
        assert client.sandbox.record.refused == {status: 1}

    return check


async def assert_dropped_before(client: SandboxClient) -> None:
    """Assert that the connection closes and no task is created."""
    with pytest.raises(aiohttp.ClientError):
        await client.submit()
    assert (client.sandbox.record.submits, client.sandbox.record.accepted) == (1, 0)


async def assert_redirected(client: SandboxClient) -> None:
    """Assert that the POST is redirected to a third origin and no task is created."""
    response = await client.submit()
    assert response.status == 307
    target = response.headers["Location"]
    assert not target.startswith((client.sandbox.base_url, client.sandbox.cdn_url))
    assert (await client.fetch(target, method="POST", json={})).status == 403
    record = client.sandbox.record
    assert (record.accepted, record.redirected_submits, record.redirected_keys) == (0, 1, 0)


async def assert_error_in_200(client: SandboxClient) -> None:
    """Assert that both forms of error come under HTTP 200 and no task is created."""
    responses = [await client.submit(str(number)) for number in range(12)]
    assert {response.status for response in responses} == {200}
    assert {response.json.get("code", response.json.get("success")) for response in responses} == {429, False}
    assert client.sandbox.record.accepted == 0
    assert "data" not in (await client.check("task_x")).json


def assert_accepted_despite(status: int) -> Callable[[SandboxClient], Awaitable[None]]:
    """Return the assertion that a task is created although the response has this status and no readable task id."""

    async def check(client: SandboxClient) -> None:
        response = await client.submit(key="one")
        assert response.status == status
        await _assert_task_exists(client)
        if status == 200:
            with pytest.raises(ValueError):
                _ = response.json

    return check


async def _assert_task_exists(client: SandboxClient) -> None:
    assert client.sandbox.record.accepted == 1
    client.sandbox.script("submit", [None])
    again = await client.submit(key="one")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json["data"][0]["task_id"] == next(iter(client.sandbox.record.tasks))


async def assert_dropped_after(client: SandboxClient) -> None:
    """Assert that the connection closes, but the task is created."""
    with pytest.raises(aiohttp.ClientError):
        await client.submit(key="one")
    await _assert_task_exists(client)


async def assert_hangs(client: SandboxClient) -> None:
    """Assert that no response comes, but the task is created."""
    submit = asyncio.create_task(client.submit(key="one"))
    async with asyncio.timeout(TIMEOUT):
        while not client.sandbox.record.accepted:
            await asyncio.sleep(0.01)
    await asyncio.wait({submit}, timeout=SILENCE)
    assert not submit.done()
    submit.cancel()
    await _assert_task_exists(client)


async def assert_delay_in_body(client: SandboxClient) -> None:
    """Assert that a 429 says in its body, and nowhere else, how long to wait."""
    response = await client.submit()
    assert (response.status, response.json["retry_after"], "Retry-After" in response.headers) == (429, 1, False)
    assert response.json["error"]["type"] == "rate_limit_error"
    assert client.sandbox.record.accepted == 0


async def assert_id_in_unknown_field(client: SandboxClient) -> None:
    """Assert that the response, and its replay, have the task id in a field of another name."""
    first, second = await client.submit(key="one"), await client.submit(key="one")
    (task_id,) = client.sandbox.record.tasks
    assert [response.json["data"]["taskId"] for response in (first, second)] == [task_id, task_id]
    assert second.headers["Idempotency-Replayed"] == "true"


def assert_incomplete(header: str) -> Callable[[SandboxClient], Awaitable[None]]:
    """Return the assertion that the JSON is complete, but the end that this header announces never comes."""

    async def check(client: SandboxClient) -> None:
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.submit(key="one")
        raw = await client.raw_submit(key="two")
        head, _, body = raw.decode().partition("\r\n\r\n")
        assert header in head
        assert list(client.sandbox.record.tasks)[1] in body
        assert not body.endswith("0\r\n\r\n")
        if announced := re.search(r"Content-Length: (\d+)", head):
            assert int(announced[1]) > len(body)
        client.sandbox.script("submit", [None, None])
        again = await client.submit(key="two")
        assert again.json["data"][0]["task_id"] == list(client.sandbox.record.tasks)[1]

    return check


async def assert_unreadable_gzip(client: SandboxClient) -> None:
    """Assert that the body is plain JSON under the label of gzip."""
    with pytest.raises(aiohttp.ClientError):
        await client.submit(key="one")
    head, _, body = (await client.raw_submit(key="one")).decode().partition("\r\n\r\n")
    assert "Content-Encoding: gzip" in head
    assert json.loads(body)["data"][0]["task_id"] == next(iter(client.sandbox.record.tasks))


SUBMIT_FAULTS: dict[str, Callable[[SandboxClient], Awaitable[None]]] = {
    "http_400": assert_refused(400, "invalid_request_error"),
    "http_400_empty_code": assert_refused(400, '{"code": "", "message": "invalid aspect_ratio'),
    "http_401": assert_refused(401, "invalid API key (request id: "),
    "http_402": assert_refused(402, "payment_required"),
    "http_403": assert_refused(403, "permission_error"),
    "http_403_key_quota": assert_refused(403, "pre_consume_token_quota_failed"),
    "http_403_account_quota": assert_refused(403, "insufficient_user_quota"),
    "http_404_model": assert_refused(404, "'gemini-omni-flash-preview' does not exist"),
    "http_429": assert_refused(429, "rate_limit_error"),
    "http_429_body": assert_delay_in_body,
    "http_500": assert_refused(500, "get_channel_failed"),
    "http_500_parameter": assert_refused(500, "build_request_failed: invalid size"),
    "http_502_html": assert_refused(502, "<h1>502 Bad Gateway</h1>"),
    "http_503": assert_refused(503, "service_unavailable"),
    "http_503_model": assert_refused(503, "No available channel for model gemini-omni-flash-preview under group "),
    "balance_in_200": assert_refused(200, '{"code": 605, "msg": "NOT_ENOUGH_BALANCE"}'),
    "idempotency_unavailable": assert_refused(503, "idempotency_unavailable"),
    "idempotency_in_progress": assert_refused(409, "idempotency_in_progress"),
    "idempotency_indeterminate": assert_refused(409, "idempotency_result_indeterminate"),
    "drop_before": assert_dropped_before,
    "redirect_submit": assert_redirected,
    "error_in_200": assert_error_in_200,
    "drop_after": assert_dropped_after,
    "http_500_after": assert_accepted_despite(500),
    "garbage_json": assert_accepted_despite(200),
    "html_submit": assert_accepted_despite(200),
    "unknown_id_field": assert_id_in_unknown_field,
    "no_last_chunk": assert_incomplete("Transfer-Encoding: chunked"),
    "long_content_length": assert_incomplete("Content-Length: "),
    "false_gzip": assert_unreadable_gzip,
    "hang_submit": assert_hangs,
}
