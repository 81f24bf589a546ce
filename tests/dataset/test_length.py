"""The length of a clip from its header: of real clips, of every version of the header, and of what is no clip."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from omni_async.dataset.length import clip_seconds
from omni_async.testing.fake_clips import box, mp4

if TYPE_CHECKING:
    from pathlib import Path

FTYP = box(b"ftyp", b"isom\0\0\2\0isom")
V0 = box(b"mvhd", struct.pack(">4sIIII", b"\0\0\0\0", 1, 2, 1000, 4500) + b"\0" * 80)
V1 = box(b"mvhd", struct.pack(">4sQQIQ", b"\1\0\0\0", 1, 2, 90_000, 90_000 * 7) + b"\0" * 80)


def large(kind: bytes, content: bytes) -> bytes:
    """Return a box whose size has 64 bits."""
    return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content


@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        (FTYP + box(b"moov", V0) + box(b"mdat", b"x"), 4.5),
        (FTYP + box(b"mdat", b"x" * 50) + box(b"moov", box(b"free", b"") + V1), 7.0),
        (FTYP + large(b"mdat", b"x" * 50) + large(b"moov", V0), 4.5),
        (FTYP + struct.pack(">I4s", 0, b"moov") + V0, 4.5),
        (FTYP + box(b"moov", V0.replace(struct.pack(">I", 1000), struct.pack(">I", 0))), None),
        (FTYP + box(b"moov", b""), None),
        (FTYP + box(b"moov", V0)[:30], None),
        (struct.pack(">I4s", 4, b"ftyp"), None),
        (mp4("a clip without a header"), None),
        (b"<html></html>", None),
        (b"", None),
    ],
)
def test_the_length_is_read(tmp_path: Path, content: bytes, seconds: float | None) -> None:
    """Both versions of the header, boxes of every form, in any order; what cannot be read has no length."""
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert clip_seconds(path) == seconds
    assert clip_seconds(tmp_path / "none.mp4") is None
