"""What each fault of a clip, of a task or of an upload must look like to a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.support.talk import Talk, link_of

SLOW = 0.3  # seconds after which a test calls a server silent


async def cut_off(talk: Talk, url: str, _: bytes) -> None:
    """The body ends before its announced length."""
    async with talk.session.get(url) as response:
        assert response.content_length
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert 0 < talk.sandbox.record.bytes_sent < response.content_length


async def cut_clean(talk: Talk, url: str, whole: bytes) -> None:
    """The body ends too early, and looks as if that were all."""
    answer = await talk.fetch(url)
    assert answer.status == 200
    assert "Content-Length" not in answer.headers
    assert answer.body == whole[: len(whole) // 2]


async def stalls(talk: Talk, url: str, whole: bytes) -> None:
    """Half of the body comes, and then nothing."""
    async with talk.session.get(url) as response:
        got = await response.content.readexactly(len(whole) // 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.readany(), SLOW)
    assert whole.startswith(got)


async def expires(talk: Talk, url: str, whole: bytes) -> None:
    """The first link of the task is refused for good; the next one leads to the clip."""
    assert (await talk.fetch(url)).status in (403, 410)
    assert (await talk.fetch(url)).status in (403, 410)
    fresh = link_of((await talk.check(next(iter(talk.sandbox.record.tasks)))).json["data"])
    assert fresh != url
    assert (await talk.fetch(fresh)).body == whole


def instead_of_clip(status: int, words: str) -> Callable[[Talk, str, bytes], Awaitable[None]]:
    """Shows that a clip is answered so."""

    async def show(talk: Talk, url: str, _: bytes) -> None:
        answer = await talk.fetch(url)
        assert answer.status == status
        assert words in answer.body.decode()

    return show


async def ignores_range(talk: Talk, url: str, whole: bytes) -> None:
    """The whole clip comes, whatever was asked for."""
    answer = await talk.fetch(url, headers={"Range": "bytes=100-"})
    assert (answer.status, answer.body) == (200, whole)
    assert "Accept-Ranges" not in answer.headers


async def changes_etag(talk: Talk, url: str, whole: bytes) -> None:
    """The ETag is never the same, so that a part becomes the whole."""
    first = await talk.fetch(url)
    again = await talk.fetch(url, headers={"Range": "bytes=100-", "If-Range": first.headers["ETag"]})
    assert again.headers["ETag"] != first.headers["ETag"]
    assert (again.status, again.body) == (200, whole)


async def redirects(talk: Talk, url: str, whole: bytes) -> None:
    """The clip is elsewhere, by turns near and far; whoever sends a key there is found out."""
    answers = [await talk.fetch(url) for _ in range(2)]
    assert [answer.status for answer in answers] == [302, 302]
    near, far = (answer.headers["Location"] for answer in answers)
    assert near.startswith("/f/moved/")
    assert far.startswith("http://127.0.0.1:")
    assert not far.startswith((talk.sandbox.cdn_url, talk.sandbox.base_url))
    assert (await talk.fetch(url, allow_redirects=True)).body == whole
    assert (await talk.fetch(far)).body == whole
    assert talk.sandbox.record.leaked_keys == 0
    await talk.fetch(far, headers={"Authorization": "Bearer sk-oh-no"})
    assert (talk.sandbox.record.leaked_keys, talk.sandbox.record.redirected_keys) == (1, 1)


CLIPS: dict[str, Callable[[Talk, str, bytes], Awaitable[None]]] = {
    "cut_download": cut_off,
    "cut_download_clean": cut_clean,
    "stall_download": stalls,
    "expired_link": expires,
    "json_clip": instead_of_clip(200, "server_error"),
    "html_clip": instead_of_clip(200, "<html>"),
    "no_range": ignores_range,
    "wrong_etag": changes_etag,
    "http_500_clip": instead_of_clip(500, "server_error"),
    "http_429_clip": instead_of_clip(429, "rate_limit_error"),
    "redirect_clip": redirects,
}


async def never_linked(data: dict[str, Any], talk: Talk) -> None:
    """No check ever brings a link."""
    assert "result" not in data
    assert "result" not in (await talk.check(data["id"])).json["data"]


async def two_videos(data: dict[str, Any], talk: Talk) -> None:
    """Two videos come, in two items or as two urls of one."""
    shapes = set()
    for number in range(16):
        videos = (await talk.completed(str(number)))["result"]["videos"]
        urls = [url for video in videos for url in video["url"]]
        assert len({(await talk.fetch(url)).body for url in urls}) == 2
        shapes.add(len(videos))
    assert shapes == {1, 2}


async def all_strings(data: dict[str, Any], talk: Talk) -> None:
    """Every number is a text."""
    assert all(isinstance(data[name], str) for name in ("progress", "created", "completed", "cost", "actual_time"))
    assert isinstance(data["result"]["videos"][0]["expires_at"], str)


async def bare(data: dict[str, Any], talk: Talk) -> None:
    """Only what cannot be missed is there."""
    assert set(data) == {"id", "status", "result"}
    assert set(data["result"]["videos"][0]) == {"url"}


TASKS: dict[str, Callable[[dict[str, Any], Talk], Awaitable[None]]] = {
    "never_link": never_linked,
    "two_videos": two_videos,
    "numbers_as_strings": all_strings,
    "missing_optionals": bare,
}
UPLOADS = {
    "http_400_upload": 400,
    "http_401_upload": 401,
    "http_402_upload": 402,
    "http_429_upload": 429,
    "http_500_upload": 500,
    "drop_upload": None,
    "hang_upload": None,
}
