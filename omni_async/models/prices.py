"""`PRICES`: what a clip of each model costs, as a table, and what a request may cost by it. Pure.

The table is a copy of a public price list: the service may have changed its prices since. So it is used for estimates
only, and what the server has charged always comes first (`client.estimates`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from .catalog import DEFAULT_MODEL, canonical_model, canonical_resolution

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .request import VideoRequest

PRICES_DATE = "2026-09"
PRICES_SOURCE = "APIMart's public price list"

DEFAULT_RESOLUTION = "720p"
# Seconds of a clip whose length the model chooses, from the models' pages.
_CHOSEN_SECONDS = (3.0, 10.0)


@dataclass(frozen=True, slots=True)
class EstimateRange:
    """An estimated amount: at least `low`, at most `high`, and most likely `expected`."""

    low: float
    expected: float
    high: float

    @classmethod
    def between(cls, low: float, high: float) -> EstimateRange:
        """Return the range of an amount about which nothing else is known."""
        return cls(low, (low + high) / 2, high)

    def __add__(self, other: EstimateRange) -> EstimateRange:
        return EstimateRange(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, factor: float) -> EstimateRange:
        return EstimateRange(self.low * factor, self.expected * factor, self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrices:
    """What one model charges, in USD and by resolution: a model has prices of one of these kinds.

    - ``per_second``: for each second of a clip whose length the model chooses.
    - ``per_clip``: for a clip, by its duration in seconds. ``default_duration`` is that of a request without one.
    - ``per_clip_with_video``: for a clip with a reference video, which is as long as the video.
    """

    per_second: Mapping[str, float] = field(default_factory=dict)
    per_clip: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    per_clip_with_video: Mapping[str, float] = field(default_factory=dict)
    default_duration: int | None = None


_EXT_SECONDS = (4, 6, 8, 10)

PRICES: Mapping[str, ModelPrices] = MappingProxyType(
    {
        DEFAULT_MODEL: ModelPrices(per_second={"720p": 0.088}),
        "gemini-omni-1.1-flash": ModelPrices(
            per_second={"360p": 0.0296, "720p": 0.088, "1080p": 0.132, "4k": 0.264},
        ),
        "gemini-omni-1.1-flash-ext": ModelPrices(
            per_clip={
                "360p": dict(zip(_EXT_SECONDS, (0.15, 0.175, 0.20, 0.225), strict=True)),
                "720p": dict(zip(_EXT_SECONDS, (0.25, 0.30, 0.35, 0.40), strict=True)),
                "1080p": dict(zip(_EXT_SECONDS, (0.25, 0.30, 0.35, 0.40), strict=True)),
                "4k": dict(zip(_EXT_SECONDS, (0.75, 0.80, 0.85, 0.90), strict=True)),
            },
            per_clip_with_video={"360p": 0.08, "720p": 0.08, "1080p": 0.08, "4k": 0.24},
            default_duration=6,
        ),
    }
)
"""The prices of each known model, by its id, on `PRICES_DATE` according to `PRICES_SOURCE`."""


@dataclass(frozen=True, slots=True)
class PriceClass:
    """What the price of a request depends on. Requests of one class cost the same, but for the length of the clip."""

    model: str
    resolution: str
    duration: int | None
    has_video: bool

    @classmethod
    def of(cls, request: VideoRequest) -> PriceClass:
        """Return the class of a request."""
        return cls(
            canonical_model(request.model),
            canonical_resolution(request.resolution or DEFAULT_RESOLUTION),
            request.duration,
            bool(request.video is not None or request.video_urls or request.extra.get("video_urls")),
        )

    def cost(self) -> EstimateRange | None:
        """Return what a clip costs by the table, in USD; None if the table does not say."""
        prices = PRICES.get(self.model)
        if prices is None:
            return None
        if prices.per_second:
            price = prices.per_second.get(self.resolution)
            return None if price is None else EstimateRange.between(*_CHOSEN_SECONDS) * price
        if self.has_video:
            price = prices.per_clip_with_video.get(self.resolution)
        else:
            price = prices.per_clip.get(self.resolution, {}).get(self.duration or prices.default_duration or 0)
        return None if price is None else EstimateRange(price, price, price)

    def seconds(self) -> EstimateRange | None:
        """Return how long a clip is, in seconds; None if that is unknown, as with a reference video of any length."""
        prices = PRICES.get(self.model)
        duration = self.duration or (prices.default_duration if prices and not self.has_video else None)
        if duration is not None:
            return EstimateRange(duration, duration, duration)
        return EstimateRange.between(*_CHOSEN_SECONDS) if prices and prices.per_second else None
