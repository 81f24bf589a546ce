"""Which files are whole videos of another kind than MP4: each kind, cut anywhere, and what only begins like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.downloads.containers import SUFFIXES, identify
from omni_async.downloads.mp4 import find_defect_in
from omni_async.testing.fake_clips import box, mp4
from tests.support.other_videos import OTHER_VIDEOS, ebml


def kind_of(data: bytes) -> str:
    """Return the suffix for some bytes."""
    return identify(lambda offset, length: data[offset : offset + length], len(data))


@pytest.mark.parametrize("suffix", OTHER_VIDEOS)
def test_a_whole_video_is_identified(suffix: str) -> None:
    """Each known kind is recognised by its structure, and is no MP4."""
    assert kind_of(OTHER_VIDEOS[suffix]) == suffix
    assert find_defect_in(OTHER_VIDEOS[suffix]) is not None
    assert suffix in SUFFIXES


@pytest.mark.parametrize("suffix", OTHER_VIDEOS)
@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_cut_video_is_none(suffix: str, cut: int) -> None:
    """Bytes that are missing at the end show, whatever the kind."""
    assert kind_of(OTHER_VIDEOS[suffix][:-cut]) == ""


def test_a_live_matroska_has_no_size_and_is_whole() -> None:
    """A segment of unknown size reaches to the end of the file."""
    assert kind_of(ebml(b"webm", bytes(range(200)), is_live=True)) == "webm"


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"\0" * 5000, b"<html>sorry</html>", b'{"error": 1}', b"G" * 100, b"GIF89a", b"RIFF" + bytes(8),
     b"RIFF\x04\0\0\0WAVE", bytes.fromhex("1a45dfa3") + b"webm", b"OggS" + bytes(30), mp4("a clip"), mp4("a clip")[:-1],
     box(b"ftyp", b"isom") + box(b"mdat", b"x" * 50), b"\x89PNG\r\n\x1a\n" + bytes(500), b"ID3" + bytes(500)],
)  # fmt: skip
def test_what_is_no_whole_video_of_another_kind_has_no_suffix(data: bytes) -> None:
    """Pages, pictures, sound, empty files and MP4s are not kept as something else."""
    assert kind_of(data) == ""


@given(st.sampled_from([*OTHER_VIDEOS.values()]).flatmap(lambda data: st.just(data[:12])) | st.just(b""), st.binary())
def test_no_bytes_make_the_search_fail(head: bytes, tail: bytes) -> None:
    """Whatever comes from the network, the answer is a suffix or none."""
    assert kind_of(head + tail) in {"", *SUFFIXES}


def test_a_quicktime_file_that_is_also_an_mp4_is_an_mp4() -> None:
    """Cameras name both brands: players take it for either."""
    both = box(b"ftyp", b"qt  \0\0\0\0qt  isom") + box(b"moov", b"x" * 20) + box(b"mdat", b"y" * 20)
    assert find_defect_in(both) is None


@pytest.mark.parametrize("more", [bytes(4), bytes(7), b"\xff" * 40, b"{aigc: true}"], ids=repr)
def test_an_mp4_that_other_bytes_follow_is_a_video(more: bytes) -> None:
    """Padding, or a label that was appended: players show it, although it is no MP4 by structure."""
    assert find_defect_in(mp4("a clip") + more) is not None
    assert kind_of(mp4("a clip") + more) == "m4v"


@pytest.mark.parametrize(
    "data",
    [mp4("a clip") + box(b"free", b"x" * 50)[:-1], mp4("a clip") + box(b"moof", b"")[:6], bytes(9) + mp4("a clip"),
     box(b"ftyp", b"isom") + box(b"mdat", b"x" * 50) + bytes(9), box(b"ftyp", b"isom") + box(b"moov", b"") + bytes(9)],
)  # fmt: skip
def test_an_mp4_that_is_cut_off_is_none(data: bytes) -> None:
    """A box that has begun and does not end, or one that is missing: more may come in the next attempt."""
    assert kind_of(data) == ""
