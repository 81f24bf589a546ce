"""Local files as references are accepted by their first bytes, their size and their length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.models.reference_files import (
    UPLOAD_LIFETIME,
    Upload,
    image_error,
    image_media_type,
    video_error,
    video_length_error,
    video_length_warning,
    video_media_type,
)

_IMAGES = {
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "image/png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "image/webp": b"RIFF\x24\0\0\0WEBPVP8 ",
    "image/gif": b"GIF89a\x01\0\x01\0",
}
_VIDEOS = {
    "video/mp4": b"\0\0\0\x20ftypisom",
    "video/quicktime": b"\0\0\0\x14ftypqt  ",
    "video/webm": b"\x1aE\xdf\xa3\x9fB\x86\x81",
}


@pytest.mark.parametrize(("media_type", "header"), [*_IMAGES.items(), *_VIDEOS.items()])
def test_the_content_decides_the_media_type(media_type: str, header: bytes) -> None:
    """Each signature is recognised. No image is taken for a video, and no video for an image."""
    expected = (media_type, "") if media_type in _IMAGES else ("", media_type)
    assert (image_media_type(header), video_media_type(header)) == expected


@given(st.binary(max_size=16))
def test_other_content_has_no_media_type(header: bytes) -> None:
    """Bytes without a signature are neither an image nor a video."""
    signatures = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"\x1aE\xdf\xa3")
    if not header.startswith(signatures):
        assert image_media_type(header) == ""
        assert bool(video_media_type(header)) == (header[4:8] == b"ftyp")


def test_a_file_of_more_than_20_mib_is_refused() -> None:
    """The limit holds for uploads and for videos within a request, to the byte."""
    for find_error, header in ((image_error, _IMAGES["image/png"]), (video_error, _VIDEOS["video/mp4"])):
        assert find_error(20_971_520, header) == ""
        assert "20971521 bytes" in find_error(20_971_521, header)
        assert find_error(0, b"") == "is empty"
        assert "whatever its extension" in find_error(5, b"hello")


@pytest.mark.parametrize(("seconds", "is_bad"), [(0.5, True), (1, False), (24.04, False), (24.5, True), (60, True)])
def test_a_reference_video_has_1_to_24_seconds(seconds: float, is_bad: bool) -> None:
    """A video outside these limits is refused with its length in the message."""
    assert (f"is {seconds:.1f} s long" in video_length_error(seconds)) == is_bad


def test_more_than_3_seconds_gives_a_warning() -> None:
    """The API's page recommends 3 s or less."""
    assert video_length_warning(3.04) == ""
    assert "recommends 3 s or less" in video_length_warning(7)


def test_an_upload_is_used_only_while_it_outlives_a_resend() -> None:
    """A request may be resent for a day, so its images must be valid for longer than that."""
    upload = Upload("u", UPLOAD_LIFETIME)
    assert upload.expires_at - upload.usable_until > 86_400
