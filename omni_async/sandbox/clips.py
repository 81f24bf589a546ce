"""A clip as the sandbox serves it: a file or bytes, optionally padded with a box that need not exist in memory."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


BOX_HEADER = 8  # bytes of size and type before the content of an MP4 box


@dataclass(frozen=True, slots=True)
class Clip:
    """The bytes of `source`, then `tail`, then zeros up to `size`. Sizes are in bytes."""

    source: Path | bytes
    source_size: int
    tail: bytes
    size: int
    etag: str

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` up to, but not including, `stop`."""
        stop = min(stop, self.size)
        parts = [self._read_source(start, min(stop, self.source_size))] if start < self.source_size else []
        tail_end = self.source_size + len(self.tail)
        if stop > self.source_size and start < tail_end:
            parts.append(self.tail[max(0, start - self.source_size) : stop - self.source_size])
        if stop > tail_end:
            parts.append(bytes(stop - max(start, tail_end)))
        return b"".join(parts)

    def _read_source(self, start: int, stop: int) -> bytes:
        if isinstance(self.source, bytes):
            return self.source[start:stop]
        with self.source.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


def clip_from_file(path: Path, clip_bytes: int | None) -> Clip:
    """Return the clip in a file, padded to `clip_bytes` bytes unless that is None or too small."""
    content = path.read_bytes()
    tail, size = _padding(len(content), b"", clip_bytes) if clip_bytes else (b"", len(content))
    return Clip(path, len(content), tail, size, _etag(content, tail))


def distinct_clip(content: bytes, mark: str, clip_bytes: int | None) -> Clip:
    """Return the same content made distinct by a trailing box that holds `mark`, padded if asked for.

    Load tests get a file of its own for every task this way without rendering one.
    """
    tail, size = _padding(len(content), mark.encode(), clip_bytes)
    return Clip(content, len(content), tail, size, _etag(content[:64], tail))


def _padding(before: int, content: bytes, clip_bytes: int | None) -> tuple[bytes, int]:
    """Return the start of a `free` box after `before` bytes, and the size of the file with the complete box."""
    min_length = BOX_HEADER + len(content)
    length = max(min_length, (clip_bytes or 0) - before)
    if not content and before + min_length > (clip_bytes or 0):
        return b"", before
    return struct.pack(">I4s", length, b"free") + content, before + length


def _etag(content: bytes, tail: bytes) -> str:
    return f'"{hashlib.sha256(content + tail).hexdigest()[:32]}"'
