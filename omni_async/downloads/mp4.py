"""Whether a file is a whole MP4, by its structure: the boxes of ISO/IEC 14496-12, read without decoding anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


_HEADER = 8
_LONG_HEADER = 16
_MOST_BOXES = 100_000  # a real clip has a handful; fragmented ones a few per second


def find_defect(read: Callable[[int, int], bytes], size: int) -> str | None:
    """Say what is wrong with a file of `size` bytes, or None if it is a whole MP4.

    Whole means: an `ftyp` box first, a `moov` box, and top-level boxes that end exactly at the end of the file.
    `read(offset, length)` gives bytes of the file.
    """
    offset, kinds = 0, set[bytes]()
    for _ in range(_MOST_BOXES):
        if offset == size:
            return None if b"moov" in kinds else "it has no moov box"
        header = read(offset, _LONG_HEADER)
        length, kind = _box(header, size - offset)
        if not kinds and kind != b"ftyp":
            return f"it does not begin like an MP4 but with {header[:_LONG_HEADER]!r}"
        if length is None or length > size - offset:
            return f"the box at byte {offset} does not end within the {size} bytes of the file"
        kinds.add(kind)
        offset += length
    return f"it has more than {_MOST_BOXES} boxes"


def _box(header: bytes, left: int) -> tuple[int | None, bytes]:
    """Give length (None: impossible) and kind of the box that begins with these bytes."""
    length, kind = int.from_bytes(header[:4], "big"), header[4:_HEADER]
    if len(header) < _HEADER:
        return None, kind
    if length == 0:  # up to the end of the file
        return left, kind
    if length == 1:
        length = int.from_bytes(header[_HEADER:_LONG_HEADER], "big")
        return (length if len(header) == _LONG_HEADER and length >= _LONG_HEADER else None), kind
    return (length if length >= _HEADER else None), kind
