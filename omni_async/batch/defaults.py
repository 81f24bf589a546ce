"""`Defaults`: fields for all lines of a prompt file that do not set them, and a style for every prompt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni_async import VideoRequest
from omni_async.models.characters import control_character_in

if TYPE_CHECKING:
    from collections.abc import Sequence

# A prompt that ends in one of these ends a sentence: the style is then a sentence of its own.
_SENTENCE_ENDS = tuple(".!?:;,…。！？：；，、")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Fields for the lines of a prompt file that do not set them.

    - ``model``, ``aspect_ratio``, ``resolution``, ``duration``: for lines without this field.
    - ``images``: reference images, as files or http(s) URLs, for lines with neither ``images`` nor ``image_urls``.
      Paths are relative to the working directory, and may lead anywhere: you name them, not the file.
    - ``style``: added to every prompt after a comma, or after a space if the prompt ends a sentence; it is the prompt
      of a line that has none. It is part of the request, and recorded with it.

    A line with ``extend_from`` continues another clip. It takes over model, aspect ratio and resolution from that one,
    and only the style from these settings.

    A default is part of the requests that it completes. So a line without an ``id`` has another key, and is another
    job, than without it.

    Raises `ValueError` for an image that is neither a file name nor a URL, and for a style with control characters.
    """

    model: str | None = None
    aspect_ratio: str | None = None
    resolution: str | None = None
    duration: int | None = None
    images: Sequence[str | Path] = ()
    style: str = ""

    def __post_init__(self) -> None:
        if wrong := control_character_in(self.style):
            raise ValueError(f"style holds {wrong}; remove it")
        given = VideoRequest(prompt="-", model="-", images=self.images).images if self.images else ()
        images = tuple(image.absolute() if isinstance(image, Path) else image for image in given)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "style", self.style.strip())

    @property
    def files(self) -> frozenset[Path]:
        """The local files among the images."""
        return frozenset(image for image in self.images if isinstance(image, Path))

    def complete(self, fields: dict[str, Any], *, extends: bool) -> dict[str, Any]:
        """Return the fields of a line with what it does not set. `extends`: it extends another line."""
        completed = dict(fields)
        if not extends:
            for name in ("model", "aspect_ratio", "resolution", "duration"):
                if (value := getattr(self, name)) is not None:
                    completed.setdefault(name, value)
            if self.images and not (fields.get("images") or fields.get("image_urls")):
                completed["images"] = list(self.images)
        prompt = fields.get("prompt", "")
        if self.style and isinstance(prompt, str):  # any other is an error, and reported as it is
            completed["prompt"] = _join(prompt.strip(), self.style)
        return completed


def _join(prompt: str, style: str) -> str:
    if not prompt:
        return style
    return f"{prompt}{' ' if prompt.endswith(_SENTENCE_ENDS) else ', '}{style}"
