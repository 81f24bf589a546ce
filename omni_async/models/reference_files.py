"""Rules for local files as references: what may be sent, told by its content, and how long an upload can be used."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = 16  # bytes of a file that tell what it is
LARGEST_IMAGE = 20 * 1024 * 1024  # bytes, the upload's own limit
LARGEST_VIDEO = 20 * 1024 * 1024  # bytes; it travels within the request, where it becomes a third larger
SHORTEST, LONGEST, ADVISED = 1.0, 24.0, 3.0  # seconds of a reference video, as the API's page puts it

UPLOAD_LIFETIME = 72 * 3600.0  # seconds that the link of an upload lives
# A link is named in a request only while it lives so long: a request whose outcome is unclear may be sent again, to the
# byte, for as long as the server knows its idempotency key (24 h), and the server needs the picture then as well.
_NEEDED = 26 * 3600.0

_SLACK = 0.1  # seconds by which a container's own figure may be off


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture on the server: its link, and until when that lives (unix seconds)."""

    url: str
    expires_at: float

    @property
    def good_until(self) -> float:
        """The time from which a request should not name it any more."""
        return self.expires_at - _NEEDED


def image_kind(head: bytes) -> str:
    """Tell the media type of a picture by its first bytes; "" if the upload would not take it."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    kinds = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF87a": "image/gif"}
    kinds[b"GIF89a"] = "image/gif"
    return next((kind for mark, kind in kinds.items() if head.startswith(mark)), "")


def video_kind(head: bytes) -> str:
    """Tell the media type of a video by its first bytes; "" if it is none of those that are known."""
    if head[4:8] == b"ftyp":
        return "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    return "video/webm" if head.startswith(b"\x1aE\xdf\xa3") else ""


def image_fault(size: int, head: bytes) -> str:
    """Say why a file cannot be a reference picture; "" if it can."""
    if not size:
        return "is empty"
    if not image_kind(head):
        return "is no JPEG, PNG, WebP or GIF picture, whatever its name says"
    if size > LARGEST_IMAGE:
        return f"has {size} bytes; the upload takes at most {LARGEST_IMAGE} (20 MiB)"
    return ""


def video_fault(size: int, head: bytes) -> str:
    """Say why a file cannot be a reference video; "" if it can."""
    if not size:
        return "is empty"
    if not video_kind(head):
        return "is no MP4, MOV or WebM video, whatever its name says"
    if size > LARGEST_VIDEO:
        return (
            f"has {size} bytes; a local video travels within the request and may have {LARGEST_VIDEO} (20 MiB): cut it "
            "or give an http(s) URL"
        )
    return ""


def length_fault(seconds: float) -> str:
    """Say why a reference video of so many seconds cannot be used; "" if it can."""
    if SHORTEST - _SLACK <= seconds <= LONGEST + _SLACK:
        return ""
    return f"is {seconds:.1f} s long; a reference video has {SHORTEST:g} to {LONGEST:g} s"


def length_advice(seconds: float) -> str:
    """Say what the API's page advises against; "" if nothing."""
    if seconds <= ADVISED + _SLACK:
        return ""
    return f"is {seconds:.1f} s long; the API's page advises {ADVISED:g} s or less for a reference video"
