"""What each fault of a submit looks like to a client, as assertions by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.support.sandbox_client import SandboxClient

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
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.submit(key="one"), SILENCE)
    await _assert_task_exists(client)


SUBMIT_FAULTS: dict[str, Callable[[SandboxClient], Awaitable[None]]] = {
    "http_400": assert_refused(400, "invalid_request_error"),
    "http_401": assert_refused(401, "invalid API key (request id: "),
    "http_402": assert_refused(402, "payment_required"),
    "http_403": assert_refused(403, "permission_error"),
    "http_429": assert_refused(429, "rate_limit_error"),
    "http_500": assert_refused(500, "get_channel_failed"),
    "http_500_parameter": assert_refused(500, "build_request_failed: invalid size"),
    "http_502_html": assert_refused(502, "<h1>502 Bad Gateway</h1>"),
    "http_503": assert_refused(503, "service_unavailable"),
    "idempotency_unavailable": assert_refused(503, "idempotency_unavailable"),
    "idempotency_in_progress": assert_refused(409, "idempotency_in_progress"),
    "idempotency_indeterminate": assert_refused(409, "idempotency_result_indeterminate"),
    "drop_before": assert_dropped_before,
    "redirect_submit": assert_redirected,
    "error_in_200": assert_error_in_200,
    "drop_after": assert_dropped_after,
    "http_500_after": assert_accepted_despite(500),
    "garbage_json": assert_accepted_despite(200),
    "hang_submit": assert_hangs,
}
