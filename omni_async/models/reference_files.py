"""Rules for local files as references: what may be sent, told by its content, and how long an upload can be used."""

from __future__ import annotations

from dataclasses import dataclass

HEADER_BYTES = 16  # bytes of a file that tell what it is
MAX_IMAGE_BYTES = 20 * 1024 * 1024  # bytes, the upload's own limit
MAX_VIDEO_BYTES = 20 * 1024 * 1024  # bytes; it travels within the request, where it becomes a third larger
MIN_VIDEO_SECONDS, MAX_VIDEO_SECONDS, RECOMMENDED_VIDEO_SECONDS = (
    1.0,
    24.0,
    3.0,
)  # seconds of a reference video, as the API's page puts it

UPLOAD_LIFETIME = 72 * 3600.0  # seconds that the link of an upload lives
# A link is named in a request only while it lives so long: a request whose outcome is unclear may be sent again, to the
# byte, for as long as the server knows its idempotency key (24 h), and the server needs the picture then as well.
_REQUIRED_LIFETIME = 26 * 3600.0

_DURATION_TOLERANCE = 0.1  # seconds by which a container's own figure may be off


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture on the server: its link, and until when that lives (unix seconds)."""

    url: str
    expires_at: float

    @property
    def usable_until(self) -> float:
        """The time from which a request should not name it any more."""
        return self.expires_at - _REQUIRED_LIFETIME


def image_media_type(head: bytes) -> str:
    """Tell the media type of a picture by its first bytes; "" if the upload would not take it."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    kinds = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF87a": "image/gif"}
    kinds[b"GIF89a"] = "image/gif"
    return next((kind for mark, kind in kinds.items() if head.startswith(mark)), "")


def video_media_type(head: bytes) -> str:
    """Tell the media type of a video by its first bytes; "" if it is none of those that are known."""
    if head[4:8] == b"ftyp":
        return "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    return "video/webm" if head.startswith(b"\x1aE\xdf\xa3") else ""


def image_error(size: int, head: bytes) -> str:
    """Say why a file cannot be a reference picture; "" if it can."""
    if not size:
        return "is empty"
    if not image_media_type(head):
        return "is no JPEG, PNG, WebP or GIF picture, whatever its name says"
    if size > MAX_IMAGE_BYTES:
        return f"has {size} bytes; the upload takes at most {MAX_IMAGE_BYTES} (20 MiB)"
    return ""


def video_error(size: int, head: bytes) -> str:
    """Say why a file cannot be a reference video; "" if it can."""
    if not size:
        return "is empty"
    if not video_media_type(head):
        return "is no MP4, MOV or WebM video, whatever its name says"
    if size > MAX_VIDEO_BYTES:
        return (
            f"has {size} bytes; a local video travels within the request and may have {MAX_VIDEO_BYTES} (20 MiB): cut it "
            "or give an http(s) URL"
        )
    return ""


def video_length_error(seconds: float) -> str:
    """Say why a reference video of so many seconds cannot be used; "" if it can."""
    if MIN_VIDEO_SECONDS - _DURATION_TOLERANCE <= seconds <= MAX_VIDEO_SECONDS + _DURATION_TOLERANCE:
        return ""
    return f"is {seconds:.1f} s long; a reference video has {MIN_VIDEO_SECONDS:g} to {MAX_VIDEO_SECONDS:g} s"


def video_length_warning(seconds: float) -> str:
    """Say what the API's page advises against; "" if nothing."""
    if seconds <= RECOMMENDED_VIDEO_SECONDS + _DURATION_TOLERANCE:
        return ""
    return (
        f"is {seconds:.1f} s long; the API's page advises {RECOMMENDED_VIDEO_SECONDS:g} s or less for a reference video"
    )
