"""The clips of `MemoryServer`: MP4 files that have a valid structure and no playable content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from omni_async import TransportError, TransportTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping


# Several chunks per clip, so that a download can be cut or stalled in the middle. A smaller chunk multiplies the steps
# of the event loop in every test; with a larger one a clip arrives whole and a fault has nothing to interrupt.
_CHUNK_BYTES = 8192
_SECONDS_PER_CHUNK = 0.01  # chosen, not measured: any positive time lets other asyncio tasks run between two chunks
# The idle timeout that the client applies to a real transfer; on virtual time the wait costs nothing.
_STALL_SECONDS = 30


def box(kind: bytes, content: bytes) -> bytes:
    """Return one MP4 box."""
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def mp4(name: str, size: int = 2000) -> bytes:
    """Return an MP4 file that passes the client's structure check and differs for each name.

    Its media data has ``size * len(name)`` bytes.
    """
    return box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", name.encode()) + box(b"mdat", name.encode() * size)


@dataclass
class MemoryStreamingResponse:
    """A response whose body arrives in chunks.

    `cut` is the number of bytes after which the connection is reset, None to send everything. `is_stalled` sends
    one chunk and then nothing until the client's idle timeout has passed.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    cut: int | None = None
    is_stalled: bool = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body. Raises `TransportError` where the connection is reset and `TransportTimeout` for a stall."""
        content = self.content[: self.cut]
        for start in range(0, len(content), _CHUNK_BYTES):
            await anyio.sleep(_SECONDS_PER_CHUNK)
            if self.is_stalled and start:
                await anyio.sleep(_STALL_SECONDS)
                raise TransportTimeout(f"no byte for {_STALL_SECONDS} s")
            yield content[start : start + _CHUNK_BYTES]
        if self.cut is not None:
            raise TransportError("connection reset")
