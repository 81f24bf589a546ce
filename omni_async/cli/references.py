"""Pictures and videos that a prompt refers to: links stay links, local files are checked and brought to the server."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from .status import Misuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omni_async import OmniClient

_LARGEST_VIDEO = 20 * 1024 * 1024  # bytes; it travels within the request
_MOST_IMAGES = 16
_LINKS = ("http://", "https://")


def check_images(images: Sequence[str]) -> None:
    """Raise `Misuse` for what cannot be a reference picture, before anything is sent."""
    if len(images) > _MOST_IMAGES:
        raise Misuse(f"--image can be given {_MOST_IMAGES} times, not {len(images)}")
    faults = [f"--image {_short(image)}: {fault}" for image in images if (fault := _fault(image))]
    if faults:
        raise Misuse(*faults)


async def image_links(client: OmniClient, images: Sequence[str]) -> list[str]:
    """Upload what is local, and give a link for each picture."""
    return [image if image.startswith(_LINKS) else await client.upload_image(image) for image in images]


async def video_link(video: str) -> str:
    """Give a reference video as a link, or a local one as a data URI. Raises `Misuse` for what is neither."""
    if video.startswith((*_LINKS, "data:")):
        return video
    if fault := _fault(video):
        raise Misuse(f"--video {_short(video)}: {fault}")
    return await anyio.to_thread.run_sync(_as_data_uri, Path(video))


def _fault(name: str) -> str:
    if name.startswith(_LINKS):
        return ""
    if "://" in name or name.startswith("data:"):
        return "must be a file or an http(s) link"
    try:
        if not Path(name).is_file():
            return "there is no such file"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _as_data_uri(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > _LARGEST_VIDEO:
            raise Misuse(f"--video {path}: has {size:,} bytes, at most {_LARGEST_VIDEO:,} can be sent; give a link")
        content = path.read_bytes()
    except OSError as error:
        raise Misuse(f"--video {path}: {error.strerror or error}") from None
    kind = _video_kind(content)
    if not kind:
        raise Misuse(f"--video {path}: is no MP4, MOV or WebM video")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _video_kind(content: bytes) -> str:
    if content[4:8] == b"ftyp":
        return "video/quicktime" if content[8:12] == b"qt  " else "video/mp4"
    return "video/webm" if content.startswith(b"\x1aE\xdf\xa3") else ""


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
