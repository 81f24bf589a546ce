"""A real API and a real host of clips on two ports of this machine, with the failures that a test asks for."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from aiohttp import web

from omni_async import DownloadError, JobStatus, Limits, OmniClient, Polling, Retry
from omni_async.api.http import HttpTransport, Timeouts
from tests.support.fakes import mp4

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from omni_async.api.transport import Transport

    Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


KEY = "sk-downloads"
CLIP = mp4("the clip", 60_000)  # about half a megabyte
QUICK = Retry(timeout=3.0, wait_initial=0.01, wait_max=0.05)


class ImpatientClient(OmniClient):
    """The real client with short timeouts."""

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        return HttpTransport(base_url, api_key, timeouts=Timeouts(connect=2, submit=5, check=5, idle=0.3))


@dataclass
class Host:
    """An API whose tasks are finished immediately, and a host of their clips.

    `answers` are the handlers of the next downloads, in turn; `always` handles those after them. By default a clip is
    sent as it should be.
    """

    clip: bytes = CLIP
    videos: int = 1
    is_own_origin: bool = False  # clips are at the API's own address
    etag: str | None = '"one"'
    expires_in: float = 3600.0
    checks: int = 0  # how often URLs were given
    url: str = ""
    cdn: str = ""
    posts: int = 0
    requests: list[dict[str, str]] = field(default_factory=list)  # the headers of every download
    paths: list[str] = field(default_factory=list)
    answers: list[Handler | None] = field(default_factory=list)
    always: Handler | None = None
    task_fails: bool = False
    denials: int = 0  # how many of the next checks are refused, as with a wrong key

    async def api(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle a request to the API."""
        if request.path == "/v1/model-schema":
            return web.json_response({"error": {"message": "page not found", "type": "x"}}, status=404)
        if request.path == "/v1/videos/generations":
            self.posts += 1
            return web.json_response({"code": 200, "data": [{"task_id": f"task_{self.posts}"}]})
        if request.path.startswith("/v1/tasks/"):
            if self.denials and self.requests:
                self.denials -= 1
                return web.json_response({"error": {"message": "invalid API key", "type": "apimart_error"}}, status=401)
            return web.json_response({"code": 200, "data": self.view(request.path.rsplit("/", 1)[1])})
        return await self.serve(request)

    def view(self, task_id: str) -> dict[str, Any]:
        """Return a task, with fresh URLs each time."""
        if self.task_fails:
            return {"id": task_id, "status": "failed", "error": {"message": "gone", "code": "gone"}}
        self.checks += 1
        origin = self.url if self.is_own_origin else self.cdn
        urls = [f"{origin}/f/{task_id}-{index}.mp4?link={self.checks}" for index in range(self.videos)]
        videos = [{"url": [url], "expires_at": int(time.time() + self.expires_in)} for url in urls]
        return {"id": task_id, "status": "completed", "cost": 0.1, "result": {"videos": videos}}

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle a download."""
        self.requests.append({name.lower(): value for name, value in request.headers.items()})
        self.paths.append(request.path_qs)
        handler = self.answers.pop(0) if self.answers else self.always
        return await (handler(request) if handler else self.send(request))

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
        """Send the clip, or the requested range of it, as a good host does, or with the given defects.

        `cut` resets the connection after that many bytes, after a second without any if `stall` is true.
        """
        start = 0
        wanted = request.headers.get("Range", "")
        fits = request.headers.get("If-Range") in {None, self.etag}
        if wanted and ranges and fits:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        response = web.StreamResponse(status=status or (206 if start else 200))
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(self.clip) - 1}/{len(self.clip)}"
        if self.etag:
            response.headers["ETag"] = self.etag
        if chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(self.clip) - start
        response.headers.update(headers or {})
        await response.prepare(request)
        body = self.clip[start:]
        await response.write(body if cut is None else body[:cut])
        if stall:
            await asyncio.sleep(1)
        if cut is not None:
            assert request.transport is not None
            await asyncio.sleep(0.02)
            request.transport.abort()
        return response

    def sending(self, **defects: Any) -> Handler:
        """Return a handler that calls `send` with these defects."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self.send(request, **defects)

        return handle

    async def send_slowly(self, request: web.BaseRequest, *, pieces: int, pause: float) -> web.StreamResponse:
        """Send the clip in pieces, with a pause after each (seconds)."""
        response = web.StreamResponse(headers={"Content-Length": str(len(self.clip))})
        await response.prepare(request)
        size = len(self.clip) // pieces
        for start in range(0, len(self.clip), size):
            await response.write(self.clip[start : start + size])
            await asyncio.sleep(pause)
        return response


def replying(status: int, body: bytes = b"", **headers: str) -> Handler:
    """Return a handler that gives a plain response."""

    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return handle


def announcing(size: int) -> Handler:
    """Return a handler that announces a number of bytes and sends a few."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        await response.write(b"x" * 1000)
        assert request.transport is not None
        request.transport.abort()
        return response

    return handle


async def _listen(handler: Any) -> web.ServerRunner:
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


@asynccontextmanager
async def hosting(**settings: Any) -> AsyncIterator[Host]:
    """Open the API and the host of clips for this block."""
    host = Host(**settings)
    runners = [await _listen(host.api), await _listen(host.serve)]
    host.url, host.cdn = (f"http://127.0.0.1:{runner.addresses[0][1]}" for runner in runners)
    try:
        yield host
    finally:
        for runner in runners:
            await runner.cleanup()


def client_of(host: Host, folder: Path, retry: Retry = QUICK, limits: Limits | None = None) -> ImpatientClient:
    """Return a client for a host."""
    polling = Polling(min_interval=0.01, max_interval=0.05, timeout=30)
    return ImpatientClient(
        KEY, base_url=host.url, output_dir=folder, ledger=None, retry=retry, polling=polling, limits=limits
    )


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[None]:
    """Watch a folder during this block: every file under a final name must be a complete clip at every moment."""
    incomplete: list[str] = []
    is_watching = True

    async def watch() -> None:
        while is_watching:
            incomplete.extend(path.name for path in folder.glob("*.mp4") if path.is_file() and not _is_complete(path))
            await asyncio.sleep(0.002)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        is_watching = False
        await task
    assert not incomplete


def _is_complete(path: Path) -> bool:
    content, offset = path.read_bytes(), 0
    while offset < len(content):
        offset += int.from_bytes(content[offset : offset + 4], "big") or 1
    return offset == len(content) and content[4:8] == b"ftyp"


async def download(host: Host, folder: Path, **settings: Any) -> Path:
    """Return the clip of one job, downloaded into a watched folder."""
    async with watched(folder), client_of(host, folder, **settings) as client:
        return await asyncio.wait_for(client.submit("p", key="k"), 20)


async def download_error(host: Host, folder: Path, match: str, **settings: Any) -> DownloadError:
    """Return the error of one job whose clip cannot be downloaded. The job is download_failed, and was paid once."""
    async with watched(folder), client_of(host, folder, **settings) as client:
        job = client.submit("p", key="k")
        with pytest.raises(DownloadError, match=match) as caught:
            await asyncio.wait_for(job, 20)
        assert job.status is JobStatus.DOWNLOAD_FAILED
        assert "k" in str(caught.value)
        assert str(job.task_id) in str(caught.value)
        assert not (folder / "k.mp4").is_file()
    assert host.posts == 1
    return caught.value
