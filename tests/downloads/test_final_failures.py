"""What can never work ends a download after two looks, with its reason; what may still work is retried."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from omni_async import DownloadError, JobStatus, Retry
from omni_async.testing.fake_clips import box
from tests.support.clip_host import CLIP, client_of, download, download_error, hosting, replying
from tests.support.markers import slow_after
from tests.support.other_videos import OTHER_VIDEOS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clip_host import Handler, Host

pytestmark = pytest.mark.timeout(60)

PATIENT = Retry(timeout=300.0, wait_initial=0.01, wait_max=0.05)  # a failure within seconds is then a decision


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


def with_link(host: Host, *links: str) -> None:
    """Let the task name these links in turn, the last one from then on."""
    view, remaining = host.view, list(links)

    def changed(task_id: str) -> dict[str, object]:
        link = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return view(task_id) | {"result": {"videos": [{"url": link or f"{host.cdn}/f/{task_id}.mp4"}]}}

    host.view = changed  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("ftp://files.example/a.mp4", "scheme is ftp"),
        ("file:///etc/passwd", "scheme is file"),
        ("http://127.0.0.1:1/a\nb.mp4", "control character"),
        ("http:///a.mp4", "no host"),
        ("http://127.0.0.1:99999/a.mp4", "port is invalid"),
        ("not a link", "not an http or https URL"),
        ("http://169.254.169.254/latest/meta-data/", "a link-local address"),
        ("http://10.1/a.mp4", "a private address"),
    ],
)
async def test_a_link_that_can_never_be_fetched_ends_the_download(tmp_path: Path, link: str, reason: str) -> None:
    """The task is asked for another link once; if that is no better, the reason is told."""
    async with hosting() as host:
        with_link(host, link)
        began = time.monotonic()
        await download_error(host, tmp_path, reason, retry=PATIENT)
        assert time.monotonic() - began < 5
        assert host.requests == []


async def test_a_fresh_link_may_work_after_one_that_never_can(tmp_path: Path) -> None:
    """A gateway may name its own storage first, and a public link a moment later."""
    async with hosting() as host:
        with_link(host, "s3://bucket/a.mp4", "")
        assert (await download(host, tmp_path, retry=PATIENT)).read_bytes() == CLIP


async def test_a_circle_of_redirects_ends_the_download(tmp_path: Path) -> None:
    """Two circles are enough."""
    async with hosting() as host:
        host.always = replying(302, location="/f/again")
        await download_error(host, tmp_path, "redirect", retry=PATIENT)
        assert len(host.requests) < 60


@pytest.mark.parametrize(
    "status", slow_after(4, [304, 400, 402, 405, 406, 409, 411, 412, 413, 414, 418, 421, 422, 428, 451])
)
async def test_a_status_that_will_come_again_ends_the_download(tmp_path: Path, status: int) -> None:
    """The same refusal of a fresh URL is final."""
    async with hosting() as host:
        host.always = replying(status)
        await download_error(host, tmp_path, f"HTTP {status}", retry=PATIENT)
        assert len(host.requests) == 2
        assert host.checks == 2


@pytest.mark.parametrize(
    "status", slow_after(4, [403, 429, 499, 503, 401, 404, 408, 410, 416, 423, 424, 425, 444, 460, 500, 502, 504])
)
async def test_a_status_that_may_pass_is_waited_out(tmp_path: Path, status: int) -> None:
    """Expired URLs and busy hosts are tried again and again."""
    async with hosting() as host:
        host.answers = [replying(status)] * 6
        assert (await download(host, tmp_path, retry=PATIENT)).read_bytes() == CLIP


_BODIES = {
    "HTML": b"<html>sorry</html>",
    "JSON": b'{"error": "not found"}',
    "a list": b' [{"error": 1}]',
    "nothing": b"",
    "zeros": b"\0" * 5000,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(3000),
    "no moov": box(b"ftyp", b"isom") + box(b"mdat", b"x" * 500),
    "a cut clip": CLIP[:-1],
    "a long body": CLIP[1:] + b"\xff" * 3_000_000,
}


@pytest.mark.parametrize("body", slow_after(3, _BODIES))
async def test_the_same_body_twice_is_no_clip(tmp_path: Path, body: str) -> None:
    """A complete body that is no MP4, and is the same from a fresh URL, is final. Nothing of it is kept."""
    async with hosting() as host:
        host.always = replying(200, _BODIES[body])
        began = time.monotonic()
        error = await download_error(host, tmp_path, "no complete MP4", retry=PATIENT)
        assert time.monotonic() - began < 5
        assert "again from a fresh URL" in str(error)
        assert len(host.requests) == 2
        assert list(tmp_path.glob("k*")) == []


@pytest.mark.parametrize("last", [replying(400), replying(200, b"<html>")], ids=["a refusal", "a page"])
async def test_the_part_file_of_a_download_that_can_never_work_is_removed(tmp_path: Path, last: Handler) -> None:
    """Half a clip has come, and the rest will not: nothing of it is left, and no later run continues it."""
    async with hosting() as host:
        host.answers, host.always = [host.sending(cut=len(CLIP) // 2)], last
        await download_error(host, tmp_path, "again from a fresh URL", retry=PATIENT)
        assert list(tmp_path.iterdir()) == []


async def test_the_part_file_of_a_download_that_may_still_work_stays(tmp_path: Path) -> None:
    """When only the time is over, a later run continues the clip."""
    async with hosting() as host:
        host.answers, host.always = [host.sending(cut=len(CLIP) // 2)], replying(503)
        await download_error(host, tmp_path, "HTTP 503", retry=Retry(timeout=0.1, wait_initial=0.01, wait_max=0.05))
        assert [path.name for path in tmp_path.iterdir()] == ["k.mp4.part"]


async def test_other_bodies_each_time_are_retried(tmp_path: Path) -> None:
    """Pages that differ may be of a host that is being started."""
    async with hosting() as host:
        host.answers = [replying(200, f"<html>try {number}</html>".encode()) for number in range(5)]
        assert (await download(host, tmp_path, retry=PATIENT)).read_bytes() == CLIP


async def test_a_body_without_an_announced_end_may_have_been_cut(tmp_path: Path) -> None:
    """The same beginning of a clip twice, without a length, is no evidence: it is requested again."""
    async with hosting() as host:

        async def early(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(CLIP[:100_000])
            return response

        host.answers = [early] * 4
        assert (await download(host, tmp_path, retry=PATIENT)).read_bytes() == CLIP


# Videos of another kind


@pytest.mark.parametrize("suffix", slow_after(3, OTHER_VIDEOS))
@pytest.mark.parametrize("chunked", slow_after(1, [False, True]))
async def test_a_video_of_another_kind_is_kept_under_a_name_that_says_so(
    tmp_path: Path, suffix: str, chunked: bool
) -> None:
    """It was paid for: its bytes stay, the job is `download_failed`, and the error names the file."""
    async with hosting() as host:
        host.clip = OTHER_VIDEOS[suffix]
        host.always = host.sending(chunked=chunked)
        error = await download_error(host, tmp_path, f"k.unverified.{suffix}", retry=PATIENT)
        kept = tmp_path / f"k.unverified.{suffix}"
        assert str(kept) in str(error)
        assert kept.read_bytes() == OTHER_VIDEOS[suffix]
        assert [path.name for path in tmp_path.iterdir()] == [kept.name]
        assert len(host.requests) == 2


async def test_an_mp4_that_other_bytes_follow_is_kept(tmp_path: Path) -> None:
    """It was paid for and can be played: the error says what is wrong with it, and where it is."""
    async with hosting() as host:
        host.clip = CLIP + bytes(4)
        error = await download_error(host, tmp_path, "does not end within", retry=PATIENT)
        kept = tmp_path / "k.unverified.m4v"
        assert str(kept) in str(error)
        assert kept.read_bytes() == CLIP + bytes(4)


async def test_only_one_video_of_another_kind_is_kept(tmp_path: Path) -> None:
    """The one from the fresh URL replaces the first, and a complete clip replaces both."""
    async with hosting() as host:
        webm, avi = replying(200, OTHER_VIDEOS["webm"]), replying(200, OTHER_VIDEOS["avi"])
        host.answers = [webm, avi, avi]
        async with client_of(host, tmp_path, retry=PATIENT) as client:
            job = client.submit("p", key="k")
            with pytest.raises(DownloadError, match=r"k\.unverified\.avi"):
                await asyncio.wait_for(job, 20)
            assert job.status is JobStatus.DOWNLOAD_FAILED
            assert [path.name for path in tmp_path.glob("*unverified*")] == ["k.unverified.avi"]
    async with hosting() as host:
        host.answers = [webm]
        assert (await download(host, tmp_path / "other", retry=PATIENT)).read_bytes() == CLIP
        assert [path.name for path in (tmp_path / "other").iterdir()] == ["k.mp4"]


async def test_a_file_of_others_with_the_name_of_a_kept_video_stays(tmp_path: Path) -> None:
    """The kept video takes a marked name instead."""
    (tmp_path / "k.unverified.webm").write_bytes(b"mine")
    async with hosting() as host:
        host.always = replying(200, OTHER_VIDEOS["webm"])
        error = await download_error(host, tmp_path, "unverified.webm", retry=PATIENT)
        kept = [path for path in tmp_path.glob("*.webm") if path.read_bytes() == OTHER_VIDEOS["webm"]]
        assert len(kept) == 1
        assert str(kept[0]) in str(error)
    assert (tmp_path / "k.unverified.webm").read_bytes() == b"mine"


# Compression that was not requested


@pytest.mark.parametrize(
    "encoding", slow_after(3, ["gzip", "br", "utf-8", "deflate", "zstd", "aws-chunked", "gzip, br"])
)
async def test_a_clip_that_is_only_said_to_be_compressed_is_stored(tmp_path: Path, encoding: str) -> None:
    """The bytes decide, not the header."""
    async with hosting() as host:
        host.always = replying(200, CLIP, content_encoding=encoding)
        assert (await download(host, tmp_path, retry=PATIENT)).read_bytes() == CLIP
        assert len(host.requests) == 1


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(CLIP)[:-100]),
        ("gzip", gzip.compress(CLIP)[:-6]),
        ("gzip", gzip.compress(CLIP)[:-8] + bytes(8)),
        ("deflate", zlib.compress(CLIP)[:-1]),
        ("br", b"\x8b\x03\x80brotli" * 100),
        ("zstd", b"\x28\xb5\x2f\xfd" * 100),
    ],
    ids=["cut gzip", "gzip cut in its checksum", "gzip with a wrong checksum", "cut deflate", "br", "zstd"],
)
async def test_a_clip_whose_compression_cannot_be_undone_ends_the_download(
    tmp_path: Path, encoding: str, body: bytes
) -> None:
    """A host that compresses against the request does it again: two looks are enough."""
    async with hosting() as host:
        host.always = replying(200, body, content_encoding=encoding)
        await download_error(host, tmp_path, f"compressed .{encoding}.", retry=PATIENT)
        assert len(host.requests) == 2


async def test_a_page_that_is_compressed_is_no_clip(tmp_path: Path) -> None:
    """What it unpacks to is verified like any other body."""
    async with hosting() as host:
        host.always = replying(200, gzip.compress(b"<html>gone</html>"), content_encoding="gzip")
        await download_error(host, tmp_path, "does not begin like an MP4 but with b'<html>gone", retry=PATIENT)
        assert len(host.requests) == 2
