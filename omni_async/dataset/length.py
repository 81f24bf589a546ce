"""The length of a clip, read from its header without any library for media."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BOXES = 1000  # of one level; no clip has nearly as many


def clip_seconds(path: Path) -> float | None:
    """Return the length of an MP4 in seconds, as its movie header gives it; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            movie = _find(file, b"moov", 0, size)
            header = movie and _find(file, b"mvhd", *movie)
            return _length(file, header[0]) if header else None
    except (OSError, struct.error):
        return None


def _find(file: BinaryIO, kind: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Return where the content of the first box of a kind begins and ends, between two offsets."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return None
        file.seek(start)
        size, found = struct.unpack(">I4s", file.read(8))
        content = start + 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            content += 8
        stop = end if size == 0 else start + size
        if stop < content:
            return None
        if found == kind:
            return content, min(stop, end)
        start = stop
    return None


def _length(file: BinaryIO, start: int) -> float | None:
    """Return the duration in a movie header: version 1 has times of 64 bits."""
    file.seek(start)
    version = file.read(4)[:1]
    file.read(16 if version == b"\x01" else 8)  # when it was made, and changed
    timescale, duration = struct.unpack(
        ">IQ" if version == b"\x01" else ">II", file.read(12 if version == b"\x01" else 8)
    )
    return round(duration / timescale, 3) if timescale else None
