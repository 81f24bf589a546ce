"""Local images and videos for requests, and the URLs that are sent in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.fakes import mp4

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fakes import Post


def png(folder: Path, name: str = "cat", content: str = "") -> Path:
    """Write a file that begins like a PNG."""
    path = folder / f"{name}.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + (content or name).encode())
    return path


def video(folder: Path, name: str = "clip", size: int = 2000) -> Path:
    """Write a file that begins like an MP4."""
    path = folder / f"{name}.mp4"
    path.write_bytes(mp4(name, size))
    return path


def image_urls(post: Post) -> list[str]:
    """Return the image URLs of a POST."""
    urls: list[str] = post.body["image_urls"]
    return urls
