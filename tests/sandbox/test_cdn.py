"""The second origin serves clips whole, in parts, for a while, and without a key."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.talk import link_of, talking


async def test_a_clip_comes_whole() -> None:
    """A GET brings all bytes with length, type, strong ETag and date; HEAD the same without a body."""
    async with talking() as talk:
        url = await talk.link()
        assert url.startswith(talk.sandbox.cdn_url + "/f/video/")
        assert talk.sandbox.cdn_url != talk.sandbox.base_url
        answer, head = await talk.fetch(url), await talk.fetch(url, method="HEAD")
        assert answer.status == head.status == 200
        assert int(head.headers["Content-Length"]) == int(answer.headers["Content-Length"]) == len(answer.body)
        assert answer.headers["Content-Type"] == "video/mp4"
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["ETag"] == head.headers["ETag"]
        assert answer.headers["ETag"].startswith('"')
        assert answer.headers["Last-Modified"].endswith("GMT")
        assert head.body == b""
        record = talk.sandbox.record
        assert (record.downloads, record.bytes_sent, record.leaked_keys) == (1, len(answer.body), 0)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-50", -50, None), ("bytes=5-999999999", 5, None)],
)
async def test_a_part_of_a_clip(asked: str, start: int, stop: int | None) -> None:
    """Range brings exactly that part, and says where it lies."""
    async with talking(clip_bytes=700_000) as talk:
        url = await talk.link()
        whole = (await talk.fetch(url)).body
        part = await talk.fetch(url, headers={"Range": asked})
        assert part.status == 206
        assert part.body == whole[start:stop]
        first = start % len(whole)
        assert part.headers["Content-Range"] == f"bytes {first}-{first + len(part.body) - 1}/{len(whole)}"


async def test_a_part_that_does_not_exist() -> None:
    """A range behind the end is 416 with the true length; one that cannot be read is ignored."""
    async with talking() as talk:
        url = await talk.link()
        size = len((await talk.fetch(url)).body)
        beyond = await talk.fetch(url, headers={"Range": f"bytes={size}-"})
        assert beyond.status == 416
        assert beyond.headers["Content-Range"] == f"bytes */{size}"
        assert (await talk.fetch(url, headers={"Range": "lines=1-2"})).status == 200


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
async def test_if_range(validator: str) -> None:
    """A part comes while the clip is the same, else the whole."""
    async with talking() as talk:
        url = await talk.link()
        same = (await talk.fetch(url)).headers[validator]
        part = await talk.fetch(url, headers={"Range": "bytes=10-", "If-Range": same})
        whole = await talk.fetch(url, headers={"Range": "bytes=10-", "If-Range": '"another"'})
        assert (part.status, whole.status) == (206, 200)


async def test_links_expire_and_are_renewed() -> None:
    """A link that is too old is refused; asking the task again gives a fresh one to the same bytes."""
    async with talking(link_lifetime=0.3) as talk:
        data = await talk.completed()
        old = link_of(data)
        whole = (await talk.fetch(old)).body
        assert whole[4:8] == b"ftyp"
        while (await talk.fetch(old)).status == 200:
            await asyncio.sleep(0.05)
        assert (await talk.fetch(old)).status in (403, 410)
        fresh = link_of((await talk.check(data["id"])).json["data"])
        assert fresh != old
        assert (await talk.fetch(fresh)).body == whole


async def test_a_link_stays_while_it_lives() -> None:
    """Asking twice gives the same link."""
    async with talking() as talk:
        data = await talk.completed()
        assert link_of((await talk.check(data["id"])).json["data"]) == link_of(data)


async def test_a_leaked_key_is_noticed() -> None:
    """Whoever sends the key to the second origin is found out."""
    async with talking() as talk:
        url = await talk.link()
        await talk.fetch(url, headers={"Authorization": "Bearer sk-oh-no"})
        assert talk.sandbox.record.leaked_keys == 1
        assert talk.sandbox.record.redirected_keys == 0


async def test_unknown_addresses() -> None:
    """What was never given out is 404."""
    async with talking() as talk:
        for path in ("/f/video/none.mp4", "/f/image/none.png", "/"):
            assert (await talk.fetch(talk.sandbox.cdn_url + path)).status == 404


async def test_a_client_that_leaves_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    """Who breaks off a download is forgotten, and the next one comes whole."""
    async with talking(clip_bytes=20_000_000) as talk:
        url = await talk.link()
        async with talk.session.get(url) as response:
            await response.content.readexactly(1000)
            response.close()
        assert len((await talk.fetch(url)).body) == 20_000_000
    assert not caplog.records


async def test_a_slow_line() -> None:
    """cdn_rate holds a transfer to so many bytes a second."""
    async with talking(cdn_rate=1_000_000, clip_bytes=400_000) as talk:
        url = await talk.link()
        start = time.monotonic()
        answer = await talk.fetch(url)
        assert time.monotonic() - start > 0.25
        assert len(answer.body) == 400_000
