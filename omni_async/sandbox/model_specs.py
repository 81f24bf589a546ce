"""The models that the sandbox serves, each as its own page describes it: sizes, lengths, references, prices.

This table is deliberately separate from the client's own (`models.catalog`): a mistake in one shows against the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .replies import ERROR_TYPES, ErrorReply, error_reply

if TYPE_CHECKING:
    from collections.abc import Mapping


HEIGHTS = {"360p": 360, "720p": 720, "1080p": 1080, "4k": 2160}  # pixels of the shorter side
RATIOS = ("16:9", "9:16")
MAX_VIDEOS = 1  # references of this kind, for every model
VIDEO_REFERENCE_PRICE = 0.08  # USD for a clip of Omni-Flash-Ext with a reference video, from its page


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model. `prices` are in USD by resolution: for each second, or for the clip if `is_priced_per_clip`."""

    name: str
    prices: Mapping[str, float]
    max_images: int = 16
    image_counts: tuple[int, ...] = ()  # the only numbers of images accepted; empty if any number is
    durations: tuple[int, ...] = ()  # seconds that the client may choose; empty if the model chooses
    accepts_frames: bool = False
    can_extend: bool = True
    is_priced_per_clip: bool = False
    error_types: Mapping[str, str] = field(default_factory=dict)  # its own error types, by what the error is about

    def check(self, body: Mapping[str, Any], images: int, videos: int) -> None:
        """Raise `ErrorReply` (400) for a request that this model does not accept."""
        self._check_resolution(body)
        self._check_images(body, images)
        if videos > MAX_VIDEOS:
            raise self._error("video", f"video_urls takes at most {MAX_VIDEOS}, got {videos}")
        if self.can_extend and videos and body.get("extend_from_task_id"):
            raise self._error("", "video_urls and extend_from_task_id are mutually exclusive")
        if self.durations and (duration := body.get("duration")) is not None:
            if videos:
                raise self._error("duration", "duration is not supported with video_urls")
            if duration not in self.durations:
                raise self._error("duration", f"invalid duration: {duration!r}, allowed: {self.durations}")

    def seconds(self, body: Mapping[str, Any]) -> int | None:
        """Return the length of the clip in seconds; None if the model chooses."""
        return int(body.get("duration") or 6) if self.durations else None

    def resolution(self, body: Mapping[str, Any]) -> str:
        """Return the resolution of the clip; "2160p" is another name of "4k"."""
        requested = body.get("resolution", "720p")
        return "4k" if requested == "2160p" else str(requested)

    def price(self, body: Mapping[str, Any], seconds: int) -> float:
        """Return the price of a clip in USD."""
        if self.is_priced_per_clip and body.get("video_urls"):
            return VIDEO_REFERENCE_PRICE
        price = self.prices[self.resolution(body)]
        return price if self.is_priced_per_clip else price * seconds

    def _check_resolution(self, body: Mapping[str, Any]) -> None:
        if self.resolution(body) not in self.prices:
            raise self._error(
                "resolution", f"invalid resolution: {body['resolution']!r}, allowed: {', '.join(self.prices)}"
            )

    def _check_images(self, body: Mapping[str, Any], images: int) -> None:
        frames = [name for name in ("first_frame_image", "last_frame_image") if self.accepts_frames and body.get(name)]
        if frames == ["last_frame_image"]:
            raise self._error("", "last_frame_image requires first_frame_image")
        total = images + len(frames)
        if total > self.max_images:
            raise self._error("image", f"image_urls takes at most {self.max_images}, got {total}")
        if self.image_counts and images not in self.image_counts:
            raise self._error("image", f"unsupported number of images: {images}, allowed: {self.image_counts}")
        kind, counts = body.get("generation_type"), {"frame": (1,), "reference": (1, 3)}
        if self.image_counts and kind is not None and images not in counts.get(str(kind), ()):
            raise self._error("image", f"generation_type {kind!r} does not take {images} images")

    def _error(self, subject: str, message: str) -> ErrorReply:
        error = {"code": 400, "message": message, "type": self.error_types.get(subject, ERROR_TYPES[400])}
        return ErrorReply(400, {"error": error})


_EXT_ERROR_TYPES = {
    "duration": "invalid_duration",
    "resolution": "invalid_resolution",
    "image": "unsupported_image_count",
    "video": "unsupported_video_count",
}
MODEL_SPECS: Mapping[str, ModelSpec] = {
    each.name: each
    for each in (
        ModelSpec(name="gemini-omni-flash-preview", prices={"720p": 0.088}),
        ModelSpec(
            name="gemini-omni-1.1-flash",
            prices={"360p": 0.03, "720p": 0.10, "1080p": 0.15, "4k": 0.30},
            max_images=10,
            accepts_frames=True,
        ),
        ModelSpec(
            name="Omni-Flash-Ext",
            prices={"720p": 0.25, "1080p": 0.40, "4k": 0.40},
            max_images=3,
            image_counts=(0, 1, 3),
            durations=(4, 6, 8, 10),
            can_extend=False,
            is_priced_per_clip=True,
            error_types=_EXT_ERROR_TYPES,
        ),
    )
}
_ALIASES = {"gemini-omni-1.1-flash-ext": "Omni-Flash-Ext"}


def find_spec(name: object) -> ModelSpec:
    """Return the model with this name. Raise `ErrorReply` (400) if there is none."""
    if not isinstance(name, str) or not name:
        raise error_reply(400, "model is required")
    spec = MODEL_SPECS.get(_ALIASES.get(name, name))
    if spec is None:
        raise error_reply(400, f"unknown model: {name!r}")
    return spec
