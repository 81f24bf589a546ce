"""Whether a file is a complete MP4, by its structure: the boxes of ISO/IEC 14496-12. Nothing is decoded.

Used by clip stores before a clip gets its name, and to verify clips that are there already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


_HEADER = 8  # bytes: length and kind of a box
_LONG_HEADER = 16  # bytes: the same with a 64-bit length

# Top-level boxes read before a file is rejected. A clip has a handful, a fragmented MP4 a few per second: half would
# still be far more than ten seconds of video need. At double, a file made of empty boxes costs twice the reads.
_MAX_BOXES = 100_000

# Bytes of brands that are read. A file names at most a dozen of four bytes each.
_MAX_BRANDS = 128


def find_defect(read: Callable[[int, int], bytes], size: int) -> str | None:
    """Return what is wrong with a file of `size` bytes, or None if it is a complete MP4.

    Complete means: an `ftyp` box first, a `moov` box, and top-level boxes that end exactly at the end of the file. A
    file with only the QuickTime brand is not an MP4, although it has these boxes. `read(offset, length)` returns bytes
    of the file; at most 16 bytes are read for each box.
    """
    offset, kinds = 0, set[bytes]()
    for _ in range(_MAX_BOXES):
        if offset == size:
            return None if b"moov" in kinds else "it has no moov box"
        header = read(offset, _LONG_HEADER)
        length, kind = _parse_header(header, size - offset)
        if not kinds and kind != b"ftyp":
            return f"it does not begin like an MP4 but with {header[:_LONG_HEADER]!r}"
        if not kinds and header[_HEADER:].startswith(b"qt  ") and not _is_compatible(read, length or 0):
            return "it is a QuickTime file"
        if length is None or length > size - offset:
            return f"the box at byte {offset} does not end within the {size} bytes of the file"
        kinds.add(kind)
        offset += length
    return f"it has more than {_MAX_BOXES} boxes"


def find_defect_in(clip: bytes | bytearray) -> str | None:
    """Return what is wrong with a clip in memory, or None if it is a complete MP4."""
    return find_defect(lambda offset, length: bytes(clip[offset : offset + length]), len(clip))


def _is_compatible(read: Callable[[int, int], bytes], length: int) -> bool:
    """Return whether the first box, of `length` bytes, names a kind of MP4 among the compatible brands."""
    starts = range(_LONG_HEADER, min(length, _MAX_BRANDS), 4)
    return any(read(start, 4).startswith((b"iso", b"mp4", b"avc1", b"M4V")) for start in starts)


def _parse_header(header: bytes, remaining: int) -> tuple[int | None, bytes]:
    """Return length (None: impossible) and kind of the box that begins with these bytes."""
    length, kind = int.from_bytes(header[:4], "big"), header[4:_HEADER]
    if len(header) < _HEADER:
        return None, kind
    if length == 0:  # it reaches to the end of the file
        return remaining, kind
    if length == 1:
        length = int.from_bytes(header[_HEADER:_LONG_HEADER], "big")
        return (length if len(header) == _LONG_HEADER and length >= _LONG_HEADER else None), kind
    return (length if length >= _HEADER else None), kind
