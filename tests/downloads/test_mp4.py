"""Which files are complete MP4s: files made by hand, and everything that can be missing from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.downloads.mp4 import find_defect

if TYPE_CHECKING:
    from collections.abc import Callable


def _reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def _defect(data: bytes) -> str | None:
    return find_defect(_reader(data), len(data))


def _box(kind: bytes, content: bytes = b"", *, is_long: bool = False) -> bytes:
    if is_long:
        return (1).to_bytes(4, "big") + kind + (16 + len(content)).to_bytes(8, "big") + content
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def _endless(kind: bytes, content: bytes) -> bytes:
    """Return a box that reaches to the end of the file."""
    return bytes(4) + kind + content


FTYP = _box(b"ftyp", b"isom\x00\x00\x02\x00isomiso2avc1mp41")
MOOV = _box(b"moov", _box(b"mvhd", bytes(100)) + _box(b"trak", bytes(60)))
MDAT = _box(b"mdat", bytes(range(256)))
MOOF = _box(b"moof", _box(b"mfhd", bytes(8)))
FREE = _box(b"free", b"x")

_COMPLETE = [
    pytest.param(FTYP + MDAT + MOOV, id="moov last"),
    pytest.param(FTYP + MOOV + MDAT, id="moov first"),
    pytest.param(FTYP + FREE + MDAT + MOOV, id="with a free box"),
    pytest.param(FTYP + _box(b"mdat", bytes(300), is_long=True) + MOOV, id="64-bit mdat"),
    pytest.param(FTYP + MDAT + _box(b"moov", bytes(40), is_long=True), id="64-bit moov"),
    pytest.param(FTYP + MOOV + _endless(b"mdat", bytes(300)), id="mdat to the end of the file"),
    pytest.param(FTYP + MOOV + _endless(b"mdat", b""), id="mdat to the end, empty"),
    pytest.param(FTYP + MOOV + MOOF + MDAT + MOOF + MDAT, id="fragmented"),
    pytest.param(FTYP + MOOV + MDAT + _box(b"uuid", bytes(20)) + _box(b"\x00\xffzz"), id="boxes of unknown kinds"),
]

_CUTTABLE = [
    pytest.param(FTYP + MDAT + MOOV, id="moov last"),
    pytest.param(FTYP + FREE + _box(b"mdat", bytes(300), is_long=True) + MOOV, id="64-bit mdat"),
]


@pytest.mark.parametrize("data", _COMPLETE)
def test_a_complete_mp4_has_no_defect(data: bytes) -> None:
    """Every layout that encoders write is accepted, with short, long and open-ended boxes."""
    assert _defect(data) is None


@pytest.mark.parametrize("data", _CUTTABLE)
def test_every_truncation_is_found(data: bytes) -> None:
    """Whatever is cut off at the end, one byte or all of them, the rest is no complete MP4."""
    assert [length for length in range(len(data)) if _defect(data[:length]) is None] == []


def test_every_truncation_is_found_but_one_between_boxes() -> None:
    """With moov first, only a cut exactly where the media begins cannot be recognised by the structure."""
    data = FTYP + MOOV + MDAT
    assert [length for length in range(len(data)) if _defect(data[:length]) is None] == [len(FTYP + MOOV)]


def test_an_open_ended_box_hides_only_cuts_within_itself() -> None:
    """A cut within a box to the end of the file is not found; every cut before it is."""
    data = FTYP + MDAT + _endless(b"moov", bytes(40))
    start = len(FTYP + MDAT)
    assert [length for length in range(start + 8) if _defect(data[:length]) is None] == []


@pytest.mark.parametrize("count", [1, 7, 8, 15, 16, 40])
@pytest.mark.parametrize("data", _CUTTABLE)
def test_extra_bytes_are_found(data: bytes, count: int) -> None:
    """A body that continues after the last box is no clip."""
    assert _defect(data + b"\x01" * count) is not None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"", "moov", id="nothing"),
        pytest.param(FTYP, "moov", id="no moov"),
        pytest.param(FTYP + MDAT, "moov", id="media without moov"),
        pytest.param(MOOV + FTYP + MDAT, "does not begin like an MP4", id="ftyp not first"),
        pytest.param(b'{"error":{"message":"expired"}}', "does not begin like an MP4", id="JSON"),
        pytest.param(b"<!DOCTYPE html><html></html>", "does not begin like an MP4", id="HTML"),
        pytest.param(b"RIFF\x00\x00\x00\x00WEBPVP8 ", "does not begin like an MP4", id="an image"),
        pytest.param(bytes(5000), "does not begin like an MP4", id="zeros: blocks that were never written"),
        pytest.param(FTYP + MOOV + b"\x00\x00\x00\x07mdat", "does not end within", id="a box shorter than its header"),
        pytest.param(FTYP + b"\xff\xff\xff\xffmoov", "does not end within", id="a box longer than the file"),
        pytest.param(FTYP + b"\x00\x00\x00\x01moov" + (8).to_bytes(8, "big"), "does not end", id="64-bit, 8"),
        pytest.param(FTYP + b"\x00\x00\x00\x01moov" + (15).to_bytes(8, "big"), "does not end", id="64-bit, too short"),
        pytest.param(FTYP + b"\x00\x00\x00\x01moov" + b"\xff" * 8, "does not end", id="64-bit, too long"),
        pytest.param(FTYP + b"\x00\x00\x00\x01moov" + b"\x00" * 4, "does not end", id="64-bit, cut off"),
        pytest.param(FTYP + FREE * 100_001 + MOOV, "boxes", id="too many boxes"),
    ],
)
def test_the_defect_is_described(data: bytes, text: str) -> None:
    """The description says what is wrong."""
    defect = _defect(data)
    assert defect is not None
    assert text in defect


@given(st.binary(max_size=200), st.sampled_from([b"", FTYP, FTYP + MOOV, FTYP + MDAT]))
def test_no_bytes_make_the_check_fail(tail: bytes, head: bytes) -> None:
    """Any file gets a description or None, after a limited number of reads."""
    reads, data = 0, head + tail

    def read(offset: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        assert 0 <= offset <= len(data)
        assert length <= 16
        return data[offset : offset + length]

    defect = find_defect(read, len(data))
    assert defect is None or defect
    assert reads <= len(data) // 8 + 1


@given(st.integers(0, len(FTYP + MDAT) + 7))
def test_a_file_that_shrinks_during_the_check_is_no_clip(kept: int) -> None:
    """Fewer bytes than the given size are a defect, not a crash."""
    data = FTYP + MDAT + MOOV
    assert find_defect(_reader(data[:kept]), len(data)) is not None
