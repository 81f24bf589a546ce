"""The second server of a sandbox: clips with Range, ETag and expiring URLs, and uploaded images.

It has an origin of its own, as the file hosts of the service do, so that a client that sends its API key along is
noticed. Its second port is a third origin, the target of redirects.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING

from aiohttp import web

from .malformed import HTML_PAGE
from .replies import ErrorReply, error_reply

if TYPE_CHECKING:
    from .clips import Clip
    from .state import Handler, SandboxState
    from .tasks import Task, TaskRunner


# Bytes written at a time. Half of it doubles the number of writes of a download, twice as much doubles the memory that
# each download holds. Chosen, not measured.
CHUNK = 256 * 1024
# Writes per second with a limited rate: fewer make the rate uneven, more cost a timer each. Chosen, not measured.
WRITES_PER_SECOND = 10
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
EXPIRED = "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"


@dataclass(slots=True)
class ClipLink:
    """One URL of one video of one task. `expires_at` is Unix time in seconds."""

    name: str
    task_id: str
    index: int
    expires_at: float
    is_first: bool  # the first one of its video: only that one can be hit by `expired_link`
    is_revoked: bool = False

    def is_valid(self) -> bool:
        """Return whether the URL still leads to the clip."""
        return not self.is_revoked and time.time() < self.expires_at


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """An uploaded image. `expires_at` is Unix time in seconds."""

    content: bytes
    content_type: str
    expires_at: float

    def is_valid(self) -> bool:
        """Return whether its URL still leads to it."""
        return time.time() < self.expires_at


@dataclass(slots=True)
class LinkTable:
    """All URLs of clips ever returned. `lifetime` is in seconds."""

    lifetime: float
    by_name: dict[str, ClipLink] = field(default_factory=dict)
    _current: dict[tuple[str, int], ClipLink] = field(default_factory=dict)

    def current(self, task: Task, index: int) -> ClipLink:
        """Return the link to a video of a task: the last one while it is valid, else a new one."""
        link = self._current.get((task.task_id, index))
        if link is None or not link.is_valid():
            name = f"{secrets.token_hex(8)}-video_{task.task_id}.mp4"
            link = ClipLink(name, task.task_id, index, time.time() + self.lifetime, is_first=link is None)
            self._current[task.task_id, index] = self.by_name[name] = link
        return link


@dataclass(frozen=True, slots=True)
class ClipSlice:
    """The bytes of a clip to send, from `start` up to `stop`, and the fault that hits the download."""

    clip: Clip
    start: int
    stop: int
    fault: str | None

    @property
    def sent_until(self) -> int:
        """Where sending stops: in the middle, for the faults that break a download off."""
        is_broken_off = self.fault in ("cut_download", "cut_download_clean", "stall_download")
        return (self.start + self.stop) // 2 if is_broken_off else self.stop


class Cdn:
    """The endpoints of the second server. `third_origin` is set as soon as its port is known."""

    def __init__(self, state: SandboxState, runner: TaskRunner, links: LinkTable) -> None:
        self._state, self._runner, self._links = state, runner, links
        self._images: dict[str, UploadedImage] = {}
        self._redirects = 0
        self.third_origin = ""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/f/video/{name}", self.get_clip),
            web.get("/f/moved/{name}", self.get_clip),
            web.get("/f/image/{name}", self.get_image),
            web.post("/v1/videos/generations", self.redirected_submit),
        ]

    @web.middleware
    async def count_leaked_keys(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count every Authorization header: a client must send its key to the API only."""
        if "Authorization" in request.headers:
            self._state.record.leaked_keys += 1
            if request.path.startswith(("/f/moved/", "/v1/")):
                self._state.record.redirected_keys += 1
        return await handler(request)

    def store_image(self, content: bytes, extension: str, content_type: str) -> str:
        """Store an uploaded image and return its path."""
        name = f"{secrets.token_hex(12)}.{extension}"
        expires_at = time.time() + self._state.settings.upload_lifetime
        self._images[name] = UploadedImage(content, content_type, expires_at)
        return f"/f/image/{name}"

    def read(self, path: str) -> bytes | None:
        """Return what a download of this path would bring now, without faults; None if nothing."""
        name = path.rsplit("/", 1)[-1]
        link = self._links.by_name.get(name)
        if link is not None and link.is_valid():
            clip = self._runner.tasks[link.task_id].clips[link.index]
            return clip.read(0, clip.size)
        image = self._images.get(name)
        return image.content if image is not None and image.is_valid() else None

    async def get_image(self, request: web.Request) -> web.StreamResponse:
        """Serve an uploaded image."""
        image = self._images.get(request.match_info["name"])
        if image is None:
            raise error_reply(404, "no such image")
        if not image.is_valid():
            raise self._expired()
        return web.Response(body=image.content, content_type=image.content_type)

    async def redirected_submit(self, _: web.Request) -> web.StreamResponse:
        """Count and refuse a submit that followed a redirect: a client must never follow one with a POST."""
        self._state.record.redirected_submits += 1
        raise error_reply(403, "this is not the API")

    async def get_clip(self, request: web.Request) -> web.StreamResponse:
        """Serve a clip, or the part of it that Range names."""
        link = self._links.by_name.get(request.match_info["name"])
        if link is None:
            raise error_reply(404, "no such clip")
        # After a redirect the clip is served: a second redirect in a row would end the download for good.
        is_redirected = request.path.startswith("/f/moved/")
        impossible = (
            *(() if link.is_first else ("expired_link",)),
            *(("redirect_clip",) if is_redirected else ()),
        )
        fault = self._state.fault_injector.next_fault("clip", impossible=impossible)
        self._raise_for_fault(fault, link)
        if not link.is_valid():
            raise self._expired()
        task = self._runner.tasks[link.task_id]
        clip = task.clips[link.index]
        self._state.record.range_requests += "Range" in request.headers
        headers = _headers(clip, task, fault)
        part, status = _requested_slice(request, clip, fault, headers)
        return await self._send(request, part, status, headers, link.task_id)

    def _raise_for_fault(self, fault: str | None, link: ClipLink) -> None:
        if fault == "expired_link":
            link.is_revoked = True
        elif fault == "redirect_clip":
            self._redirects += 1
            origin = self.third_origin if self._redirects % 2 == 0 else ""
            raise ErrorReply(302, {"message": "found"}, {"Location": f"{origin}/f/moved/{link.name}"})
        elif fault == "json_clip":
            raise ErrorReply(200, {"error": {"code": 500, "message": "internal server error", "type": "server_error"}})
        elif fault == "html_clip":
            raise ErrorReply(200, HTML_PAGE)
        elif fault == "http_500_clip":
            raise error_reply(500, "internal server error")
        elif fault == "http_429_clip":
            raise self._state.too_many_requests(1.0)

    def _expired(self) -> ErrorReply:
        return ErrorReply(403 if self._state.fault_injector.coin_flip("expired_link") else 410, EXPIRED)

    async def _send(
        self, request: web.Request, part: ClipSlice, status: int, headers: dict[str, str], task_id: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)
        if part.fault != "cut_download_clean":
            response.content_length = part.stop - part.start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        self._state.record.downloads += 1
        self._state.record.downloads_by_task[task_id] += 1
        with suppress(ConnectionError):  # the client has disconnected
            await self._write_body(response, part)
        if part.fault == "stall_download":
            await self._state.hang(request)
        if part.fault == "cut_download" and request.transport is not None:
            request.transport.close()
        return response

    async def _write_body(self, response: web.StreamResponse, part: ClipSlice) -> None:
        rate = self._state.settings.cdn_rate
        size = CHUNK if rate is None else max(1, min(CHUNK, round(rate / WRITES_PER_SECOND)))
        start = self._state.now()
        for offset in range(part.start, part.sent_until, size):
            chunk = part.clip.read(offset, min(offset + size, part.sent_until))
            await response.write(chunk)
            self._state.record.bytes_sent += len(chunk)
            if rate is not None:
                # Measured from the start, so that late wake-ups do not add up.
                await asyncio.sleep(start + (offset + len(chunk) - part.start) / rate - self._state.now())


def _requested_slice(
    request: web.Request, clip: Clip, fault: str | None, headers: dict[str, str]
) -> tuple[ClipSlice, int]:
    """Return the bytes that a request asks for with the HTTP status, and add Content-Range to the headers.

    A range that cannot be read is ignored, as RFC 9110 section 14.2 allows. One beyond the end raises a 416.
    """
    complete = ClipSlice(clip, 0, clip.size, fault)
    match = RANGE.fullmatch(request.headers.get("Range", "").strip())
    if match is None or match.groups() == ("", "") or fault == "no_range":
        return complete, 200
    if request.headers.get("If-Range", headers["ETag"]) not in (headers["ETag"], headers["Last-Modified"]):
        return complete, 200
    first, last = match.groups()
    start = int(first) if first else max(0, clip.size - int(last))
    stop = min(int(last) + 1, clip.size) if first and last else clip.size
    if start >= clip.size or (first and stop <= start):
        raise ErrorReply(416, "", {"Content-Range": f"bytes */{clip.size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{clip.size}"
    return ClipSlice(clip, start, stop, fault), 206


def _headers(clip: Clip, task: Task, fault: str | None) -> dict[str, str]:
    headers = {
        "ETag": f'"{secrets.token_hex(16)}"' if fault == "wrong_etag" else clip.etag,
        "Last-Modified": formatdate(task.ended, usegmt=True),
        "Content-Type": "video/mp4",
    }
    return headers if fault == "no_range" else headers | {"Accept-Ranges": "bytes"}
