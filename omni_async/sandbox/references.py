"""Reference pictures and videos: fetched, decoded, or painted when they only exist in documentation."""

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


TIMEOUT = aiohttp.ClientTimeout(total=6, connect=3)
LARGEST = {"picture": 20 * 1024 * 1024, "video": 100 * 1024 * 1024}
RESERVED = ("example.com", "example.org", "example.net")
RESERVED_ENDS = (".example", ".test", ".invalid", *(f".{name}" for name in RESERVED))

Reference = tuple[str, str]  # ("picture" or "video", path) or ("stand-in", name), as the studio takes it


class ReferenceUnavailable(Exception):
    """A reference could not be had; the task fails and says so."""


@dataclass(slots=True)
class ReferenceLoader:
    """Brings the references of orders into a folder."""

    session: aiohttp.ClientSession
    folder: Callable[[], Path]
    own: Callable[[str], bytes | None]
    _numbers: count[int] = field(default_factory=count)

    async def fetch(self, order: SubmitBody) -> list[Reference]:
        """All references of an order, in its order."""
        found = [await self._one("picture", url) for url in order.images]
        return found + [await self._one("video", url) for url in order.videos]

    async def _one(self, kind: str, url: str) -> Reference:
        if url.lower().startswith("data:"):
            return kind, str(self._decode(url))
        if _is_reserved(url):
            return "stand-in", URL(url).path.strip("/") or "picture"
        return kind, str(await self._download(kind, url))

    def _decode(self, url: str) -> Path:
        head, _, data = url.partition(",")
        try:
            content = base64.b64decode(data, validate=True) if head.endswith(";base64") else data.encode()
        except (binascii.Error, ValueError):
            content = b""  # no ground can be made of it, a film can
        path = self._path()
        path.write_bytes(content)
        return path

    async def _download(self, kind: str, url: str) -> Path:
        path, size = self._path(), 0
        own = self.own(url)
        if own is not None:
            path.write_bytes(own)
            return path
        try:
            async with self.session.get(url, timeout=TIMEOUT) as response:
                response.raise_for_status()
                with path.open("wb") as file:
                    async for chunk in response.content.iter_chunked(65536):
                        size += len(chunk)
                        if size > LARGEST[kind]:
                            raise ReferenceUnavailable(f"the {kind} {url[:200]} is larger than {LARGEST[kind]} bytes")
                        file.write(chunk)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ReferenceUnavailable(
                f"failed to download {kind} {url[:200]}: {type(error).__name__} {error}"
            ) from error
        return path

    def _path(self) -> Path:
        return self.folder() / f"reference-{next(self._numbers)}"


def _is_reserved(url: str) -> bool:
    try:
        host = (URL(url).host or "").lower()
    except ValueError:
        return False
    return host in RESERVED or host.endswith(RESERVED_ENDS)
