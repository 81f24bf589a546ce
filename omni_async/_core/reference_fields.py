"""The fields of a request that take a local file or a link."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import PlainSerializer, PlainValidator


def is_link(url: str) -> bool:
    """Tell whether a text is an http(s) URL."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and not any(c.isspace() for c in url)
    except ValueError:
        return False


def shortened(text: str) -> str:
    """Give what somebody wrote, for a message about it."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _file_or_link(value: object, what: str) -> Path | str:
    if isinstance(value, PurePath):
        return Path(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{what} must be a file or an http(s) URL, not {shortened(str(value)) if value else repr(value)}"
        )
    if is_link(value):
        return value
    if "://" in value or value.startswith("data:"):
        raise ValueError(f"{shortened(value)} is neither a file nor an http(s) URL")
    return Path(value)


def _files_or_links(value: object) -> tuple[Path | str, ...]:
    if isinstance(value, (str, PurePath)):
        value = (value,)
    if not isinstance(value, (list, tuple)):
        raise ValueError("images must be a list of files and http(s) URLs")  # noqa: TRY004 - pydantic wants it
    return tuple(_file_or_link(one, "a picture") for one in value)


def _video(value: object) -> Path | str | None:
    if value is None or (isinstance(value, str) and value.startswith("data:video/")):
        return value
    return _file_or_link(value, "a video")


# Written out by hand: pydantic would have to guess again and again whether a text is a path or a link.
Images = Annotated[
    tuple[Path | str, ...],
    PlainValidator(_files_or_links),
    PlainSerializer(lambda images: [*map(str, images)], when_used="json"),
]
OneVideo = Annotated[
    Path | str | None, PlainValidator(_video), PlainSerializer(lambda video: video and str(video), when_used="json")
]
