"""How files are sent to browsers: parts, conditions, and what is no file of the folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from omni_async.gallery import files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one clip."""
    (tmp_path / "a.mp4").write_bytes(CONTENT)
    return tmp_path


@pytest.fixture
async def address(folder: Path) -> AsyncIterator[str]:
    """Serve the files of a folder by their names."""
    sender = files.FileSender()

    async def send(request: web.BaseRequest) -> web.StreamResponse:
        sent = await sender.send(request, folder / request.path[1:], {"Content-Type": "video/mp4"})
        return sent or web.Response(status=404)

    runner = web.ServerRunner(web.Server(send))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def get(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, str | None]:
    """Return status, body and Content-Range."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=named) as response:
        return response.status, await response.read(), response.headers.get("Content-Range")


@pytest.mark.parametrize(
    ("asked", "status", "content", "said"),
    [
        ("bytes=0-", 206, CONTENT, "bytes 0-1023/1024"),
        ("bytes=10-19", 206, CONTENT[10:20], "bytes 10-19/1024"),
        ("bytes=1000-5000", 206, CONTENT[1000:], "bytes 1000-1023/1024"),
        ("bytes=-24", 206, CONTENT[1000:], "bytes 1000-1023/1024"),
        ("bytes=-5000", 206, CONTENT, "bytes 0-1023/1024"),
        ("bytes=1024-", 416, b"", "bytes */1024"),
        ("bytes=9-3", 416, b"", "bytes */1024"),
        ("bytes=0-1,4-5", 416, b"", "bytes */1024"),
        ("junk", 416, b"", "bytes */1024"),
    ],
)
async def test_parts(address: str, asked: str, status: int, content: bytes, said: str) -> None:
    """One part is sent as asked for; what cannot be sent is refused with the size of the file."""
    assert await get(f"{address}a.mp4", Range=asked) == (status, content, said)


async def test_conditions(address: str) -> None:
    """What a browser has is not sent again; a part of another version is not sent as one of this."""
    url = f"{address}a.mp4"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        etag, date = response.headers["ETag"], response.headers["Last-Modified"]
        assert (response.status, await response.read()) == (200, CONTENT)
    assert (await get(url, If_None_Match=etag))[:2] == (304, b"")
    assert (await get(url, If_Modified_Since=date))[:2] == (304, b"")
    assert (await get(url, If_None_Match='"other"', If_Modified_Since=date))[0] == 200
    assert (await get(url, Range="bytes=0-9", If_Range=etag))[0] == 206
    assert (await get(url, Range="bytes=0-9", If_Range=date))[0] == 206
    assert (await get(url, Range="bytes=0-9", If_Range='"other"'))[:2] == (200, CONTENT)
    assert (await get(url, Range="bytes=0-9", If_Range="Thu, 01 Jan 1970 00:00:00 GMT"))[:2] == (200, CONTENT)
    assert (await get(url, "HEAD"))[:2] == (200, b"")


async def test_only_regular_files_are_sent(
    address: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Links, folders, pipes and a compressed file beside a clip are not."""
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.mp4"
    secret.write_bytes(b"secret")
    (folder / "link.mp4").symlink_to(secret)
    (folder / "inside.mp4").symlink_to(folder / "a.mp4")
    (folder / "dangling.mp4").symlink_to(folder / "none")
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    (folder / "a.mp4.gz").write_bytes(b"secret")
    for name in ("link", "inside", "dangling", "folder", "pipe", "none"):
        assert (await get(f"{address}{name}.mp4"))[0] == 404, name
    assert (await get(f"{address}a.mp4", Accept_Encoding="gzip, br"))[1] == CONTENT
