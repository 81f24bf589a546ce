"""Clips of a server in memory: MP4s by structure, with nothing to see in them, and how they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from omni_async import TransportError, TransportTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping


def box(kind: bytes, content: bytes) -> bytes:
    """Give one MP4 box."""
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def mp4(name: str, size: int = 2000) -> bytes:
    """Give a whole MP4 by structure, different for each name."""
    return box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", name.encode()) + box(b"mdat", name.encode() * size)


@dataclass
class MemoryStreamingResponse:
    """The body of one answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    cut: int | None = None
    stalls: bool = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the body in pieces, or break off."""
        content = self.content[: self.cut]
        for start in range(0, len(content), 8192):
            await anyio.sleep(0.01)
            if self.stalls and start:
                await anyio.sleep(30)
                raise TransportTimeout("no byte for 30 s")
            yield content[start : start + 8192]
        if self.cut is not None:
            raise TransportError("connection reset")
