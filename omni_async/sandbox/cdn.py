"""The second origin: clips with Range, ETag and links that expire, and uploaded pictures."""

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

from .fault_effects import HTML_PAGE
from .replies import ErrorReply, error_reply

if TYPE_CHECKING:
    from .clips import Clip
    from .state import Handler, SandboxState
    from .tasks import Task, TaskRunner


CHUNK = 256 * 1024
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
EXPIRED = "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"


@dataclass(slots=True)
class ClipLink:
    """One address of one video of one task."""

    name: str
    task_id: str
    index: int
    until: float
    first: bool
    revoked: bool = False

    def alive(self) -> bool:
        """Whether it still leads to the clip."""
        return not self.revoked and time.time() < self.until


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """An uploaded picture."""

    content: bytes
    content_type: str
    until: float

    def alive(self) -> bool:
        """Whether its link still leads to it."""
        return time.time() < self.until


@dataclass(slots=True)
class LinkTable:
    """All links ever given."""

    lifetime: float
    by_name: dict[str, ClipLink] = field(default_factory=dict)
    _current: dict[tuple[str, int], ClipLink] = field(default_factory=dict)

    def of(self, task: Task, index: int) -> ClipLink:
        """The link to a video of a task: the last one while it lives, else a fresh one."""
        link = self._current.get((task.task_id, index))
        if link is None or not link.alive():
            name = f"{secrets.token_hex(8)}-video_{task.task_id}.mp4"
            link = ClipLink(name, task.task_id, index, time.time() + self.lifetime, first=link is None)
            self._current[task.task_id, index] = self.by_name[name] = link
        return link


@dataclass(frozen=True, slots=True)
class ClipSlice:
    """A part of a clip to be sent, and what goes wrong while it is."""

    clip: Clip
    start: int
    stop: int
    fault: str | None

    @property
    def end(self) -> int:
        """Where sending ends: in the middle, for the faults that break off."""
        broken = self.fault in ("cut_download", "cut_download_clean", "stall_download")
        return (self.start + self.stop) // 2 if broken else self.stop


class Cdn:
    """Handlers of the second origin; its third port is the third origin."""

    def __init__(self, stage: SandboxState, runner: TaskRunner, links: LinkTable) -> None:
        self._stage, self._runner, self._links = stage, runner, links
        self._pictures: dict[str, UploadedImage] = {}
        self._hops = 0
        self.third = ""  # the third origin, once it is known

    def routes(self) -> list[web.RouteDef]:
        """Where the handlers live."""
        return [
            web.get("/f/video/{name}", self.clip),
            web.get("/f/moved/{name}", self.clip),
            web.get("/f/image/{name}", self.picture),
            web.post("/v1/videos/generations", self.astray),
        ]

    @web.middleware
    async def watch_keys(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count every Authorization header that should never have come here."""
        if "Authorization" in request.headers:
            self._stage.record.leaked_keys += 1
            if request.path.startswith(("/f/moved/", "/v1/")):
                self._stage.record.redirected_keys += 1
        return await handler(request)

    def keep(self, content: bytes, end: str, content_type: str) -> str:
        """Keep an uploaded picture; the path to it."""
        name = f"{secrets.token_hex(12)}.{end}"
        self._pictures[name] = UploadedImage(content, content_type, time.time() + self._stage.settings.upload_lifetime)
        return f"/f/image/{name}"

    def find(self, path: str) -> bytes | None:
        """What would be served under a path now, faults apart."""
        name = path.rsplit("/", 1)[-1]
        link = self._links.by_name.get(name)
        if link is not None and link.alive():
            clip = self._runner.tasks[link.task_id].clips[link.index]
            return clip.read(0, clip.size)
        picture = self._pictures.get(name)
        return picture.content if picture is not None and picture.alive() else None

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """An uploaded picture."""
        found = self._pictures.get(request.match_info["name"])
        if found is None:
            raise error_reply(404, "no such picture")
        if not found.alive():
            raise self._expired()
        return web.Response(body=found.content, content_type=found.content_type)

    async def astray(self, _: web.Request) -> web.StreamResponse:
        """A submit that followed a redirect to where no API is."""
        self._stage.record.redirected_submits += 1
        raise error_reply(403, "this is not the API")

    async def clip(self, request: web.Request) -> web.StreamResponse:
        """A clip, or the part of it that Range asks for."""
        link = self._links.by_name.get(request.match_info["name"])
        if link is None:
            raise error_reply(404, "no such clip")
        moved = request.path.startswith("/f/moved/")
        cannot = (*(() if link.first else ("expired_link",)), *(("redirect_clip",) if moved else ()))
        fault = self._stage.fault_injector.next_fault("clip", cannot=cannot)
        self._instead(fault, link)
        if not link.alive():
            raise self._expired()
        task = self._runner.tasks[link.task_id]
        clip = task.clips[link.index]
        self._stage.record.range_requests += "Range" in request.headers
        headers = _headers(clip, task, fault)
        cut, status = self._cut(request, clip, fault, headers)
        return await self._send(request, cut, status, headers, link.task_id)

    def _instead(self, fault: str | None, link: ClipLink) -> None:
        if fault == "expired_link":
            link.revoked = True
        elif fault == "redirect_clip":
            self._hops += 1
            origin = self.third if self._hops % 2 == 0 else ""
            raise ErrorReply(302, {"message": "found"}, {"Location": f"{origin}/f/moved/{link.name}"})
        elif fault == "json_clip":
            raise ErrorReply(200, {"error": {"code": 500, "message": "internal server error", "type": "server_error"}})
        elif fault == "html_clip":
            raise ErrorReply(200, HTML_PAGE)
        elif fault == "http_500_clip":
            raise error_reply(500, "internal server error")
        elif fault == "http_429_clip":
            raise self._stage.too_many_requests(1.0)

    def _expired(self) -> ErrorReply:
        return ErrorReply(403 if self._stage.fault_injector.coin_flip("expired_link") else 410, EXPIRED)

    def _cut(
        self, request: web.Request, clip: Clip, fault: str | None, headers: dict[str, str]
    ) -> tuple[ClipSlice, int]:
        whole = ClipSlice(clip, 0, clip.size, fault)
        match = RANGE.fullmatch(request.headers.get("Range", "").strip())
        if match is None or match.groups() == ("", "") or fault == "no_range":
            return whole, 200
        if request.headers.get("If-Range", headers["ETag"]) not in (headers["ETag"], headers["Last-Modified"]):
            return whole, 200
        first, last = match.groups()
        start = int(first) if first else max(0, clip.size - int(last))
        stop = min(int(last) + 1, clip.size) if first and last else clip.size
        if start >= clip.size or (first and stop <= start):
            raise ErrorReply(416, "", {"Content-Range": f"bytes */{clip.size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{clip.size}"
        return ClipSlice(clip, start, stop, fault), 206

    async def _send(
        self, request: web.Request, cut: ClipSlice, status: int, headers: dict[str, str], task_id: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)
        if cut.fault != "cut_download_clean":
            response.content_length = cut.stop - cut.start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        self._stage.record.downloads += 1
        self._stage.record.downloads_by_task[task_id] += 1
        with suppress(ConnectionError):  # the client has left
            await self._pour(response, cut)
        if cut.fault == "stall_download":
            await self._stage.hang(request)
        if cut.fault == "cut_download" and request.transport is not None:
            request.transport.close()
        return response

    async def _pour(self, response: web.StreamResponse, cut: ClipSlice) -> None:
        rate = self._stage.settings.cdn_rate
        size = CHUNK if rate is None else max(1, min(CHUNK, round(rate / 10)))
        start = self._stage.now()
        for at in range(cut.start, cut.end, size):
            chunk = cut.clip.read(at, min(at + size, cut.end))
            await response.write(chunk)
            self._stage.record.bytes_sent += len(chunk)
            if rate is not None:
                await asyncio.sleep(start + (at + len(chunk) - cut.start) / rate - self._stage.now())


def _headers(clip: Clip, task: Task, fault: str | None) -> dict[str, str]:
    headers = {
        "ETag": f'"{secrets.token_hex(16)}"' if fault == "wrong_etag" else clip.etag,
        "Last-Modified": formatdate(task.ended, usegmt=True),
        "Content-Type": "video/mp4",
    }
    return headers if fault == "no_range" else headers | {"Accept-Ranges": "bytes"}
