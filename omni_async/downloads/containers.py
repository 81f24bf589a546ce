"""Whether a file that is not an MP4, or more than one, is a complete video, by its structure. Nothing is decoded.

Used by clip stores: bytes that were paid for are kept under a name that says what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    Read: TypeAlias = Callable[[int, int], bytes]


SUFFIXES: tuple[str, ...] = ("m4v", "webm", "mkv", "mov", "m4s", "avi", "ts", "m2ts", "gif", "flv", "ogv", "asf", "mpg")
"""What `identify` returns, each a suffix for a file name."""

# Parts of a file (elements, boxes, chunks, pages) read before it is rejected: an hour of video has some ten thousand.
# At double, a file made of empty parts costs twice the reads. Chosen, not measured.
_MAX_PARTS = 100_000
# Packets of a transport stream that are looked at: a file has millions. Half would do: in other files, each looks right
# by chance in one of 256 cases.
_SAMPLES = 64

_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_EBML, _SEGMENT = bytes.fromhex("1a45dfa3"), bytes.fromhex("18538067")


def identify(read: Read, size: int) -> str:
    """Return the suffix for the format of a complete video of `size` bytes; "" if the format is not known.

    `read(offset, length)` returns bytes of the file.
    """
    head = read(0, 256)
    for suffix, is_whole in _KINDS:
        if is_whole(read, size, head):
            return suffix
    return ""


def _is_webm(read: Read, size: int, head: bytes) -> bool:
    return b"webm" in head[:64] and _is_ebml(read, size, head)


def _is_ebml(read: Read, size: int, head: bytes) -> bool:
    """Return whether the elements of a Matroska file end with it (RFC 8794). A live one names no size at its end."""
    offset, ids = 0, set[bytes]()
    for _ in range(_MAX_PARTS if head.startswith(_EBML) else 0):
        if offset == size:
            break
        element = read(offset, 12)
        name, width = _vint(element), 0
        if not name or not (length := _vint(element[len(name) :])):
            return False
        width = len(name) + len(length)
        bits = 7 * len(length)
        value = int.from_bytes(length, "big") & ((1 << bits) - 1)
        ids.add(name)
        offset = size if value == (1 << bits) - 1 else offset + width + value
        if offset > size:
            return False
    return offset == size and _SEGMENT in ids


def _vint(data: bytes) -> bytes:
    """Return the number of variable length at the start of some bytes, with its marker; b"" if there is none."""
    length = 9 - data[0].bit_length() if data and data[0] else 9
    return data[:length] if length <= 8 and len(data) >= length else b""


def _box_kinds(read: Read, size: int) -> list[bytes]:
    """Return the kinds of the top-level boxes of a file; none if they do not end with it."""
    offset, kinds = 0, list[bytes]()
    while offset < size and len(kinds) < _MAX_PARTS:
        header = read(offset, 16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        length = int.from_bytes(header[8:16], "big") if length == 1 else length or size - offset
        if length < 8 or not kind.isalnum():
            return []
        kinds.append(kind)
        offset += length
    return kinds if offset == size else []


def _is_quicktime(read: Read, size: int, head: bytes) -> bool:
    if head[4:8] not in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}:
        return False
    return (head[4:8] != b"ftyp" or head[8:12] == b"qt  ") and b"moov" in _box_kinds(read, size)


def _is_fragment(read: Read, size: int, head: bytes) -> bool:
    """Return whether a file holds fragments of an MP4 without the part that describes its tracks."""
    if head[4:8] not in {b"ftyp", b"styp", b"sidx", b"moof"}:
        return False
    return {b"moof", b"mdat"} <= set(_box_kinds(read, size))


def _is_mp4_and_more(read: Read, size: int, head: bytes) -> bool:
    """Return whether other bytes follow a whole MP4: padding, or a label. A box that is cut off at the end is none."""
    offset, kinds = 0, set[bytes]()
    while offset < size and len(kinds) < _MAX_PARTS and head[4:8] == b"ftyp":
        header = read(offset, 16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        length = int.from_bytes(header[8:16], "big") if length == 1 else length
        if len(header) < 8 and any(header):
            return False
        if length < 8 or not kind.isalnum():
            return {b"moov", b"mdat"} <= kinds
        kinds.add(kind)
        offset += length
    return False


def _is_avi(read: Read, size: int, head: bytes) -> bool:
    offset, count, padding = 0, 0, 0
    while offset < size and count < _MAX_PARTS and head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        chunk = read(offset, 8)
        if len(chunk) < 8:
            return False
        length = int.from_bytes(chunk[4:], "little")
        padding = length % 2
        offset, count = offset + 8 + length + padding, count + 1
    return count > 0 and offset in {size, size + padding}  # the padding of an odd chunk may be missing at the end


def _has_packets(read: Read, size: int, packet: int, start: int) -> bool:
    """Return whether a file consists of packets of one size, each with the mark of a transport stream."""
    count, rest = divmod(size, packet)
    if rest or count < 3:
        return False
    numbers = {0, 1, 2, count - 1, *range(0, count, max(1, count // _SAMPLES))}
    return all(read(number * packet + start, 1) == b"G" for number in numbers)


def _is_gif(read: Read, size: int, head: bytes) -> bool:
    return head[:6] in {b"GIF87a", b"GIF89a"} and read(size - 1, 1) == b";"


def _is_flv(read: Read, size: int, head: bytes) -> bool:
    if not head.startswith(b"FLV\x01") or size < 32:
        return False
    last = int.from_bytes(read(size - 4, 4), "big")  # the size of the last tag follows it
    start = size - 4 - last
    return start >= 13 and read(start, 1) in {b"\x08", b"\x09", b"\x12"}


def _is_ogg_video(read: Read, size: int, head: bytes) -> bool:
    offset, count = 0, 0
    while offset < size and count < _MAX_PARTS and b"theora" in head[:64]:
        page = read(offset, 27)
        if len(page) < 27 or not page.startswith(b"OggS"):
            return False
        offset, count = offset + 27 + page[26] + sum(read(offset + 27, page[26])), count + 1
    return count > 0 and offset == size


def _is_asf(read: Read, size: int, head: bytes) -> bool:
    offset, count = 0, 0
    while offset < size and count < _MAX_PARTS and head.startswith(_ASF_HEADER):
        length = int.from_bytes(read(offset + 16, 8), "little")
        if length < 24:
            return False
        offset, count = offset + length, count + 1
    return count > 0 and offset == size


def _is_program_stream(read: Read, size: int, head: bytes) -> bool:
    return head.startswith(b"\x00\x00\x01\xba") and read(size - 4, 4) == b"\x00\x00\x01\xb9"


_KINDS: tuple[tuple[str, Callable[[Read, int, bytes], bool]], ...] = (
    ("m4v", _is_mp4_and_more),  # what ends in .mp4 is a complete clip
    ("webm", _is_webm),
    ("mkv", _is_ebml),
    ("mov", _is_quicktime),
    ("m4s", _is_fragment),
    ("avi", _is_avi),
    ("ts", lambda read, size, _: _has_packets(read, size, 188, 0)),
    ("m2ts", lambda read, size, _: _has_packets(read, size, 192, 4)),
    ("gif", _is_gif),
    ("flv", _is_flv),
    ("ogv", _is_ogg_video),
    ("asf", _is_asf),
    ("mpg", _is_program_stream),
)
