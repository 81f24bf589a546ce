"""Download URLs over real sockets: they expire, are refreshed, and get the API key only at the API's own address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from omni_async import Retry
from tests.support.clip_host import CLIP, KEY, download, download_error, hosting, replying

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_expired_url_is_refreshed(tmp_path: Path, status: int) -> None:
    """A URL that stops working in the middle of a transfer is replaced, and the bytes so far are kept."""
    async with hosting() as host:
        host.answers = [host.sending(cut=200_000), replying(status, b"<Error>expired</Error>")]
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert [path.split("=")[1] for path in host.paths] == ["1", "1", "2"]
        assert "range" in host.requests[2]


async def test_a_url_that_says_it_has_expired_is_refreshed_before_use(tmp_path: Path) -> None:
    """If `expires_at` has passed, the task is checked for a fresh URL first."""
    async with hosting(expires_in=-10) as host:
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert host.paths[0].endswith("link=2")


async def test_a_task_that_failed_meanwhile_has_no_clip(tmp_path: Path) -> None:
    """If the URL no longer works and the task has failed, the job is download_failed soon, with the server's reason."""
    async with hosting() as host:

        async def fail(request: web.BaseRequest) -> web.StreamResponse:
            host.task_fails = True
            return await replying(404)(request)

        host.always = fail
        await download_error(host, tmp_path, "gone", retry=Retry(timeout=60, wait_initial=0.01, wait_max=0.05))


@pytest.mark.parametrize("is_own", [True, False])
async def test_the_api_key_is_sent_only_to_the_apis_own_origin(tmp_path: Path, is_own: bool) -> None:
    """A clip at the API's origin is requested with the key, one at any other origin without."""
    async with hosting(is_own_origin=is_own) as host:
        await download(host, tmp_path)
        assert host.requests[0].get("authorization") == (f"Bearer {KEY}" if is_own else None)
