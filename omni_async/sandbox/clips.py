"""A clip as the server holds it: a file or bytes, with a box of padding behind it that need not exist in memory."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


HEADER = 8  # bytes before the content of an MP4 box


@dataclass(frozen=True, slots=True)
class Clip:
    """`source`, then `tail`, then zeros up to `size`."""

    source: Path | bytes
    source_size: int
    tail: bytes
    size: int
    etag: str

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from start up to, not including, stop."""
        stop = min(stop, self.size)
        parts = [self._source(start, min(stop, self.source_size))] if start < self.source_size else []
        tail_end = self.source_size + len(self.tail)
        if stop > self.source_size and start < tail_end:
            parts.append(self.tail[max(0, start - self.source_size) : stop - self.source_size])
        if stop > tail_end:
            parts.append(bytes(stop - max(start, tail_end)))
        return b"".join(parts)

    def _source(self, start: int, stop: int) -> bytes:
        if isinstance(self.source, bytes):
            return self.source[start:stop]
        with self.source.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


def clip_from_file(path: Path, clip_bytes: int | None) -> Clip:
    """The clip in a file, padded if asked for."""
    content = path.read_bytes()
    tail, size = _box(len(content), b"", clip_bytes) if clip_bytes else (b"", len(content))
    return Clip(path, len(content), tail, size, _etag(content, tail))


def distinct_clip(content: bytes, mark: str, clip_bytes: int | None) -> Clip:
    """The same film for everybody, made distinct by a trailing box that holds `mark`."""
    tail, size = _box(len(content), mark.encode(), clip_bytes)
    return Clip(content, len(content), tail, size, _etag(content[:64], tail))


def _box(before: int, content: bytes, clip_bytes: int | None) -> tuple[bytes, int]:
    least = HEADER + len(content)
    length = max(least, (clip_bytes or 0) - before)
    if not content and before + least > (clip_bytes or 0):
        return b"", before
    return struct.pack(">I4s", length, b"free") + content, before + length


def _etag(content: bytes, tail: bytes) -> str:
    return f'"{hashlib.sha256(content + tail).hexdigest()[:32]}"'
