"""The name of an uploaded file goes into a header, and every name that a file system allows can be sent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.support.http_servers import open_transport, web_server

if TYPE_CHECKING:
    from omni_async.api.parsing import Response


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


async def _upload(image: Path) -> tuple[Response, list[Any]]:
    """Upload an image; return the response and the parts of the form that the server has read."""
    parts: list[Any] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        form: Any = await request.multipart()
        parts.extend(
            [(part.name, part.filename, part.headers["Content-Type"], bytes(await part.read())) async for part in form]
        )
        return web.json_response({"url": "https://u.test/1"})

    async with web_server(handler) as url, open_transport(url) as transport:
        return await transport.upload(image), parts


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (b"cat.png", "cat.png"),
        (b"new\nline.png", "new_line.png"),
        (b"a\r\nX-Injected: 1.png", "a__X-Injected: 1.png"),
        (b"tab\t.png", "tab_.png"),
        (b"escape\x1b[2J.png", "escape_[2J.png"),
        ("Käse 猫.png".encode(), "Käse 猫.png"),
        ("line\u2028separator.png".encode(), "line_separator.png"),
        (b"no text \xff.png", "no text _.png"),
        (b'quo"te.png', 'quo"te.png'),
        (b"semi;colon=.png", "semi;colon=.png"),
        (b"x" * 240 + b".png", "x" * 240 + ".png"),
    ],
    ids=str,
)
async def test_a_file_of_any_name_is_uploaded(tmp_path: Path, name: bytes, sent: str) -> None:
    """The content arrives whole in one part, under a name without control characters."""
    image = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    response, parts = await _upload(image)
    assert response.status == 200
    assert parts == [("file", sent, "image/png", image.read_bytes())]


async def test_the_type_of_an_image_is_that_of_its_content(tmp_path: Path) -> None:
    """The ending of the name may be missing or wrong."""
    image = tmp_path / "cat.txt"
    image.write_bytes(b"\xff\xd8\xff" + bytes(100))
    _, parts = await _upload(image)
    assert [kind for _, _, kind, _ in parts] == ["image/jpeg"]
