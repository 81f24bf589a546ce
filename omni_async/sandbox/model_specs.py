"""The models that the sandbox serves, each as its own page describes it: sizes, lengths, references, prices.

This table is deliberately separate from the client's own (`models.catalog`): a mistake in one shows against the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .replies import ErrorReply, documented_error, model_without_channel, parameter_error

if TYPE_CHECKING:
    from collections.abc import Mapping


HEIGHTS = {"360p": 360, "720p": 720, "1080p": 1080, "4k": 2160}  # pixels of the shorter side
DEFAULT_RESOLUTION = "720p"
DEFAULT_DURATION = 6  # seconds, for models whose length the client may choose
RATIOS = ("16:9", "9:16")
MAX_VIDEOS = 1  # references of this kind, for every model


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model, under all its names. Prices are in USD and by resolution.

    They are for each second (`second_prices`), or for a clip: one price for each of the `durations` (`clip_prices`),
    and one for a clip with a reference video (`video_prices`).
    """

    names: tuple[str, ...]
    second_prices: Mapping[str, float] = field(default_factory=dict)
    clip_prices: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    video_prices: Mapping[str, float] = field(default_factory=dict)
    max_images: int = 16
    image_counts: tuple[int, ...] = ()  # the only numbers of images accepted; empty if any number is
    durations: tuple[int, ...] = ()  # seconds that the client may choose; empty if the model chooses
    accepts_frames: bool = False
    accepts_data_uri: bool = True  # for a reference video
    can_extend: bool = True
    error_types: Mapping[str, str] = field(default_factory=dict)  # its own error types, by what the error is about

    @property
    def resolutions(self) -> tuple[str, ...]:
        """The resolutions that have a price, the smallest first."""
        return tuple(name for name in HEIGHTS if name in (self.second_prices or self.clip_prices))

    def check(self, body: Mapping[str, Any], images: int, videos: int) -> None:
        """Raise `ErrorReply` (400) for a request that this model does not accept."""
        if self.resolution(body) not in self.resolutions:
            message = f"invalid resolution: {body['resolution']!r}, allowed: {', '.join(self.resolutions)}"
            raise self._error("resolution", message)
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
        return int(body.get("duration") or DEFAULT_DURATION) if self.durations else None

    def resolution(self, body: Mapping[str, Any]) -> str:
        """Return the resolution of the clip, which is read without case; "2160p" is another name of "4k"."""
        name = str(body.get("resolution") or DEFAULT_RESOLUTION).lower()
        return "4k" if name == "2160p" else name

    def price(self, body: Mapping[str, Any], seconds: int) -> float:
        """Return the price of a clip in USD."""
        resolution = self.resolution(body)
        if not self.clip_prices:
            return self.second_prices[resolution] * seconds
        if body.get("video_urls"):
            return self.video_prices[resolution]
        return self.clip_prices[resolution][self.durations.index(seconds)]

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
        """Return the error with the type that the model's page documents, or in the form seen from the service."""
        documented = self.error_types.get(subject)
        return documented_error(400, message, documented) if documented else parameter_error(message)


# Prices from the public price list, autumn 2026.
MODEL_SPECS = (
    ModelSpec(names=("gemini-omni-flash-preview",), second_prices={"720p": 0.088}),
    ModelSpec(
        names=("gemini-omni-1.1-flash",),
        second_prices={"360p": 0.0296, "720p": 0.088, "1080p": 0.132, "4k": 0.264},
        max_images=10,
        accepts_frames=True,
    ),
    ModelSpec(
        names=("gemini-omni-1.1-flash-ext", "Omni-Flash-Ext"),
        durations=(4, 6, 8, 10),
        clip_prices={
            "360p": (0.15, 0.175, 0.20, 0.225),
            "720p": (0.25, 0.30, 0.35, 0.40),
            "1080p": (0.25, 0.30, 0.35, 0.40),
            "4k": (0.75, 0.80, 0.85, 0.90),
        },
        video_prices={"360p": 0.08, "720p": 0.08, "1080p": 0.08, "4k": 0.24},
        max_images=3,
        image_counts=(0, 1, 3),
        accepts_data_uri=False,
        can_extend=False,
        error_types={
            "duration": "invalid_duration",
            "resolution": "invalid_resolution",
            "image": "unsupported_image_count",
            "video": "unsupported_video_count",
        },
    ),
)


def served_models(retired: str | None = None) -> dict[str, ModelSpec]:
    """Return the models by each of their names, without the one that is retired under any of its names."""
    return {name: spec for spec in MODEL_SPECS if retired not in spec.names for name in spec.names}


def requested_model(body: Mapping[str, Any], served: Mapping[str, ModelSpec]) -> ModelSpec:
    """Return the model that a submit asks for. Raise `ErrorReply`: 400 without one, 503 if it is not served."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise parameter_error("model is required")
    spec = served.get(name)
    if spec is None:
        raise model_without_channel(name)
    return spec
