"""Reference images and videos of a request: downloaded, decoded, or drawn where the URL only exists in documentation.

Rendering uses them as the background of the clip.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .submit_body import SubmitBody


# Seconds for a download, and for the connection within it. A task must not run much longer than its duration because of
# a server that does not answer. Half might fail a large file on a slow network, twice as much would delay the error.
# Chosen, not measured.
TIMEOUT = aiohttp.ClientTimeout(total=6, connect=3)
# Bytes. Images: the upload limit of the service. Videos: no limit is documented; this one only protects the disk.
MAX_BYTES = {"image": 20 * 1024 * 1024, "video": 100 * 1024 * 1024}
# Names that RFC 2606 reserves. The examples of the API page use them, and no download of them can succeed.
RESERVED_DOMAINS = ("example.com", "example.org", "example.net")
RESERVED_SUFFIXES = (".example", ".test", ".invalid", *(f".{name}" for name in RESERVED_DOMAINS))

Reference = tuple[str, str]  # ("image" or "video", path) or ("placeholder", name), as rendering takes it


class ReferenceUnavailable(Exception):
    """A reference could not be downloaded; the task fails with this message."""


@dataclass(slots=True)
class ReferenceLoader:
    """Brings the references of a request into a folder.

    `folder` returns it; it is called when the first file is written, which creates the folder. `read_own` returns the
    content behind a URL of the sandbox itself, None for any other URL.
    """

    session: aiohttp.ClientSession
    folder: Callable[[], Path]
    read_own: Callable[[str], bytes | None]
    _numbers: count[int] = field(default_factory=count)

    async def fetch(self, body: SubmitBody) -> list[Reference]:
        """Return all references of a request, images first. Raise `ReferenceUnavailable` if one is missing."""
        images = [await self._load("image", url) for url in body.images]
        return images + [await self._load("video", url) for url in body.videos]

    async def _load(self, kind: str, url: str) -> Reference:
        if url.lower().startswith("data:"):
            return kind, str(self._decode(url))
        if _is_reserved(url):
            return "placeholder", URL(url).path.strip("/") or "picture"
        return kind, str(await self._download(kind, url))

    def _decode(self, url: str) -> Path:
        head, _, data = url.partition(",")
        try:
            content = base64.b64decode(data, validate=True) if head.endswith(";base64") else data.encode()
        except (binascii.Error, ValueError):
            content = b""  # the clip is then rendered without this background
        path = self._new_path()
        path.write_bytes(content)
        return path

    async def _download(self, kind: str, url: str) -> Path:
        path, size = self._new_path(), 0
        own = self.read_own(url)
        if own is not None:
            path.write_bytes(own)
            return path
        try:
            async with self.session.get(url, timeout=TIMEOUT) as response:
                response.raise_for_status()
                with path.open("wb") as file:
                    async for chunk in response.content.iter_chunked(65536):
                        size += len(chunk)
                        if size > MAX_BYTES[kind]:
                            raise ReferenceUnavailable(f"the {kind} {url[:200]} is larger than {MAX_BYTES[kind]} bytes")
                        file.write(chunk)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            message = f"failed to download {kind} {url[:200]}: {type(error).__name__} {error}"
            raise ReferenceUnavailable(message) from error
        return path

    def _new_path(self) -> Path:
        return self.folder() / f"reference-{next(self._numbers)}"


def _is_reserved(url: str) -> bool:
    try:
        host = (URL(url).host or "").lower()
    except ValueError:
        return False
    return host in RESERVED_DOMAINS or host.endswith(RESERVED_SUFFIXES)
