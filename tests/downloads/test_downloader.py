"""The downloader in real time, with real files and a server that breaks off, lies, stalls and renews its links."""

from __future__ import annotations

import asyncio
import gzip
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from omni_async import DownloadError, JobStatus, Limits, OmniClient, Polling, Retry
from omni_async.api.http import HttpTransport, Timeouts
from tests.support.fakes import box, left_by_error, mp4
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from omni_async import Job
    from omni_async.api.transport import Transport

pytestmark = pytest.mark.timeout(60)

KEY = "sk-downloads"
CLIP = mp4("the clip", 60_000)  # about half a megabyte
HURRY = Retry(timeout=3.0, wait_initial=0.01, wait_max=0.05)


@pytest.fixture
def anyio_backend() -> str:
    """Real time, real threads."""
    return "asyncio"


class Client(OmniClient):
    """The real client with short timeouts."""

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        return HttpTransport(base_url, api_key, timeouts=Timeouts(connect=2, submit=5, check=5, idle=0.3))


@dataclass
class Host:
    """An API whose tasks are done at once, and their clips; `answers` is asked for each download in turn."""

    clip: bytes = CLIP
    videos: int = 1
    is_own_origin: bool = False
    etag: str | None = '"one"'
    expires_in: float = 3600.0
    links: int = 0  # how often links were given
    url: str = ""
    cdn: str = ""
    posts: int = 0
    requests: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    answers: list[Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None] = field(default_factory=list)
    always: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None
    task_fails: bool = False

    async def api(self, request: web.BaseRequest) -> web.StreamResponse:
        """Deal with a request to the API."""
        if request.path == "/v1/videos/generations":
            self.posts += 1
            return web.json_response({"code": 200, "data": [{"task_id": f"task_{self.posts}"}]})
        if request.path.startswith("/v1/tasks/"):
            return web.json_response({"code": 200, "data": self.view(request.path.rsplit("/", 1)[1])})
        return await self.serve(request)

    def view(self, task_id: str) -> dict[str, Any]:
        """Give a task, with fresh links each time."""
        import time

        if self.task_fails:
            return {"id": task_id, "status": "failed", "error": {"message": "gone", "code": "gone"}}
        self.links += 1
        origin = self.url if self.is_own_origin else self.cdn
        urls = [f"{origin}/f/{task_id}-{index}.mp4?link={self.links}" for index in range(self.videos)]
        videos = [{"url": [url], "expires_at": int(time.time() + self.expires_in)} for url in urls]
        return {"id": task_id, "status": "completed", "cost": 0.1, "result": {"videos": videos}}

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Deal with a download."""
        self.requests.append({name.lower(): value for name, value in request.headers.items()})
        self.paths.append(request.path_qs)
        act = self.answers.pop(0) if self.answers else self.always
        return await (act(request) if act else self.send(request))

    async def send(
        self,
        request: web.BaseRequest,
        *,
        cut: int | None = None,
        status: int | None = None,
        chunked: bool = False,
        stall: bool = False,
        headers: dict[str, str] | None = None,
        ranges: bool = True,
    ) -> web.StreamResponse:
        """Send the clip, or what is asked of it, as a good server does; or not quite."""
        start = 0
        asked = request.headers.get("Range", "")
        fits = request.headers.get("If-Range") in {None, self.etag}
        if asked and ranges and fits:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        answer = web.StreamResponse(status=status or (206 if start else 200))
        if start:
            answer.headers["Content-Range"] = f"bytes {start}-{len(self.clip) - 1}/{len(self.clip)}"
        if self.etag:
            answer.headers["ETag"] = self.etag
        if chunked:
            answer.enable_chunked_encoding()
        else:
            answer.content_length = len(self.clip) - start
        answer.headers.update(headers or {})
        await answer.prepare(request)
        body = self.clip[start:]
        await answer.write(body if cut is None else body[:cut])
        if stall:
            await asyncio.sleep(1)
        if cut is not None:
            assert request.transport is not None
            await asyncio.sleep(0.02)
            request.transport.abort()
        return answer

    def but(self, **how: Any) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        """Give an answer like `send`, but changed."""

        async def act(request: web.BaseRequest) -> web.StreamResponse:
            return await self.send(request, **how)

        return act


def says(status: int, body: bytes = b"", **headers: str) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Give a plain answer."""

    async def act(_: web.BaseRequest) -> web.StreamResponse:
        heads = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=heads)

    return act


async def _listen(handler: Any) -> web.ServerRunner:
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


@asynccontextmanager
async def hosting(**how: Any) -> AsyncIterator[Host]:
    """Open the API and the CDN on two ports."""
    host = Host(**how)
    runners = [await _listen(host.api), await _listen(host.serve)]
    host.url, host.cdn = (f"http://127.0.0.1:{runner.addresses[0][1]}" for runner in runners)
    try:
        yield host
    finally:
        for runner in runners:
            await runner.cleanup()


def client_of(host: Host, folder: Path, retry: Retry = HURRY, limits: Limits | None = None) -> Client:
    """Give a client for a host."""
    polling = Polling(min_interval=0.02, max_interval=0.1, timeout=30)
    return Client(KEY, base_url=host.url, output_dir=folder, ledger=None, retry=retry, polling=polling, limits=limits)


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[None]:
    """Watch a folder: whatever stands under a final name at any moment must be a whole clip."""
    seen_broken: list[str] = []
    is_over = False

    async def watch() -> None:
        while not is_over:
            seen_broken.extend(path.name for path in folder.glob("*.mp4") if path.is_file() and not _is_whole(path))
            await asyncio.sleep(0.002)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        is_over = True
        await task
    assert not seen_broken


def _is_whole(path: Path) -> bool:
    content, offset = path.read_bytes(), 0
    while offset < len(content):
        offset += int.from_bytes(content[offset : offset + 4], "big") or 1
    return offset == len(content) and content[4:8] == b"ftyp"


async def deliver(host: Host, folder: Path, **how: Any) -> Path:
    """Give the clip of one job, watched."""
    async with watched(folder), client_of(host, folder, **how) as client:
        return await asyncio.wait_for(client.submit("p", key="k"), 20)


async def refuse(host: Host, folder: Path, match: str, **how: Any) -> DownloadError:
    """Give the error of one job that cannot be delivered; its neighbour is, and so is itself later, unpaid."""
    async with watched(folder), client_of(host, folder, **how) as client:
        job = client.submit("p", key="k")
        with pytest.raises(DownloadError, match=match) as caught:
            await asyncio.wait_for(job, 20)
        assert job.status is JobStatus.DOWNLOAD_FAILED
        assert "k" in str(caught.value)
        assert str(job.task_id) in str(caught.value)
        assert not (folder / "k.mp4").is_file()
    assert host.posts == 1
    return caught.value


# Whole


async def test_a_clip_arrives_whole_under_its_name(tmp_path: Path) -> None:
    """The file holds the very bytes, no part file is left, and no compressed body was asked for."""
    async with hosting() as host:
        path = await deliver(host, tmp_path / "new" / "folder")
        assert path.read_bytes() == CLIP
        assert [each.name for each in path.parent.iterdir()] == ["k.mp4"]
        assert host.requests[0]["accept-encoding"] == "identity"
        assert "range" not in host.requests[0]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_transfer_that_breaks_off_goes_on_where_it_was(tmp_path: Path, chunked: bool) -> None:
    """A connection reset in the middle costs no byte twice: Range and If-Range ask for the rest."""
    async with hosting() as host:
        host.answers = [host.but(cut=200_000, chunked=chunked), host.but(cut=100_000)]
        path = await deliver(host, tmp_path)
        assert path.read_bytes() == CLIP
        assert len(host.requests) == 3
        for request in host.requests[1:]:
            assert request["if-range"] == '"one"'
            assert int(request["range"].removeprefix("bytes=").rstrip("-")) > 0
        assert host.links == 1


async def test_a_transfer_that_breaks_off_often_but_moves_is_never_given_up(tmp_path: Path) -> None:
    """The budget counts from the last byte that came: thirty resets in a row, each with progress, are lived through."""
    async with hosting() as host:
        host.answers = [host.but(cut=16_000) for _ in range(30)]
        path = await deliver(host, tmp_path, retry=Retry(timeout=0.5, wait_initial=0.01, wait_max=0.05))
        assert path.read_bytes() == CLIP


async def test_a_200_instead_of_206_starts_over(tmp_path: Path) -> None:
    """A server that ignores Range sends all of it; nothing is appended to what was there."""
    async with hosting() as host:
        host.answers = [host.but(cut=200_000), host.but(ranges=False)]
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP
        assert "range" in host.requests[1]


async def test_a_416_starts_over(tmp_path: Path) -> None:
    """Range not satisfiable: what is here is thrown away, and all is asked for again."""
    async with hosting() as host:
        host.answers = [host.but(cut=200_000), says(416, content_range=f"bytes */{len(CLIP)}")]
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP
        assert "range" not in host.requests[2]


async def test_a_changed_etag_starts_over(tmp_path: Path) -> None:
    """When the clip has changed since, If-Range brings the new one whole, and the halves are not mixed."""
    async with hosting() as host:

        async def change(request: web.BaseRequest) -> web.StreamResponse:
            host.clip, host.etag = mp4("another clip", 50_000), '"two"'
            return await host.send(request)

        host.answers = [host.but(cut=200_000), change]
        assert (await deliver(host, tmp_path)).read_bytes() == mp4("another clip", 50_000)


async def test_a_206_with_another_etag_is_not_appended(tmp_path: Path) -> None:
    """A server that ignores If-Range but shows another ETag: the halves are not mixed."""
    async with hosting() as host:

        async def change(request: web.BaseRequest) -> web.StreamResponse:
            host.clip = mp4("TWO clip", 60_000)
            return await host.send(request, headers={"ETag": '"two"'})

        host.answers = [host.but(cut=200_000), change]
        assert (await deliver(host, tmp_path)).read_bytes() == mp4("TWO clip", 60_000)


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-9/10", "bytes 5-10", "nonsense", "", "bytes 100-200/99999999", "items 1-2/3"],
)
async def test_a_wrong_content_range_starts_over(tmp_path: Path, content_range: str) -> None:
    """A 206 that is not what was asked for is not appended."""
    async with hosting() as host:
        host.answers = [host.but(cut=200_000), says(206, b"x" * 1000, content_range=content_range, etag='"one"')]
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP


async def test_a_206_with_only_a_piece_is_completed(tmp_path: Path) -> None:
    """A server that sends less than the rest in a 206 is asked again."""
    async with hosting() as host:

        async def piece(request: web.BaseRequest) -> web.StreamResponse:
            start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            body = CLIP[start : start + 1000]
            headers = {"Content-Range": f"bytes {start}-{start + 999}/{len(CLIP)}", "ETag": '"one"'}
            return web.Response(status=206, body=body, headers=headers)

        host.answers = [host.but(cut=200_000), piece, piece, piece]
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP
        assert len(host.requests) == 5


async def test_a_206_with_another_weak_etag_is_not_appended(tmp_path: Path) -> None:
    """A weak ETag cannot go into If-Range, but where it changes the clip has changed: the halves are not mixed."""
    async with hosting(etag='W/"one"') as host:

        async def change(request: web.BaseRequest) -> web.StreamResponse:
            host.clip, host.etag = mp4("TWO clip", 60_000), 'W/"two"'
            return await host.send(request)

        host.answers = [host.but(cut=200_000), change]
        assert (await deliver(host, tmp_path)).read_bytes() == mp4("TWO clip", 60_000)


@pytest.mark.parametrize("etag", ['W/"one"', None])
async def test_without_a_strong_validator_another_size_tells(tmp_path: Path, etag: str | None) -> None:
    """Without a strong ETag a clip that changed between two attempts is told by its size, and arrives unmixed."""
    async with hosting(etag=etag) as host:

        async def change(request: web.BaseRequest) -> web.StreamResponse:
            host.clip = mp4("TWO clip", 60_001)
            return await host.send(request)

        host.answers = [host.but(cut=200_000), change]
        assert (await deliver(host, tmp_path)).read_bytes() == mp4("TWO clip", 60_001)


async def test_a_cut_without_a_length_is_noticed(tmp_path: Path) -> None:
    """No Content-Length and a clean early close: the boxes of the MP4 tell that it is not whole."""
    async with hosting() as host:

        async def early(request: web.BaseRequest) -> web.StreamResponse:
            answer = web.StreamResponse(headers={"ETag": '"one"'})
            answer.enable_chunked_encoding()
            await answer.prepare(request)
            await answer.write(CLIP[:300_000])
            return answer

        host.answers = [early, early]
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP


async def test_a_compressed_body_is_unpacked(tmp_path: Path) -> None:
    """A proxy that compresses in spite of all: the clip arrives unpacked, its Content-Length is not believed."""
    async with hosting() as host:
        host.answers = [says(200, gzip.compress(CLIP), content_encoding="gzip", etag='"gz"')]
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP


async def test_a_stalled_transfer_goes_on(tmp_path: Path) -> None:
    """No byte for the idle timeout: the rest is asked for on a new connection."""
    async with hosting() as host:
        host.answers = [host.but(cut=200_000, stall=True)]
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP
        assert "range" in host.requests[1]


async def test_a_slow_transfer_has_no_total_timeout(tmp_path: Path) -> None:
    """Bytes that keep coming are waited for, for longer than any idle timeout."""
    async with hosting() as host:

        async def slow(request: web.BaseRequest) -> web.StreamResponse:
            answer = web.StreamResponse(headers={"Content-Length": str(len(CLIP))})
            await answer.prepare(request)
            for start in range(0, len(CLIP), len(CLIP) // 10):
                await answer.write(CLIP[start : start + len(CLIP) // 10])
                await asyncio.sleep(0.1)
            return answer

        host.answers = [slow]
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP
        assert len(host.requests) == 1


@pytest.mark.parametrize(
    "body",
    [b'{"error":{"message":"not found"}}', b"<html><body>502</body></html>", b"", b"\0" * 5000,
     box(b"ftyp", b"isom") + box(b"mdat", b"x" * 500), CLIP + b"tail", CLIP[:-1]],
    ids=["json", "html", "empty", "zeros", "no moov", "tail", "one byte short"],
)  # fmt: skip
async def test_what_is_no_whole_mp4_under_a_200_is_no_clip(tmp_path: Path, body: bytes) -> None:
    """Something else under a 200 is asked for again with a fresh link, and never gets the name."""
    async with hosting() as host:
        host.answers = [says(200, body)]
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP
        assert host.links == 2


async def test_what_stays_no_mp4_is_download_failed_in_the_end(tmp_path: Path) -> None:
    """A link that gives HTML for ever ends with an error that shows how it begins."""
    async with hosting() as host:
        host.always = says(200, b"<html>sorry</html>")
        error = await refuse(
            host, tmp_path, "no complete MP4", retry=Retry(timeout=0.5, wait_initial=0.05, wait_max=0.1)
        )
        assert "<html>" in str(error)
        assert len(host.requests) < 40


# Links


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_expired_link_is_renewed(tmp_path: Path, status: int) -> None:
    """A link that does not open any more is asked for anew, in the middle of a transfer too, and bytes are kept."""
    async with hosting() as host:
        host.answers = [host.but(cut=200_000), says(status, b"<Error>expired</Error>")]
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP
        assert [path.split("=")[1] for path in host.paths] == ["1", "1", "2"]
        assert "range" in host.requests[2]


async def test_a_link_past_its_time_is_renewed_before_it_is_asked(tmp_path: Path) -> None:
    """Where expires_at has passed, the task is asked for a fresh link first."""
    async with hosting(expires_in=-10) as host:
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP
        assert host.paths[0].endswith("link=2")


async def test_a_task_that_is_gone_gives_up_its_clip(tmp_path: Path) -> None:
    """A dead link of a task that has failed meanwhile is download_failed soon, and says why."""
    async with hosting() as host:

        async def die(request: web.BaseRequest) -> web.StreamResponse:
            host.task_fails = True
            return await says(404)(request)

        host.always = die
        await refuse(host, tmp_path, "gone", retry=Retry(timeout=60, wait_initial=0.01, wait_max=0.05))


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_trouble_of_the_host_passes(tmp_path: Path, status: int) -> None:
    """5xx and 429 of the clip's host are waited out, with the same link."""
    async with hosting() as host:
        host.answers = [says(status, b"busy", retry_after="0")] * 3
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP
        assert host.links == 1


@pytest.mark.parametrize("is_own", [True, False])
async def test_the_key_goes_along_only_to_the_apis_own_origin(tmp_path: Path, is_own: bool) -> None:
    """A clip on the API's origin is asked for with the key, one on any other without."""
    async with hosting(is_own_origin=is_own) as host:
        await deliver(host, tmp_path)
        assert host.requests[0].get("authorization") == (f"Bearer {KEY}" if is_own else None)


# Several, many


async def test_all_videos_of_a_task_are_stored(tmp_path: Path) -> None:
    """Further videos are named `-2`, `-3`; `paths` has them all."""
    async with hosting(videos=3) as host, client_of(host, tmp_path) as client:
        job = client.submit("p", key="k")
        assert await job == tmp_path / "k.mp4"
        assert [path.name for path in job.paths] == ["k.mp4", "k-2.mp4", "k-3.mp4"]
        assert all(path.read_bytes() == CLIP for path in job.paths)


async def test_a_key_that_looks_like_a_second_video_does_not_collide(tmp_path: Path) -> None:
    """Keys "k" and "k-2", with two videos each, make four files."""
    async with hosting(videos=2) as host, client_of(host, tmp_path) as client:
        jobs = [client.submit("p", key="k"), client.submit("q", key="k-2"), client.submit("r", key="K")]
        await asyncio.gather(*jobs)
        names = [path.name.casefold() for job in jobs for path in job.paths]
        assert len(set(names)) == 6


async def test_no_more_downloads_at_once_than_allowed(tmp_path: Path) -> None:
    """max_downloads=2 is kept with twenty clips waiting."""
    at_once = most = 0

    async with hosting() as host:

        async def count(request: web.BaseRequest) -> web.StreamResponse:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            try:
                await asyncio.sleep(0.02)
                return await host.send(request)
            finally:
                at_once -= 1

        host.always = count
        async with client_of(host, tmp_path, limits=Limits(max_downloads=2)) as client:
            await asyncio.gather(*(client.submit(f"p{number}") for number in range(20)))
    assert most == 2


# Disks


async def test_no_space_left_is_download_failed_and_others_go_on(tmp_path: Path) -> None:
    """A full disk: the job is download_failed, the error names file and cause; resume fetches it later without paying."""
    async with hosting() as host, client_of(host, tmp_path) as client:
        (tmp_path / "full.mp4.part").symlink_to("/dev/full")
        full, fine = client.submit("p", key="full"), client.submit("q", key="fine")
        with pytest.raises(DownloadError, match="No space left") as caught:
            await full
        assert "full.mp4" in str(caught.value)
        assert caught.value.path == str(tmp_path / "full.mp4")
        assert await fine
        assert full.status is JobStatus.DOWNLOAD_FAILED
        (tmp_path / "full.mp4.part").unlink()
        assert (await (await resumed(client))[0]).read_bytes() == CLIP
        assert host.posts == 2


async def test_a_folder_that_may_not_be_made_is_download_failed() -> None:
    """No permission (or a kernel folder): download_failed, with the cause."""
    folder = Path("/sys/omni")
    async with hosting() as host, client_of(host, folder) as client:
        with pytest.raises(DownloadError, match=r"ermission|permitted|Read-only|omni"):
            await client.submit("p", key="k")


async def test_a_folder_that_is_a_file_is_download_failed(tmp_path: Path) -> None:
    """An output folder whose name is a file."""
    (tmp_path / "file").write_text("x")
    async with hosting() as host, client_of(host, tmp_path / "file") as client:
        with pytest.raises(DownloadError, match="file"):
            await client.submit("p", key="k")


async def test_a_name_that_is_a_folder_is_download_failed(tmp_path: Path) -> None:
    """Where `<key>.mp4` is a directory, the job is download_failed, and the directory stands."""
    (tmp_path / "k.mp4").mkdir()
    async with hosting() as host, client_of(host, tmp_path) as client:
        with pytest.raises(DownloadError, match=r"k\.mp4"):
            await client.submit("p", key="k")
        assert (tmp_path / "k.mp4").is_dir()
        assert (await client.submit("q")).is_file()


async def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    """The output folder is removed while a clip is on its way: it is made again where the first byte is written."""
    import shutil

    folder = tmp_path / "out"
    async with hosting() as host:

        async def vanish(request: web.BaseRequest) -> web.StreamResponse:
            shutil.rmtree(folder)
            return await host.send(request)

        host.answers = [vanish]
        async with client_of(host, folder) as client:
            path = await client.submit("p", key="k")
            assert path.read_bytes() == CLIP
        assert host.posts == 1


async def test_an_existing_file_is_replaced_whole(tmp_path: Path) -> None:
    """A file of that name from elsewhere is replaced in one step."""
    (tmp_path / "k.mp4").write_bytes(mp4("old", 10))
    async with hosting() as host:
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP


async def test_a_stale_part_file_is_not_trusted(tmp_path: Path) -> None:
    """What some earlier run left in a part file does not get into the clip."""
    (tmp_path / "k.mp4.part").write_bytes(b"x" * 700_000)
    async with hosting() as host:
        assert (await deliver(host, tmp_path)).read_bytes() == CLIP
        assert not (tmp_path / "k.mp4.part").exists()


async def test_the_size_ceiling_holds_by_announcement(tmp_path: Path) -> None:
    """More than 2 GiB announced: refused at once, before a byte is written."""
    async with hosting() as host:
        host.always = says_head(3 * 1024**3)
        await refuse(host, tmp_path, "above the limit")
        assert len(host.requests) == 1


def says_head(size: int) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Give an answer that announces so many bytes and sends a few."""

    async def act(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(size)})
        await answer.prepare(request)
        await answer.write(b"x" * 1000)
        assert request.transport is not None
        request.transport.abort()
        return answer

    return act


# Cut short


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.15])
async def test_leaving_in_the_middle_leaves_no_partial_clip(tmp_path: Path, after: float) -> None:
    """Left by an exception while ten clips are on their way: each final name is whole or absent."""
    async with hosting() as host:
        host.always = host.but(cut=250_000, stall=False)
        async with watched(tmp_path), left_by_error(client_of(host, tmp_path)) as client:
            jobs = [client.submit(f"p{number}") for number in range(10)]
            await jobs[9].accepted()
            await asyncio.sleep(after)
    assert all(job.done() for job in jobs)


async def test_a_cancelled_job_leaves_no_part_file(tmp_path: Path) -> None:
    """Cancelling a job while its clip comes removes what came of it; others are delivered."""

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(len(CLIP))})
        await answer.prepare(request)
        for start in range(0, len(CLIP), 5000):
            await answer.write(CLIP[start : start + 5000])
            await asyncio.sleep(0.01)
        return answer

    async with hosting() as host, client_of(host, tmp_path) as client:
        host.answers = [slow]
        job = client.submit("p", key="k")
        await _until(job, JobStatus.DOWNLOADING)
        await asyncio.sleep(0.1)
        assert job.cancel()
        assert (await client.submit("q", key="q")).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["q.mp4"]


async def _until(job: Job, status: JobStatus) -> None:
    async with asyncio.timeout(10):
        while job.status is not status:
            await asyncio.sleep(0.005)


async def test_the_loop_is_not_blocked_while_clips_are_written(tmp_path: Path) -> None:
    """Files are opened, written, checked and synced in threads: none of it is called from the loop's own thread."""
    import threading

    loop_thread, guilty = threading.get_ident(), list[str]()
    real = os.fsync

    def fsync(descriptor: Any) -> None:
        if threading.get_ident() == loop_thread:
            guilty.append("fsync")
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        async with hosting() as host:
            await deliver(host, tmp_path)
    assert not guilty
