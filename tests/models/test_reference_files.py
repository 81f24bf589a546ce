"""What a local file may be, told by its first bytes, its size and its length, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_async.api.outcomes import SubmitOutcome, classify_upload, upload_retry_timeout
from omni_async.errors import RateLimited, TransportError
from omni_async.models import reference_files as references
from omni_async.models.reference_files import (
    image_error,
    image_media_type,
    video_error,
    video_length_error,
    video_length_warning,
    video_media_type,
)
from omni_async.settings import Retry
from tests.support.replies import HTML, NO_CHANNEL_500, PAGE_402, PAGE_429, REAL_401, error, reply

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


@pytest.mark.parametrize(("kind", "head"), [*_IMAGES.items(), *_VIDEOS.items()])
def test_a_kind_is_told_by_content(kind: str, head: bytes) -> None:
    """Each mark is known, and no picture passes for a video, nor a video for a picture."""
    assert (image_media_type(head), video_media_type(head)) == ((kind, "") if kind in _IMAGES else ("", kind))


@given(st.binary(max_size=16))
def test_nothing_else_has_a_kind(head: bytes) -> None:
    """Bytes without a mark are neither."""
    marks = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"\x1aE\xdf\xa3")
    if not head.startswith(marks):
        assert image_media_type(head) == ""
        assert bool(video_media_type(head)) == (head[4:8] == b"ftyp")


def test_twenty_mebibytes_and_no_more() -> None:
    """The limits are those of the upload, and of what is sent within a request."""
    for fault, head in ((image_error, _IMAGES["image/png"]), (video_error, _VIDEOS["video/mp4"])):
        assert fault(20_971_520, head) == ""
        assert "20971521 bytes" in fault(20_971_521, head)
        assert fault(0, b"") == "is empty"
        assert "whatever its name says" in fault(5, b"hello")


@pytest.mark.parametrize(("seconds", "is_bad"), [(0.5, True), (1, False), (24.04, False), (24.5, True), (60, True)])
def test_a_video_has_1_to_24_seconds(seconds: float, is_bad: bool) -> None:
    """And what is said of it names its length."""
    assert (f"is {seconds:.1f} s long" in video_length_error(seconds)) == is_bad


def test_more_than_3_seconds_are_advised_against() -> None:
    """As the page says."""
    assert video_length_warning(3.04) == ""
    assert "advises 3 s or less" in video_length_warning(7)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (reply(200, {"url": "https://u/1"}), SubmitOutcome.ACCEPTED),
        (reply(200, {}), SubmitOutcome.AMBIGUOUS),
        (reply(200, HTML), SubmitOutcome.AMBIGUOUS),
        (reply(400, error("", "unsupported image type")), SubmitOutcome.REJECTED),
        (reply(413, error("", "file size 5 exceeds maximum 4 bytes")), SubmitOutcome.REJECTED),
        (reply(413, HTML), SubmitOutcome.REJECTED),
        (reply(401, REAL_401), SubmitOutcome.STOP_ALL),
        (reply(402, PAGE_402), SubmitOutcome.STOP_ALL),
        (reply(403, HTML), SubmitOutcome.STOP_ALL),
        (reply(429, PAGE_429), SubmitOutcome.RETRY_LATER),
        (reply(500, error("", "failed to upload image")), SubmitOutcome.AMBIGUOUS),
        (reply(500, NO_CHANNEL_500), SubmitOutcome.AMBIGUOUS),
        (reply(502, HTML), SubmitOutcome.AMBIGUOUS),
        (TransportError("reset"), SubmitOutcome.AMBIGUOUS),
        (TransportError("no way", sent=False), SubmitOutcome.NOT_SENT),
    ],
)
def test_what_becomes_of_an_upload(answer: object, verdict: SubmitOutcome) -> None:
    """Only a clear no ends it at once; all else is tried again, for it costs nothing."""
    judgement = classify_upload(answer, now=0.0, operation="upload of x")  # type: ignore[arg-type]
    assert judgement.outcome is verdict
    assert (judgement.url == "https://u/1") == (verdict is SubmitOutcome.ACCEPTED)
    is_final = verdict in {SubmitOutcome.ACCEPTED, SubmitOutcome.REJECTED, SubmitOutcome.STOP_ALL}
    assert (upload_retry_timeout(verdict, Retry(timeout=60)) == 0) == is_final
    assert isinstance(judgement.error, RateLimited) == (verdict is SubmitOutcome.RETRY_LATER)


def test_a_link_is_used_while_it_outlives_a_resend() -> None:
    """Longer than the day for which a request may be sent again."""
    upload = references.Upload("u", references.UPLOAD_LIFETIME)
    assert upload.expires_at - upload.usable_until > 86_400
