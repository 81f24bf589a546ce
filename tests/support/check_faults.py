"""What each fault of a check looks like to a client, as assertions by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.support.sandbox_client import SandboxClient, link_of

SILENCE = 0.3  # seconds without a response after which a request counts as hanging


def assert_response(status: int, text: str) -> Callable[[SandboxClient, str], Awaitable[None]]:
    """Return the assertion that a check gets this status and text."""

    async def check(client: SandboxClient, task_id: str) -> None:
        response = await client.check(task_id)
        assert response.status == status
        assert text in response.body.decode()

    return check


async def assert_dropped(client: SandboxClient, task_id: str) -> None:
    """Assert that the connection closes."""
    with pytest.raises(aiohttp.ClientError):
        await client.check(task_id)


async def assert_unreadable(client: SandboxClient, task_id: str) -> None:
    """Assert that a response comes whose body does not match what its headers announce."""
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.check(task_id)


async def assert_hangs(client: SandboxClient, task_id: str) -> None:
    """Assert that no response comes."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.check(task_id), SILENCE)


async def assert_delayed(client: SandboxClient, task_id: str) -> None:
    """Assert that the response comes, but late."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.check(task_id), SILENCE)
    assert (await client.check(task_id)).status == 200


async def assert_not_json(client: SandboxClient, task_id: str) -> None:
    """Assert that the body is not JSON."""
    response = await client.check(task_id)
    assert response.status == 200
    with pytest.raises(ValueError):
        _ = response.json


async def assert_not_found_at_first(client: SandboxClient, task_id: str) -> None:
    """Assert that a new task is not found, in two forms, and that an older one is found."""
    statuses = {response.status for response in await asyncio.gather(*(client.check(task_id) for _ in range(20)))}
    assert statuses == {400, 404}
    await asyncio.sleep(1.05)
    assert (await client.check(task_id)).status == 200


async def assert_unknown_status(client: SandboxClient, task_id: str) -> None:
    """Assert that the status string is an undocumented one."""
    status = (await client.check(task_id)).json["data"]["status"]
    assert status not in ("submitted", "pending", "queued", "processing", "in_progress", "completed", "failed")


async def assert_other_case(client: SandboxClient, task_id: str) -> None:
    """Assert that the status string is in another case, until the task is completed."""
    assert (await client.check(task_id)).json["data"]["status"] in ("Pending", "Processing")
    async with asyncio.timeout(10):
        while (await client.check(task_id)).json["data"]["status"] != "COMPLETED":
            await asyncio.sleep(0.05)


async def assert_link_missing_once(client: SandboxClient, task_id: str) -> None:
    """Assert that the URL is missing from one response only."""
    assert "result" not in await client.ended(task_id)
    client.sandbox.script("check", [None])
    assert link_of((await client.check(task_id)).json["data"])


CHECK_FAULTS: dict[str, Callable[[SandboxClient, str], Awaitable[None]]] = {
    "http_401_check": assert_response(401, "apimart_error"),
    "http_403_check": assert_response(403, "permission_error"),
    "http_429_check": assert_response(429, "rate_limit_error"),
    "http_500_check": assert_response(500, "server_error"),
    "http_502_check": assert_response(502, "<html>"),
    "html_check": assert_response(200, "<!DOCTYPE html>"),
    "garbage_check": assert_not_json,
    "no_last_chunk_check": assert_unreadable,
    "long_content_length_check": assert_unreadable,
    "false_gzip_check": assert_unreadable,
    "drop_check": assert_dropped,
    "hang_check": assert_hangs,
    "slow_check": assert_delayed,
    "not_found_check": assert_not_found_at_first,
    "unknown_status": assert_unknown_status,
    "upper_status": assert_other_case,
    "no_link": assert_link_missing_once,
}
