"""The CDN serves clips completely or in part, with expiring URLs, and without an API key."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.sandbox_client import SandboxClient, link_of, open_sandbox


async def test_a_clip_is_served_completely(client: SandboxClient) -> None:
    """A GET returns all bytes with length, type, strong ETag and date. HEAD returns the same without a body."""
    url = await client.link()
    assert url.startswith(client.sandbox.cdn_url + "/f/video/")
    assert client.sandbox.cdn_url != client.sandbox.base_url
    response, head = await client.fetch(url), await client.fetch(url, method="HEAD")
    assert response.status == head.status == 200
    assert int(head.headers["Content-Length"]) == int(response.headers["Content-Length"]) == len(response.body)
    assert response.headers["Content-Type"] == "video/mp4"
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["ETag"] == head.headers["ETag"]
    assert response.headers["ETag"].startswith('"')
    assert response.headers["Last-Modified"].endswith("GMT")
    assert head.body == b""
    record = client.sandbox.record
    assert (record.downloads, record.bytes_sent, record.leaked_keys) == (1, len(response.body), 0)


@pytest.mark.parametrize(
    ("requested", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-50", -50, None), ("bytes=5-999999999", 5, None)],
)
async def test_a_range_request_returns_that_part(requested: str, start: int, stop: int | None) -> None:
    """The response is a 206 with exactly the requested bytes, and says where they are."""
    async with open_sandbox(clip_bytes=700_000) as client:
        url = await client.link()
        complete = (await client.fetch(url)).body
        part = await client.fetch(url, headers={"Range": requested})
        assert part.status == 206
        assert part.body == complete[start:stop]
        first = start % len(complete)
        assert part.headers["Content-Range"] == f"bytes {first}-{first + len(part.body) - 1}/{len(complete)}"


async def test_a_range_beyond_the_end_is_416(client: SandboxClient) -> None:
    """The 416 states the length of the clip. A range in another unit is ignored."""
    url = await client.link()
    size = len((await client.fetch(url)).body)
    beyond = await client.fetch(url, headers={"Range": f"bytes={size}-"})
    assert beyond.status == 416
    assert beyond.headers["Content-Range"] == f"bytes */{size}"
    assert (await client.fetch(url, headers={"Range": "lines=1-2"})).status == 200


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
async def test_if_range_guards_against_another_version(client: SandboxClient, validator: str) -> None:
    """The part is returned while the validator matches, else the complete clip."""
    url = await client.link()
    same = (await client.fetch(url)).headers[validator]
    part = await client.fetch(url, headers={"Range": "bytes=10-", "If-Range": same})
    complete = await client.fetch(url, headers={"Range": "bytes=10-", "If-Range": '"another"'})
    assert (part.status, complete.status) == (206, 200)


async def test_an_expired_url_is_replaced_by_a_check() -> None:
    """An old URL is refused. A check of the task returns a new one with the same bytes."""
    async with open_sandbox(link_lifetime=0.3) as client:
        data = await client.completed()
        old = link_of(data)
        complete = (await client.fetch(old)).body
        assert complete[4:8] == b"ftyp"
        while (await client.fetch(old)).status == 200:
            await asyncio.sleep(0.05)
        assert (await client.fetch(old)).status in (403, 410)
        fresh = link_of((await client.check(data["id"])).json["data"])
        assert fresh != old
        assert (await client.fetch(fresh)).body == complete


async def test_a_valid_url_is_returned_again(client: SandboxClient) -> None:
    """Two checks return the same URL."""
    data = await client.completed()
    assert link_of((await client.check(data["id"])).json["data"]) == link_of(data)


async def test_a_leaked_key_is_counted(client: SandboxClient) -> None:
    """An API key sent to the CDN is counted in the record."""
    url = await client.link()
    await client.fetch(url, headers={"Authorization": "Bearer sk-oh-no"})
    assert client.sandbox.record.leaked_keys == 1
    assert client.sandbox.record.redirected_keys == 0


async def test_unknown_paths_are_404(client: SandboxClient) -> None:
    """A path that no response contained is a 404."""
    for path in ("/f/video/none.mp4", "/f/image/none.png", "/"):
        assert (await client.fetch(client.sandbox.cdn_url + path)).status == 404


async def test_a_client_may_disconnect(caplog: pytest.LogCaptureFixture) -> None:
    """A download that the client breaks off logs nothing, and the next one is complete."""
    async with open_sandbox(clip_bytes=20_000_000) as client:
        url = await client.link()
        async with client.session.get(url) as response:
            await response.content.readexactly(1000)
            response.close()
        assert len((await client.fetch(url)).body) == 20_000_000
    assert not caplog.records


async def test_cdn_rate_limits_the_bandwidth() -> None:
    """A transfer takes as long as its size over the configured rate."""
    async with open_sandbox(cdn_rate=1_000_000, clip_bytes=400_000) as client:
        url = await client.link()
        start = time.monotonic()
        response = await client.fetch(url)
        assert time.monotonic() - start > 0.25
        assert len(response.body) == 400_000
