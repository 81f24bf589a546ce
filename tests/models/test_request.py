"""A request is what the API's page says: checked before it costs anything, and sent as it was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from omni_async.api.parsing import encode_json
from omni_async.models.catalog import DEFAULT_MODEL
from omni_async.models.request import VideoRequest

_URL = "https://example.com/x"


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        pytest.param(
            {"prompt": "a blue butterfly landing on a flower, macro, soft light", "aspect_ratio": "9:16"},
            {"prompt": "a blue butterfly landing on a flower, macro, soft light", "aspect_ratio": "9:16"},
            id="scenario 1",
        ),
        pytest.param(
            {
                "prompt": "turn this drawing into realistic footage, use it only as a motion guide",
                "image_urls": ["https://example.com/sketch.jpg"],
            },
            {
                "prompt": "turn this drawing into realistic footage, use it only as a motion guide",
                "image_urls": ["https://example.com/sketch.jpg"],
            },
            id="scenario 2",
        ),
        pytest.param(
            {
                "prompt": "when the person touches the mirror, make it ripple like liquid",
                "video_urls": ["https://example.com/clip.mp4"],
            },
            {
                "prompt": "when the person touches the mirror, make it ripple like liquid",
                "video_urls": ["https://example.com/clip.mp4"],
            },
            id="scenario 3",
        ),
        pytest.param({"image_urls": _URL}, {"image_urls": [_URL]}, id="one link is a list of one"),
        pytest.param(
            {"video_urls": "data:video/mp4;base64,AAAA"}, {"video_urls": ["data:video/mp4;base64,AAAA"]}, id="data"
        ),
        pytest.param(
            {"prompt": "x", "resolution": "720p", "extend_from_task_id": "task_1"},
            {"prompt": "x", "resolution": "720p", "extend_from_task_id": "task_1"},
            id="all the rest",
        ),
        pytest.param({"prompt": "x", "aspect_ratio": None, "resolution": None}, {"prompt": "x"}, id="None is left out"),
        pytest.param(
            {"prompt": "", "image_urls": [_URL], "video_urls": []}, {"image_urls": [_URL]}, id="empty is left out"
        ),
        pytest.param(
            {"prompt": "x", "extra": {"nsfw_check": True, "metadata": {"task": "extend"}}},
            {"prompt": "x", "nsfw_check": True, "metadata": {"task": "extend"}},
            id="extra as it is",
        ),
        pytest.param(
            {"prompt": "x", "extra": {"resolution": "4k"}}, {"prompt": "x", "resolution": "4k"}, id="other models"
        ),
        pytest.param({"prompt": "x", "image_urls": [_URL] * 16}, {"prompt": "x", "image_urls": [_URL] * 16}, id="16"),
    ],
)
def test_a_request_is_sent_as_it_was_meant(fields: dict[str, Any], body: dict[str, Any]) -> None:
    """A field left out is left out of the body; nothing else is added but the model."""
    assert VideoRequest(**fields).to_payload() == {"model": DEFAULT_MODEL, **body}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({}, "prompt", id="nothing"),
        pytest.param({"prompt": ""}, "prompt", id="an empty prompt"),
        pytest.param({"prompt": " \n"}, "prompt", id="a blank prompt"),
        pytest.param({"extend_from_task_id": "t"}, "prompt", id="only what it extends"),
        pytest.param({"prompt": "x", "image_urls": [_URL] * 17}, "image_urls", id="17 images"),
        pytest.param({"prompt": "x", "video_urls": [_URL] * 2}, "video_urls", id="two videos"),
        pytest.param({"prompt": "x", "image_urls": ["cat.png"]}, "given in images", id="a local picture"),
        pytest.param({"prompt": "x", "image_urls": ["data:image/png;base64,AA"]}, "image_urls", id="a picture as data"),
        pytest.param({"prompt": "x", "image_urls": ["file:///x.png"]}, "image_urls", id="a file"),
        pytest.param({"prompt": "x", "image_urls": ["ftp://h/x.png"]}, "image_urls", id="ftp"),
        pytest.param({"prompt": "x", "image_urls": ["http://"]}, "image_urls", id="no host"),
        pytest.param({"prompt": "x", "image_urls": ["http://[x/"]}, "image_urls", id="a broken host"),
        pytest.param({"prompt": "x", "image_urls": ["https://h/a b"]}, "image_urls", id="a space in a link"),
        pytest.param({"prompt": "x", "image_urls": [""]}, "image_urls", id="an empty link"),
        pytest.param({"prompt": "x", "video_urls": ["data:image/png;base64,AA"]}, "video_urls", id="no video"),
        pytest.param({"prompt": "x", "video_urls": ["clip.mp4"]}, "video_urls", id="a local video"),
        pytest.param({"prompt": "x", "aspect_ratio": "1:1"}, "aspect_ratio", id="a ratio that becomes 16:9"),
        pytest.param({"prompt": "x", "aspect_ratio": "9:16 "}, "aspect_ratio", id="a ratio with a space"),
        pytest.param({"prompt": "x", "resolution": "1080p"}, "resolution", id="a resolution that there is not"),
        pytest.param({"prompt": "x", "model": ""}, "model", id="no model"),
        pytest.param({"prompt": "x", "extend_from_task_id": ""}, "extend_from_task_id", id="extends nothing"),
        pytest.param({"prompt": "x", "duration": 5}, "duration", id="a field that the page does not name"),
        pytest.param({"prompt": 5}, "prompt", id="a prompt that is no text"),
        pytest.param({"prompt": "x", "extra": {"seed": None}}, "null", id="null"),
        pytest.param({"prompt": "x", "extra": {"prompt": "y"}}, "twice", id="twice"),
        pytest.param({"prompt": "x", "extra": {"model": "y"}}, "twice", id="the model twice"),
        pytest.param({"prompt": "x", "extra": {"x": {1, 2}}}, "JSON", id="extra that is no JSON"),
        pytest.param({"prompt": "x", "extra": {"x": float("nan")}}, "JSON", id="NaN"),
        pytest.param({"prompt": "x", "extra": {"x": object()}}, "JSON", id="an object"),
    ],
)
def test_a_bad_request_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    """It raises before anything is recorded, and says what to change."""
    with pytest.raises(ValidationError, match=words):
        VideoRequest(**fields)


def _nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"prompt": "half \ud83d"}, id="half a character in a prompt"),
        pytest.param({"prompt": "x", "extra": {"note": "half \ud83d"}}, id="half a character in extra"),
        pytest.param({"prompt": "x", "extra": {"\ud83d": 1}}, id="half a character in a name"),
        pytest.param({"prompt": "x", "image_urls": ["https://h/\ud83d"]}, id="half a character in a link"),
        pytest.param({"prompt": "x", "extra": _nested(300)}, id="deep"),
    ],
)
def test_what_is_accepted_can_be_sent_and_recorded(fields: dict[str, Any]) -> None:
    """A request either is refused when it is made, or gives bytes for the server and a text for the ledger."""
    try:
        request = VideoRequest(**fields)
    except ValidationError:
        return
    encode_json(request.to_payload())
    request.to_json().encode()


def test_a_request_is_frozen() -> None:
    """What was recorded is what is sent."""
    with pytest.raises(ValidationError):
        VideoRequest(prompt="x").prompt = "y"  # type: ignore[misc]


def test_extra_is_a_copy() -> None:
    """What a caller does with his own dictionary afterwards changes no request."""
    extra: dict[str, Any] = {"metadata": {"task": "edit"}}
    request = VideoRequest(prompt="x", extra=extra)
    extra["metadata"]["task"] = "extend"
    assert request.extra == {"metadata": {"task": "edit"}}


_REQUESTS = st.builds(
    VideoRequest,
    prompt=st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=5),
    image_urls=st.lists(st.sampled_from([_URL, "http://h/y"]), max_size=2).map(tuple),
    aspect_ratio=st.sampled_from([None, "16:9", "9:16"]),
    extend_from_task_id=st.none() | st.sampled_from(["task_1", "task_2"]),
    extra=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text("xy", max_size=2), max_size=3),
)


@given(_REQUESTS, _REQUESTS)
def test_equal_requests_and_only_those_have_equal_texts(one: VideoRequest, other: VideoRequest) -> None:
    """The ledger compares texts to tell whether a key was reused."""
    assert (one.to_json() == other.to_json()) is (one == other)


@given(_REQUESTS)
def test_a_request_survives_the_ledger(request_: VideoRequest) -> None:
    """Out of the text comes the same request, and out of that the same body."""
    again = VideoRequest.model_validate_json(request_.to_json())
    assert again == request_
    assert encode_json(again.to_payload()) == encode_json(request_.to_payload())


def test_the_order_of_extra_makes_no_other_request() -> None:
    """The same fields in another order are the same text, and the same body to the byte: one idempotency key."""
    one = VideoRequest(prompt="x", extra={"a": {"c": 1, "d": 2}, "b": 2})
    other = VideoRequest(prompt="x", extra={"b": 2, "a": {"d": 2, "c": 1}})
    assert one.to_json() == other.to_json()
    assert encode_json(one.to_payload()) == encode_json(other.to_payload())


@given(_REQUESTS)
def test_no_body_holds_a_null(request_: VideoRequest) -> None:
    """What is not set is not there."""
    assert b"null" not in encode_json(request_.to_payload())
    assert json.loads(encode_json(request_.to_payload()))["model"] == DEFAULT_MODEL
