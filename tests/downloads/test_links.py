"""Download URLs over real sockets: they expire, are refreshed, and get the API key only at the API's own address."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import LedgerReader, Polling, Retry
from tests.support.clip_host import CLIP, KEY, QUICK, ImpatientClient, download, download_error, hosting, replying
from tests.support.fakes import left_by_error

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


@pytest.mark.parametrize(("denials", "is_stored"), [(3, True), (4, False)])
async def test_a_check_for_a_url_may_be_denied_for_a_moment(tmp_path: Path, denials: int, is_stored: bool) -> None:
    """A gateway whose database is away calls a good key invalid. Four times in a row are believed."""
    async with hosting() as host:
        host.answers = [replying(403, b"<Error>expired</Error>")]
        host.denials = denials
        if is_stored:
            assert (await download(host, tmp_path)).read_bytes() == CLIP
        else:
            await download_error(host, tmp_path, "a check gave no other: .*invalid API key")
        assert len(host.requests) == 1 + is_stored


async def test_a_url_that_says_it_has_expired_is_refreshed_before_use(tmp_path: Path) -> None:
    """If `expires_at` has passed, the task is checked for a fresh URL first."""
    async with hosting(expires_in=-10) as host:
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert host.paths[0].endswith("link=2")


@pytest.mark.parametrize("expires_in", [3600.0, -10.0])
async def test_a_later_run_uses_the_recorded_links(tmp_path: Path, expires_in: float) -> None:
    """A job whose clip was on its way when a run ended is not checked again, unless its link has expired since."""
    folder = tmp_path / "clips"
    settings: dict[str, Any] = {"retry": QUICK, "ledger": tmp_path / "ledger.db", "output_dir": folder}
    settings["polling"] = Polling(min_interval=0.01, max_interval=0.05)
    async with hosting(expires_in=expires_in) as host:
        host.always = partial(host.send_slowly, pieces=100, pause=0.1)
        async with left_by_error(ImpatientClient(KEY, base_url=host.url, **settings)) as client:
            client.submit("p", key="k")
            async with asyncio.timeout(10):
                while not host.requests:
                    await asyncio.sleep(0.01)
        with LedgerReader(tmp_path / "ledger.db") as reader:
            (record,) = reader.jobs("downloading")
        assert [video.url for video in record.videos] == [f"{host.cdn}/f/task_1-0.mp4?link={host.checks}"]
        checks, host.always = host.checks, None
        async with ImpatientClient(KEY, base_url=host.url, **settings) as client:
            assert [(await job).read_bytes() async for job in client.resume()] == [CLIP]
        assert host.checks - checks == (0 if expires_in > 0 else 1)
        with LedgerReader(tmp_path / "ledger.db") as reader:
            assert [record.videos for record in reader.jobs("completed")] == [()]


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
