"""The models that the sandbox specs, each with what its own page says of it: sizes, lengths, references, prices.

Kept apart from the client's own table on purpose: a mistake there shows here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .replies import TYPES, ErrorReply, error_reply

if TYPE_CHECKING:
    from collections.abc import Mapping


HEIGHTS = {"360p": 360, "720p": 720, "1080p": 1080, "4k": 2160}
RATIOS = ("16:9", "9:16")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model. `prices` are in USD by resolution: per second, or, where `per_clip`, for all of it."""

    name: str
    prices: Mapping[str, float]
    max_images: int = 16
    image_counts: tuple[int, ...] = ()  # only these, if there are any
    durations: tuple[int, ...] = ()  # chosen by the client; without any, by the model
    accepts_frames: bool = False
    can_extend: bool = True
    is_priced_per_clip: bool = False
    error_types: Mapping[str, str] = field(default_factory=dict)  # its own types for some errors

    def check(self, body: Mapping[str, Any], images: int, videos: int) -> None:
        """Raise `Refusal` for what this model does not take."""
        self._check_size(body)
        self._check_pictures(body, images)
        most_videos = 1
        if videos > most_videos:
            raise self._no("video", f"video_urls takes at most {most_videos}, got {videos}")
        if self.can_extend and videos and body.get("extend_from_task_id"):
            raise self._no("", "video_urls and extend_from_task_id are mutually exclusive")
        if self.durations and (duration := body.get("duration")) is not None:
            if videos:
                raise self._no("duration", "duration is not supported with video_urls")
            if duration not in self.durations:
                raise self._no("duration", f"invalid duration: {duration!r}, allowed: {self.durations}")

    def seconds(self, body: Mapping[str, Any]) -> int | None:
        """How long the clip becomes; None: as long as the model likes."""
        return int(body.get("duration") or 6) if self.durations else None

    def resolution(self, body: Mapping[str, Any]) -> str:
        """The resolution that is meant."""
        told = body.get("resolution", "720p")
        return "4k" if told == "2160p" else str(told)

    def price(self, body: Mapping[str, Any], seconds: int) -> float:
        """What a clip costs, in USD."""
        if self.is_priced_per_clip and body.get("video_urls"):
            return 0.08
        price = self.prices[self.resolution(body)]
        return price if self.is_priced_per_clip else price * seconds

    def _check_size(self, body: Mapping[str, Any]) -> None:
        if self.resolution(body) not in self.prices:
            raise self._no(
                "resolution", f"invalid resolution: {body['resolution']!r}, allowed: {', '.join(self.prices)}"
            )

    def _check_pictures(self, body: Mapping[str, Any], images: int) -> None:
        frames = [name for name in ("first_frame_image", "last_frame_image") if self.accepts_frames and body.get(name)]
        if frames == ["last_frame_image"]:
            raise self._no("", "last_frame_image requires first_frame_image")
        total = images + len(frames)
        if total > self.max_images:
            raise self._no("image", f"image_urls takes at most {self.max_images}, got {total}")
        if self.image_counts and images not in self.image_counts:
            raise self._no("image", f"unsupported number of images: {images}, allowed: {self.image_counts}")
        kind, wanted = body.get("generation_type"), {"frame": (1,), "reference": (1, 3)}
        if self.image_counts and kind is not None and images not in wanted.get(str(kind), ()):
            raise self._no("image", f"generation_type {kind!r} does not take {images} images")

    def _no(self, about: str, message: str) -> ErrorReply:
        error = {"code": 400, "message": message, "type": self.error_types.get(about, TYPES[400])}
        return ErrorReply(400, {"error": error})


_EXT = {
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
            error_types=_EXT,
        ),
    )
}
_ALIASES = {"gemini-omni-1.1-flash-ext": "Omni-Flash-Ext"}


def find_spec(name: object) -> ModelSpec:
    """The model of that name; raises `Refusal` if there is none."""
    if not isinstance(name, str) or not name:
        raise error_reply(400, "model is required")
    found = MODEL_SPECS.get(_ALIASES.get(name, name))
    if found is None:
        raise error_reply(400, f"unknown model: {name!r}")
    return found
