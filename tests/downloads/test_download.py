"""Transfers over real sockets: broken off, stalled, answered wrongly. Each clip arrives complete, or not at all."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from omni_async import Retry
from tests.support.clip_host import CLIP, announcing, download, download_error, hosting, replying
from tests.support.fakes import box, mp4
from tests.support.markers import slow_after

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


# Complete transfers


async def test_a_clip_arrives_complete_under_its_name(tmp_path: Path) -> None:
    """The file holds exactly the bytes of the clip, no part file is left, and no compression was accepted."""
    async with hosting() as host:
        path = await download(host, tmp_path / "new" / "folder")
        assert path.read_bytes() == CLIP
        assert [each.name for each in path.parent.iterdir()] == ["k.mp4"]
        assert host.requests[0]["accept-encoding"] == "identity"
        assert "range" not in host.requests[0]


@pytest.mark.parametrize("headers", [{"content_encoding": "gzip", "etag": '"gz"'}, {"content_type": "video/mp4"}])
async def test_a_compressed_body_is_unpacked(tmp_path: Path, headers: dict[str, str]) -> None:
    """No compression was accepted, but a store that keeps its files compressed sends them so, labelled or not."""
    async with hosting() as host:
        host.always = replying(200, gzip.compress(CLIP), **headers)
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert len(host.requests) == 1


async def test_a_compressed_body_that_breaks_off_begins_again(tmp_path: Path) -> None:
    """Its bytes are not those of the clip: no range of it is asked for."""
    async with hosting() as host:
        packed = gzip.compress(CLIP)

        async def broken(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Encoding": "gzip", "ETag": '"gz"'})
            response.content_length = len(packed)
            await response.prepare(request)
            await response.write(packed[:-30])
            assert request.transport is not None
            request.transport.close()
            return response

        host.answers = [broken]
        host.always = replying(200, packed, content_encoding="gzip", etag='"gz"')
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert ["range" in each for each in host.requests] == [False, False]


async def test_a_slow_transfer_has_no_total_timeout(tmp_path: Path) -> None:
    """As long as bytes arrive, a transfer may take longer than the idle timeout."""
    async with hosting() as host:

        async def slow(request: web.BaseRequest) -> web.StreamResponse:
            return await host.send_slowly(request, pieces=6, pause=0.1)

        host.answers = [slow]
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert len(host.requests) == 1


# Broken transfers


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_broken_transfer_continues_where_it_was(tmp_path: Path, chunked: bool) -> None:
    """After a connection reset, Range and If-Range ask for the rest: no byte is transferred twice."""
    async with hosting() as host:
        host.answers = [host.sending(cut=200_000, chunked=chunked), host.sending(cut=100_000)]
        path = await download(host, tmp_path)
        assert path.read_bytes() == CLIP
        assert len(host.requests) == 3
        for request in host.requests[1:]:
            assert request["if-range"] == '"one"'
            assert int(request["range"].removeprefix("bytes=").rstrip("-")) > 0
        assert host.checks == 1


@pytest.mark.slow
async def test_a_transfer_that_makes_progress_is_never_given_up(tmp_path: Path) -> None:
    """The retry timeout counts from the last new byte: thirty resets in a row, each with progress, do no harm."""
    async with hosting() as host:
        host.answers = [host.sending(cut=16_000) for _ in range(30)]
        path = await download(host, tmp_path, retry=Retry(timeout=0.5, wait_initial=0.01, wait_max=0.05))
        assert path.read_bytes() == CLIP


async def test_a_stalled_transfer_is_continued(tmp_path: Path) -> None:
    """After the idle timeout without a byte, the rest is requested on a new connection."""
    async with hosting() as host:
        host.answers = [host.sending(cut=200_000, stall=True)]
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert "range" in host.requests[1]


async def test_a_truncated_body_without_a_length_is_noticed(tmp_path: Path) -> None:
    """Without a Content-Length and with a clean early end, the boxes of the MP4 show that it is incomplete."""
    async with hosting() as host:

        async def early(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse(headers={"ETag": '"one"'})
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(CLIP[:300_000])
            return response

        host.answers = [early, early]
        assert (await download(host, tmp_path)).read_bytes() == CLIP


async def test_a_206_with_a_piece_of_the_rest_is_completed(tmp_path: Path) -> None:
    """A host that sends less than the rest in a 206 is asked again."""
    async with hosting() as host:

        async def piece(request: web.BaseRequest) -> web.StreamResponse:
            start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            body = CLIP[start : start + 1000]
            headers = {"Content-Range": f"bytes {start}-{start + 999}/{len(CLIP)}", "ETag": '"one"'}
            return web.Response(status=206, body=body, headers=headers)

        host.answers = [host.sending(cut=200_000), piece, piece, piece]
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert len(host.requests) == 5


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_errors_of_the_host_are_waited_out(tmp_path: Path, status: int) -> None:
    """After 429 or 5xx the same URL is requested again."""
    async with hosting() as host:
        host.answers = [replying(status, b"busy", retry_after="0")] * 3
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert host.checks == 1


# Transfers that begin again


async def test_a_200_instead_of_a_206_begins_again(tmp_path: Path) -> None:
    """A host that ignores Range sends the complete clip; nothing is appended to the earlier bytes."""
    async with hosting() as host:
        host.answers = [host.sending(cut=200_000), host.sending(ranges=False)]
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert "range" in host.requests[1]


async def test_a_416_begins_again(tmp_path: Path) -> None:
    """If the range cannot be satisfied, the earlier bytes are deleted and the complete clip is requested."""
    async with hosting() as host:
        host.answers = [host.sending(cut=200_000), replying(416, content_range=f"bytes */{len(CLIP)}")]
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert "range" not in host.requests[2]


async def test_a_changed_etag_begins_again(tmp_path: Path) -> None:
    """If the clip has changed since, If-Range brings the complete new one, and the two are not mixed."""
    async with hosting() as host:

        async def change(request: web.BaseRequest) -> web.StreamResponse:
            host.clip, host.etag = mp4("another clip", 50_000), '"two"'
            return await host.send(request)

        host.answers = [host.sending(cut=200_000), change]
        assert (await download(host, tmp_path)).read_bytes() == mp4("another clip", 50_000)


async def test_a_206_with_another_etag_is_not_appended(tmp_path: Path) -> None:
    """A host may ignore If-Range: another ETag in a 206 shows that the clip has changed."""
    async with hosting() as host:

        async def change(request: web.BaseRequest) -> web.StreamResponse:
            host.clip = mp4("TWO clip", 60_000)
            return await host.send(request, headers={"ETag": '"two"'})

        host.answers = [host.sending(cut=200_000), change]
        assert (await download(host, tmp_path)).read_bytes() == mp4("TWO clip", 60_000)


async def test_a_206_with_another_weak_etag_is_not_appended(tmp_path: Path) -> None:
    """A weak ETag cannot go into If-Range, but another one shows that the clip has changed."""
    async with hosting(etag='W/"one"') as host:

        async def change(request: web.BaseRequest) -> web.StreamResponse:
            host.clip, host.etag = mp4("TWO clip", 60_000), 'W/"two"'
            return await host.send(request)

        host.answers = [host.sending(cut=200_000), change]
        assert (await download(host, tmp_path)).read_bytes() == mp4("TWO clip", 60_000)


@pytest.mark.parametrize("etag", ['W/"one"', None])
async def test_without_a_strong_etag_another_size_shows_a_change(tmp_path: Path, etag: str | None) -> None:
    """A clip that changed between two attempts is recognised by its size, and arrives unmixed."""
    async with hosting(etag=etag) as host:

        async def change(request: web.BaseRequest) -> web.StreamResponse:
            host.clip = mp4("TWO clip", 60_001)
            return await host.send(request)

        host.answers = [host.sending(cut=200_000), change]
        assert (await download(host, tmp_path)).read_bytes() == mp4("TWO clip", 60_001)


@pytest.mark.parametrize(
    "content_range",
    slow_after(3, ["bytes 0-9/10", "", "bytes 100-200/99999999", "bytes 5-10", "nonsense", "items 1-2/3"]),
)
async def test_a_wrong_content_range_begins_again(tmp_path: Path, content_range: str) -> None:
    """A 206 that is not what was requested is not appended."""
    async with hosting() as host:
        host.answers = [
            host.sending(cut=200_000),
            replying(206, b"x" * 1000, content_range=content_range, etag='"one"'),
        ]
        assert (await download(host, tmp_path)).read_bytes() == CLIP


# What is no clip


@pytest.mark.parametrize(
    "body",
    slow_after(
        3,
        [
            b"<html><body>502</body></html>",
            CLIP[:-1],
            CLIP + b"tail",
            b'{"error":{"message":"not found"}}',
            b"",
            b"\0" * 5000,
            box(b"ftyp", b"isom") + box(b"mdat", b"x" * 500),
        ],
    ),
    ids=["html", "one byte short", "tail", "json", "empty", "zeros", "no moov"],
)
async def test_a_200_that_is_no_complete_mp4_is_no_clip(tmp_path: Path, body: bytes) -> None:
    """It never gets the name of a clip; the task is checked for a fresh URL."""
    async with hosting() as host:
        host.answers = [replying(200, body)]
        assert (await download(host, tmp_path)).read_bytes() == CLIP
        assert host.checks == 2


async def test_a_url_that_never_gives_an_mp4_ends_as_download_failed(tmp_path: Path) -> None:
    """A URL that gives HTML until the retry timeout has passed ends with an error that shows how the body begins."""
    async with hosting() as host:
        host.always = replying(200, b"<html>sorry</html>")
        error = await download_error(
            host, tmp_path, "no complete MP4", retry=Retry(timeout=0.5, wait_initial=0.05, wait_max=0.1)
        )
        assert "<html>" in str(error)
        assert len(host.requests) < 40


async def test_a_clip_that_announces_too_many_bytes_is_rejected(tmp_path: Path) -> None:
    """More than 2 GiB announced: the download fails before a byte is written, without another attempt."""
    async with hosting() as host:
        host.always = announcing(3 * 1024**3)
        await download_error(host, tmp_path, "above the limit")
        assert len(host.requests) == 1
