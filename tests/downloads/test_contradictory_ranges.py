"""A 206 whose body is not the range that its head names is never joined to what was received before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.support.clip_host import CLIP, Host, download, hosting

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clip_host import Handler

pytestmark = pytest.mark.timeout(60)

_HALF = len(CLIP) // 2


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


def beginning_as_range(host: Host, *, announced: int | None, named: int) -> Handler:
    """Return a handler that sends the first half of the clip under the head of a range.

    `announced` is the length of the body by its Content-Length (None: chunked), `named` that by its Content-Range; 0 is
    the length that was requested.
    """

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
        last = (start + named if named else len(CLIP)) - 1
        headers = {"Content-Range": f"bytes {start}-{last}/{len(CLIP)}", "ETag": str(host.etag)}
        response = web.StreamResponse(status=206, headers=headers)
        if announced is None:
            response.enable_chunked_encoding()
        else:
            response.content_length = announced
        await response.prepare(request)
        await response.write(CLIP[: len(CLIP) - start])
        assert request.transport is not None
        request.transport.close() if announced else await response.write_eof()
        return response

    return handle


@pytest.mark.parametrize(
    ("announced", "named"),
    [pytest.param(len(CLIP), 0, id="all of it is announced"), pytest.param(None, 10, id="ten bytes are named")],
)
async def test_the_beginning_under_the_head_of_a_range_is_not_appended(
    tmp_path: Path, announced: int | None, named: int
) -> None:
    """Two beginnings may have the size and, because the frames are one box, the structure of the clip."""
    async with hosting() as host:
        host.answers = [host.sending(cut=_HALF), beginning_as_range(host, announced=announced, named=named)]
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert host.posts == 1
