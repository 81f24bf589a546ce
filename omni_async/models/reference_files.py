"""Rules for local files as references: which files may be sent, and how long an upload can be used.

Pure functions over the size and the first bytes of a file. `submission.local_files` reads the files.
"""

from __future__ import annotations

from dataclasses import dataclass

# Bytes at the start of a file that identify its type. The longest signature is that of WebP: 12 bytes.
HEADER_BYTES = 16

# The limit of the API's upload endpoint (20 971 520 bytes); a larger image is refused with 413.
MAX_IMAGE_BYTES = 20 * 1024 * 1024

# Chosen, not documented: a local video travels within the JSON body, base64-encoded, so it grows by a third. The body
# of one request is then at most 27 MiB, and two are in memory at most. Double is likely to exceed a gateway's limit.
MAX_VIDEO_BYTES = 20 * 1024 * 1024

# Seconds of a reference video, from the API's page: 1 to 24, with 3 or less recommended.
MIN_VIDEO_SECONDS, MAX_VIDEO_SECONDS, RECOMMENDED_VIDEO_SECONDS = 1.0, 24.0, 3.0

UPLOAD_LIFETIME = 72 * 3600.0  # seconds that the URL of an upload is valid, from the API's page

# Seconds that an upload must remain valid to be named in a request. An ambiguous request may be resent unchanged for
# as long as the server remembers its idempotency key (24 h), and the server needs the image then, too. The other two
# hours cover the queue. Less could name an expired image in a resend, more uploads the same image again sooner.
_REQUIRED_LIFETIME = 26 * 3600.0

# Seconds by which the duration in a container may differ from the real one; about two frames at 24 fps. Without it, a
# video of exactly 24 s could be refused.
_DURATION_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Upload:
    """An image on the server: its URL, and when that expires (unix seconds)."""

    url: str
    expires_at: float

    @property
    def usable_until(self) -> float:
        """Unix time from which no new request should use the URL."""
        return self.expires_at - _REQUIRED_LIFETIME


def image_media_type(header: bytes) -> str:
    """Return the media type of an image from its first bytes; an empty string if uploads do not accept it."""
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "image/webp"
    types = {
        b"\xff\xd8\xff": "image/jpeg",
        b"\x89PNG\r\n\x1a\n": "image/png",
        b"GIF87a": "image/gif",
        b"GIF89a": "image/gif",
    }
    return next((media_type for signature, media_type in types.items() if header.startswith(signature)), "")


def video_media_type(header: bytes) -> str:
    """Return the media type of a video from its first bytes; an empty string if the format is not supported."""
    if header[4:8] == b"ftyp":
        return "video/quicktime" if header[8:12] == b"qt  " else "video/mp4"
    return "video/webm" if header.startswith(b"\x1aE\xdf\xa3") else ""


def image_error(size: int, header: bytes) -> str:
    """Return why a file of this size (bytes) cannot be a reference image; an empty string if it can."""
    if not size:
        return "is empty"
    if not image_media_type(header):
        return "is not a JPEG, PNG, WebP or GIF image, whatever its extension"
    if size > MAX_IMAGE_BYTES:
        return f"has {size} bytes; an upload may have at most {MAX_IMAGE_BYTES} (20 MiB)"
    return ""


def video_error(size: int, header: bytes) -> str:
    """Return why a file of this size (bytes) cannot be a reference video; an empty string if it can."""
    if not size:
        return "is empty"
    if not video_media_type(header):
        return "is not an MP4, MOV or WebM video, whatever its extension"
    if size > MAX_VIDEO_BYTES:
        return (
            f"has {size} bytes; a local video is sent within the request and may have at most {MAX_VIDEO_BYTES} "
            "(20 MiB). Shorten it, or give an http(s) URL"
        )
    return ""


def video_length_error(seconds: float) -> str:
    """Return why a reference video of this length cannot be used; an empty string if it can."""
    if MIN_VIDEO_SECONDS - _DURATION_TOLERANCE <= seconds <= MAX_VIDEO_SECONDS + _DURATION_TOLERANCE:
        return ""
    return f"is {seconds:.1f} s long; a reference video must have {MIN_VIDEO_SECONDS:g} to {MAX_VIDEO_SECONDS:g} s"


def video_length_warning(seconds: float) -> str:
    """Return a warning if the API's page advises against a video of this length; else an empty string."""
    if seconds <= RECOMMENDED_VIDEO_SECONDS + _DURATION_TOLERANCE:
        return ""
    return (
        f"is {seconds:.1f} s long; the API's page recommends {RECOMMENDED_VIDEO_SECONDS:g} s or less for a reference "
        "video"
    )
