"""What each fault of a clip, a task or an upload looks like to a client, as assertions by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.support.sandbox_client import SandboxClient, link_of

SILENCE = 0.3  # seconds without data after which a response counts as hanging


async def assert_cut_off(client: SandboxClient, url: str, _: bytes) -> None:
    """Assert that the body ends before its announced length."""
    async with client.session.get(url) as response:
        assert response.content_length
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert 0 < client.sandbox.record.bytes_sent < response.content_length


async def assert_cut_off_cleanly(client: SandboxClient, url: str, complete: bytes) -> None:
    """Assert that half of the body comes and looks like a complete response."""
    response = await client.fetch(url)
    assert response.status == 200
    assert "Content-Length" not in response.headers
    assert response.body == complete[: len(complete) // 2]


async def assert_stalls(client: SandboxClient, url: str, complete: bytes) -> None:
    """Assert that half of the body comes, and then nothing."""
    async with client.session.get(url) as response:
        received = await response.content.readexactly(len(complete) // 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.readany(), SILENCE)
    assert complete.startswith(received)


async def assert_expired(client: SandboxClient, url: str, complete: bytes) -> None:
    """Assert that the first URL of the task is refused permanently, and that the next one leads to the clip."""
    assert (await client.fetch(url)).status in (403, 410)
    assert (await client.fetch(url)).status in (403, 410)
    fresh = link_of((await client.check(next(iter(client.sandbox.record.tasks)))).json["data"])
    assert fresh != url
    assert (await client.fetch(fresh)).body == complete


def assert_response(status: int, text: str) -> Callable[[SandboxClient, str, bytes], Awaitable[None]]:
    """Return the assertion that this status and text come instead of the clip."""

    async def check(client: SandboxClient, url: str, _: bytes) -> None:
        response = await client.fetch(url)
        assert response.status == status
        assert text in response.body.decode()

    return check


async def assert_range_ignored(client: SandboxClient, url: str, complete: bytes) -> None:
    """Assert that the complete clip comes whatever range is requested."""
    response = await client.fetch(url, headers={"Range": "bytes=100-"})
    assert (response.status, response.body) == (200, complete)
    assert "Accept-Ranges" not in response.headers


async def assert_etag_changes(client: SandboxClient, url: str, complete: bytes) -> None:
    """Assert that every response has another ETag, so that a conditional range brings the complete clip."""
    first = await client.fetch(url)
    again = await client.fetch(url, headers={"Range": "bytes=100-", "If-Range": first.headers["ETag"]})
    assert again.headers["ETag"] != first.headers["ETag"]
    assert (again.status, again.body) == (200, complete)


async def assert_redirected(client: SandboxClient, url: str, complete: bytes) -> None:
    """Assert that redirects lead in turn to the same and a third origin, and that a key sent there is counted."""
    responses = [await client.fetch(url) for _ in range(2)]
    assert [response.status for response in responses] == [302, 302]
    same_origin, third_origin = (response.headers["Location"] for response in responses)
    assert same_origin.startswith("/f/moved/")
    assert third_origin.startswith("http://127.0.0.1:")
    assert not third_origin.startswith((client.sandbox.cdn_url, client.sandbox.base_url))
    assert (await client.fetch(url, allow_redirects=True)).body == complete
    assert (await client.fetch(third_origin)).body == complete
    assert client.sandbox.record.leaked_keys == 0
    await client.fetch(third_origin, headers={"Authorization": "Bearer sk-leaked"})
    assert (client.sandbox.record.leaked_keys, client.sandbox.record.redirected_keys) == (1, 1)


CLIP_FAULTS: dict[str, Callable[[SandboxClient, str, bytes], Awaitable[None]]] = {
    "cut_download": assert_cut_off,
    "cut_download_clean": assert_cut_off_cleanly,
    "stall_download": assert_stalls,
    "expired_link": assert_expired,
    "json_clip": assert_response(200, "server_error"),
    "html_clip": assert_response(200, "<html>"),
    "no_range": assert_range_ignored,
    "wrong_etag": assert_etag_changes,
    "http_500_clip": assert_response(500, "server_error"),
    "http_429_clip": assert_response(429, "rate_limit_error"),
    "redirect_clip": assert_redirected,
}


async def assert_never_linked(data: dict[str, Any], client: SandboxClient) -> None:
    """Assert that no check ever brings a URL."""
    assert "result" not in data
    assert "result" not in (await client.check(data["id"])).json["data"]


async def assert_two_videos(data: dict[str, Any], client: SandboxClient) -> None:
    """Assert that there are two videos, in two items or as two URLs of one."""
    item_counts = set()
    for number in range(16):
        videos = (await client.completed(str(number)))["result"]["videos"]
        urls = [url for video in videos for url in video["url"]]
        assert len({(await client.fetch(url)).body for url in urls}) == 2
        item_counts.add(len(videos))
    assert item_counts == {1, 2}


async def assert_numbers_are_strings(data: dict[str, Any], client: SandboxClient) -> None:
    """Assert that every number is a string."""
    assert all(isinstance(data[name], str) for name in ("progress", "created", "completed", "cost", "actual_time"))
    assert isinstance(data["result"]["videos"][0]["expires_at"], str)


async def assert_minimal(data: dict[str, Any], client: SandboxClient) -> None:
    """Assert that only the indispensable fields are present."""
    assert set(data) == {"id", "status", "result"}
    assert set(data["result"]["videos"][0]) == {"url"}


TASK_FAULTS: dict[str, Callable[[dict[str, Any], SandboxClient], Awaitable[None]]] = {
    "never_link": assert_never_linked,
    "two_videos": assert_two_videos,
    "numbers_as_strings": assert_numbers_are_strings,
    "missing_optionals": assert_minimal,
}
# The HTTP status of each; None if there is no response.
UPLOAD_FAULTS = {
    "http_400_upload": 400,
    "http_401_upload": 401,
    "http_402_upload": 402,
    "http_429_upload": 429,
    "http_500_upload": 500,
    "drop_upload": None,
    "hang_upload": None,
}
