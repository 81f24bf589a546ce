"""The price table: what it says, and that it is the sandbox's own."""

from __future__ import annotations

from typing import Any

import pytest

from omni_async import MODELS, PRICES, VideoRequest
from omni_async.models.prices import EstimateRange, PriceClass
from omni_async.sandbox.model_specs import MODEL_SPECS

VIDEO = "https://example.com/a.mp4"


def test_every_known_model_has_prices_for_all_its_resolutions() -> None:
    """The table of prices and the table of what models accept name the same models, resolutions and durations."""
    assert PRICES.keys() == MODELS.keys()
    for name, prices in PRICES.items():
        rules = MODELS[name]
        for by_resolution in filter(None, (prices.per_second, prices.per_clip, prices.per_clip_with_video)):
            assert tuple(by_resolution) == rules.resolutions
        for by_duration in prices.per_clip.values():
            assert tuple(by_duration) == rules.durations


CASES = [
    (spec, name, resolution, duration, has_video)
    for spec in MODEL_SPECS
    for name in spec.names
    for resolution in (*spec.resolutions, None)
    for duration in (*spec.durations, None)
    for has_video in (False, True)
    if not (has_video and duration)
]


@pytest.mark.parametrize("case", CASES, ids=[f"{case[1:]}" for case in CASES])
def test_a_request_costs_what_the_sandbox_charges(case: tuple[Any, ...]) -> None:
    """The lowest and the highest estimate are the sandbox's prices of the shortest and the longest clip."""
    spec, name, resolution, duration, has_video = case
    fields: dict[str, Any] = {
        "resolution": resolution,
        "duration": duration,
        "video_urls": [VIDEO] if has_video else None,
    }
    given: dict[str, Any] = {field: value for field, value in fields.items() if value is not None}
    request = VideoRequest(prompt="a", model=name, **given)
    body = request.to_payload()
    lengths = [spec.seconds(body)] if spec.durations else [3, 10]
    prices = [spec.price(body, seconds) for seconds in lengths]
    cost = PriceClass.of(request).cost()
    assert cost is not None
    assert [cost.low, cost.high] == pytest.approx([min(prices), max(prices)])
    assert cost.expected == pytest.approx((cost.low + cost.high) / 2)


@pytest.mark.parametrize(
    ("fields", "cost", "seconds"),
    [
        ({}, (0.264, 0.88), (3, 10)),
        ({"model": "gemini-omni-1.1-flash", "resolution": "2160p"}, (0.792, 2.64), (3, 10)),
        ({"model": "Omni-Flash-Ext"}, (0.30, 0.30), (6, 6)),
        ({"model": "Omni-Flash-Ext", "duration": 10, "resolution": "4K"}, (0.90, 0.90), (10, 10)),
        ({"model": "Omni-Flash-Ext", "video_urls": [VIDEO]}, (0.08, 0.08), None),
        ({"model": "new"}, None, None),
        ({"model": "new", "duration": 7}, None, (7, 7)),
    ],
)
def test_what_is_not_in_the_table_is_unknown(
    fields: dict[str, Any], cost: tuple[float, float] | None, seconds: tuple[float, float] | None
) -> None:
    """A price or a length that is not known is never zero."""
    found = PriceClass.of(VideoRequest(prompt="a", **fields))
    for estimate, expected in ((found.cost(), cost), (found.seconds(), seconds)):
        assert (estimate is None) == (expected is None)
        if estimate is not None and expected is not None:
            assert (estimate.low, estimate.high) == pytest.approx(expected)


def test_ranges_add_up() -> None:
    """A range times a number, and a sum of ranges, keep the low, the expected and the high amount apart."""
    assert EstimateRange(1, 2, 4) * 3 + EstimateRange.between(0, 1) == EstimateRange(3, 6.5, 13)
