"""The files that the live page may load: clips that the ledger names, and their posters. Range requests are answered.

A file is opened once, without following a link, and then sent from what was opened. So nothing that happens in the
folder meanwhile, and no other file in it, reaches a browser.
"""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import anyio
import anyio.to_thread
from aiohttp import web

if TYPE_CHECKING:
    from pathlib import Path

# Bytes that are read and sent at a time. Trades memory of each connection for wake-ups. Chosen, not measured.
_CHUNK_BYTES = 256 * 1024
# Seconds in which a browser must take the next piece of a response. At half, bad lines lose clips; at double, one that
# has stopped reading keeps its connection, and an open clip, for longer. A browser that paused asks for the rest anew.
STALL_TIMEOUT = 20.0
# Threads that read files. They come from the page's own share, so that a crowd leaves the run its threads. At half,
# clips on a slow disk wait for each other; at double, more threads and nothing gained.
_MAX_THREADS = 4

_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that is open for reading. `modified` is in nanoseconds."""

    file: BinaryIO
    size: int
    modified: int

    @property
    def etag(self) -> str:
        """What changes when the file does."""
        return f"{self.modified:x}-{self.size:x}"

    def read(self, position: int, length: int) -> bytes:
        """Return bytes of the file. Blocks."""
        self.file.seek(position)
        return self.file.read(length)


def open_file(path: Path) -> OpenFile | None:
    """Open a regular file; None if there is none of that name, or a link. Blocks. Raise `OSError`."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # systems without O_NOFOLLOW would follow a link
            return None
        descriptor = os.open(path, _OPEN_FLAGS)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):  # it was replaced a moment ago
        os.close(descriptor)
        return None
    return OpenFile(os.fdopen(descriptor, "rb", buffering=0), facts.st_size, facts.st_mtime_ns)


class FileSender:
    """Sends files to browsers."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(_MAX_THREADS)

    async def send(self, request: web.BaseRequest, path: Path, headers: dict[str, str]) -> web.StreamResponse | None:
        """Send a file, or the part that was asked for. Return None if there is no such file. Raise `OSError`."""
        opened = await anyio.to_thread.run_sync(open_file, path, limiter=self._limiter)
        if opened is None:
            return None
        with opened.file:
            response = web.StreamResponse(headers=headers | {"Cache-Control": "no-cache", "Accept-Ranges": "bytes"})
            response.etag = opened.etag
            response.last_modified = opened.modified / 1e9
            part = _choose_part(request, opened, response)
            await response.prepare(request)
            if request.method != "HEAD":
                await self._send_part(response, opened, part)
            await response.write_eof()
        return response

    async def _send_part(self, response: web.StreamResponse, opened: OpenFile, part: range) -> None:
        while part:
            length = min(_CHUNK_BYTES, len(part))
            chunk = await anyio.to_thread.run_sync(opened.read, part[0], length, limiter=self._limiter)
            if not chunk:  # it has become shorter since
                raise ConnectionError("the file ends early")
            await write_in_time(response, chunk)
            part = part[len(chunk) :]


async def write_in_time(response: web.StreamResponse, content: bytes) -> None:
    """Write a piece of a response. Raise `ConnectionError` if the browser does not take what came before it in time."""
    try:
        async with asyncio.timeout(STALL_TIMEOUT):
            await response.write(content)
    except TimeoutError:
        raise ConnectionError("the browser has stopped reading") from None


def _choose_part(request: web.BaseRequest, opened: OpenFile, response: web.StreamResponse) -> range:
    """Return which bytes to send. Set the status, and the headers that say so."""
    if _has_this_version(request, opened):
        response.set_status(304)
        return range(0)
    part, is_partial = range(opened.size), _may_be_partial(request, opened)
    if is_partial:
        try:
            part = part[request.http_range]
        except ValueError:
            part = range(0)
        if not part:
            response.set_status(416)
            response.headers["Content-Range"] = f"bytes */{opened.size}"
            response.content_length = 0
            return part
        response.set_status(206)
        response.headers["Content-Range"] = f"bytes {part[0]}-{part[-1]}/{opened.size}"
    response.content_length = len(part)
    return part


def _has_this_version(request: web.BaseRequest, opened: OpenFile) -> bool:
    if request.if_none_match is not None:
        return any(tag.value in {opened.etag, "*"} for tag in request.if_none_match)
    since = request.if_modified_since
    return since is not None and opened.modified // 10**9 <= since.timestamp()


def _may_be_partial(request: web.BaseRequest, opened: OpenFile) -> bool:
    """Return whether a part is asked for, and of this version of the file."""
    condition = request.headers.get("If-Range", "")
    if "Range" not in request.headers:
        return False
    if not condition:
        return True
    since = request.if_range  # None for an ETag
    return condition == f'"{opened.etag}"' if since is None else opened.modified // 10**9 <= since.timestamp()
