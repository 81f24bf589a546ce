"""A request is checked before it costs anything, and sent as the API's page documents it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from omni_async.api.parsing import encode_json
from omni_async.models.catalog import DEFAULT_MODEL, find_conflicts
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
        pytest.param({"image_urls": _URL}, {"image_urls": [_URL]}, id="a single URL becomes a list"),
        pytest.param(
            {"video_urls": "data:video/mp4;base64,AAAA"}, {"video_urls": ["data:video/mp4;base64,AAAA"]}, id="data"
        ),
        pytest.param(
            {"prompt": "x", "resolution": "720p", "extend_from_task_id": "task_1"},
            {"prompt": "x", "resolution": "720p", "extend_from_task_id": "task_1"},
            id="the other fields",
        ),
        pytest.param({"prompt": "x", "aspect_ratio": None, "resolution": None}, {"prompt": "x"}, id="None is left out"),
        pytest.param({"prompt": "x", "image_urls": [], "video_urls": []}, {"prompt": "x"}, id="no URLs are left out"),
        pytest.param(
            {"prompt": "x", "extra": {"nsfw_check": True, "metadata": {"task": "extend"}}},
            {"prompt": "x", "nsfw_check": True, "metadata": {"task": "extend"}},
            id="extra",
        ),
        pytest.param(
            {"prompt": "x", "extra": {"resolution": "4k"}},
            {"prompt": "x", "resolution": "4k"},
            id="a field of another model in extra",
        ),
        pytest.param(
            {"prompt": "x", "image_urls": [_URL] * 16}, {"prompt": "x", "image_urls": [_URL] * 16}, id="16 images"
        ),
    ],
)
def test_the_payload_holds_what_was_set(fields: dict[str, Any], body: dict[str, Any]) -> None:
    """A field left out is left out of the payload. Nothing is added but the model."""
    assert VideoRequest(**fields).to_payload() == {"model": DEFAULT_MODEL, **body}


OTHER = "a-model-without-rules"


@pytest.mark.parametrize("value", [0, False, "", [], {}, 0.0], ids=repr)
def test_a_falsy_value_in_extra_is_sent(value: object) -> None:
    """`seed=0` and `nsfw_check=False` are values that the user has set, and are stored and sent like any other."""
    request = VideoRequest(prompt="x", extra={"seed": value})
    assert request.to_payload() == {"model": DEFAULT_MODEL, "prompt": "x", "seed": value}
    assert type(request.to_payload()["seed"]) is type(value)
    assert VideoRequest.from_json(request.to_json()).to_payload() == request.to_payload()


@pytest.mark.parametrize(
    "fields",
    [
        {"duration": 0},
        {"prompt": ""},
        {"aspect_ratio": ""},
        {"resolution": ""},
        {"generation_type": ""},
    ],
    ids=str,
)
def test_a_falsy_value_in_a_field_is_sent(fields: dict[str, Any]) -> None:
    """Only None, or no URLs, mean that a field was left out; what is stored is what is sent."""
    request = VideoRequest(**{"model": OTHER, "prompt": "x", "image_urls": [_URL], **fields})
    assert request.to_payload() == {"model": OTHER, "prompt": "x", "image_urls": [_URL], **fields}
    assert VideoRequest.from_json(request.to_json()).to_payload() == request.to_payload()


@pytest.mark.parametrize(
    "fields",
    [
        {"duration": 0, "extra": {"duration": 8}},
        {"duration": 8, "extra": {"duration": 0}},
        {"prompt": "", "extra": {"prompt": "y"}},
        {"prompt": "x", "extra": {"prompt": ""}},
        {"resolution": "", "extra": {"resolution": "4k"}},
        {"image_urls": [_URL], "extra": {"image_urls": []}},
        {"images": ["cat.png"], "extra": {"image_urls": []}},
    ],
    ids=str,
)
def test_a_falsy_value_counts_as_set(fields: dict[str, Any]) -> None:
    """A field that is set to 0 or "" and is in extra as well is set twice, and so is the reverse."""
    with pytest.raises(ValidationError, match="set twice"):
        VideoRequest(**{"model": OTHER, "prompt": "x", "image_urls": [_URL], **fields})


@pytest.mark.parametrize("fields", [{"resolution": None}, {"image_urls": []}, {"video_urls": ()}], ids=str)
def test_a_field_left_out_may_be_set_in_extra(fields: dict[str, Any]) -> None:
    """None, or no URLs, leave the field to extra."""
    (name,) = fields
    request = VideoRequest(prompt="x", **fields, extra={name: "y"})
    assert request.to_payload() == {"model": DEFAULT_MODEL, "prompt": "x", name: "y"}


def test_a_duration_of_0_is_checked_like_any_other() -> None:
    """A falsy value is refused where the model does not accept it, alone and together with a video."""
    with pytest.raises(ValidationError, match="duration must be 4, 6, 8 or 10, not 0"):
        VideoRequest(model="Omni-Flash-Ext", prompt="x", duration=0)
    fields = {"video_urls": (_URL,), "duration": 0}
    assert [*find_conflicts("Omni-Flash-Ext", fields)] == [
        "duration cannot be set with video_urls: the clip is as long as the video (model Omni-Flash-Ext)"
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({}, "prompt", id="nothing"),
        pytest.param({"prompt": ""}, "prompt", id="an empty prompt"),
        pytest.param({"prompt": " \n"}, "prompt", id="a blank prompt"),
        pytest.param({"extend_from_task_id": "t"}, "prompt", id="only a task to extend"),
        pytest.param({"prompt": "x", "image_urls": [_URL] * 17}, "image_urls", id="17 images"),
        pytest.param({"prompt": "x", "video_urls": [_URL] * 2}, "video_urls", id="two videos"),
        pytest.param({"prompt": "x", "image_urls": ["cat.png"]}, "local images belong in images", id="a local image"),
        pytest.param({"prompt": "x", "image_urls": ["data:image/png;base64,AA"]}, "image_urls", id="an image as data"),
        pytest.param({"prompt": "x", "image_urls": ["file:///x.png"]}, "image_urls", id="a file"),
        pytest.param({"prompt": "x", "image_urls": ["ftp://h/x.png"]}, "image_urls", id="ftp"),
        pytest.param({"prompt": "x", "image_urls": ["http://"]}, "image_urls", id="no host"),
        pytest.param({"prompt": "x", "image_urls": ["http://[x/"]}, "image_urls", id="an invalid host"),
        pytest.param({"prompt": "x", "image_urls": ["https://h/a b"]}, "image_urls", id="a space in a URL"),
        pytest.param({"prompt": "x", "image_urls": [""]}, "image_urls", id="an empty URL"),
        pytest.param(
            {"prompt": "x", "video_urls": ["data:image/png;base64,AA"]}, "video_urls", id="an image in place of a video"
        ),
        pytest.param({"prompt": "x", "video_urls": ["clip.mp4"]}, "video_urls", id="a local video"),
        pytest.param({"prompt": "x", "aspect_ratio": "1:1"}, "aspect_ratio", id="a ratio that becomes 16:9"),
        pytest.param({"prompt": "x", "aspect_ratio": "9:16 "}, "aspect_ratio", id="a ratio with a space"),
        pytest.param({"prompt": "x", "resolution": "1080p"}, "resolution", id="an unsupported resolution"),
        pytest.param({"prompt": "x", "model": ""}, "model", id="no model"),
        pytest.param({"prompt": "x", "extend_from_task_id": ""}, "extend_from_task_id", id="an empty task id"),
        pytest.param({"prompt": "x", "duration": 5}, "duration", id="a field that the model does not accept"),
        pytest.param({"prompt": 5}, "prompt", id="a prompt that is not a string"),
        pytest.param({"prompt": "x", "extra": {"seed": None}}, "null", id="null"),
        pytest.param({"prompt": "x", "extra": {"prompt": "y"}}, "twice", id="twice"),
        pytest.param({"prompt": "x", "extra": {"model": "y"}}, "twice", id="the model twice"),
        pytest.param({"prompt": "x", "extra": {"x": {1, 2}}}, "JSON", id="a set in extra"),
        pytest.param({"prompt": "x", "extra": {"x": float("nan")}}, "JSON", id="NaN"),
        pytest.param({"prompt": "x", "extra": {"x": object()}}, "JSON", id="an object"),
    ],
)
def test_an_invalid_request_is_refused(fields: dict[str, Any], words: str) -> None:
    """It raises when it is created, and the error names what to change."""
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
        pytest.param({"prompt": "half \ud83d"}, id="a lone surrogate in a prompt"),
        pytest.param({"prompt": "x", "extra": {"note": "half \ud83d"}}, id="a lone surrogate in extra"),
        pytest.param({"prompt": "x", "extra": {"\ud83d": 1}}, id="a lone surrogate in a name"),
        pytest.param({"prompt": "x", "image_urls": ["https://h/\ud83d"]}, id="a lone surrogate in a URL"),
        pytest.param({"prompt": "x", "extra": _nested(300)}, id="deep"),
    ],
)
def test_an_accepted_request_can_be_sent_and_stored(fields: dict[str, Any]) -> None:
    """A request is refused when it is created, or it can be encoded for the server and for the ledger."""
    try:
        request = VideoRequest(**fields)
    except ValidationError:
        return
    encode_json(request.to_payload())
    request.to_json().encode()


def test_a_request_is_frozen() -> None:
    """What was recorded is what is sent: a request cannot be changed."""
    with pytest.raises(ValidationError):
        VideoRequest(prompt="x").prompt = "y"  # type: ignore[misc]


def test_extra_is_a_copy() -> None:
    """Later changes to the caller's dictionary do not change the request."""
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
def test_equal_requests_and_only_those_have_equal_json(one: VideoRequest, other: VideoRequest) -> None:
    """The ledger compares the JSON of requests to find out whether a key was reused."""
    assert (one.to_json() == other.to_json()) is (one == other)


@given(_REQUESTS)
def test_a_stored_request_is_read_unchanged(request_: VideoRequest) -> None:
    """The JSON gives the same request, and that gives the same body."""
    again = VideoRequest.model_validate_json(request_.to_json())
    assert again == request_
    assert encode_json(again.to_payload()) == encode_json(request_.to_payload())


def test_the_order_of_extra_does_not_matter() -> None:
    """The same fields in another order give the same JSON and the same bytes: one idempotency key."""
    one = VideoRequest(prompt="x", extra={"a": {"c": 1, "d": 2}, "b": 2})
    other = VideoRequest(prompt="x", extra={"b": 2, "a": {"d": 2, "c": 1}})
    assert one.to_json() == other.to_json()
    assert encode_json(one.to_payload()) == encode_json(other.to_payload())


@given(_REQUESTS)
def test_no_payload_holds_a_null(request_: VideoRequest) -> None:
    """A field that is not set is not sent."""
    assert b"null" not in encode_json(request_.to_payload())
    assert json.loads(encode_json(request_.to_payload()))["model"] == DEFAULT_MODEL
