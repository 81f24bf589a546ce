"""The table of models: what each takes is sent, what it does not take is refused by field, value and remedy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from omni_async import DEFAULT_MODEL, MODELS, ModelRules, VideoRequest
from omni_async.models.catalog import field_error, rules_for, unknown_model_warning

NEW, EXT = "gemini-omni-1.1-flash", "Omni-Flash-Ext"
A, B, C, D = (f"https://example.com/{name}.png" for name in "abcd")
CLIP = "https://example.com/clip.mp4"


def made(**fields: Any) -> VideoRequest:
    """Make a request with a prompt."""
    return VideoRequest(**{"prompt": "x", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"resolution": "720p", "image_urls": [A] * 16, "video_urls": [CLIP]},
        {"model": NEW, "resolution": "360p"},
        {"model": NEW, "resolution": "4k", "aspect_ratio": "9:16"},
        {"model": NEW, "image_urls": [A] * 10},
        {"model": NEW, "first_frame_image": A, "last_frame_image": B},
        {"model": NEW, "first_frame_image": A, "image_urls": [B] * 9},
        {"model": NEW, "prompt": None, "first_frame_image": A},
        {"model": NEW, "last_frame_image": B, "extra": {"image_with_roles": [{"url": A, "role": "first_frame"}]}},
        {"model": NEW, "prompt": None, "extra": {"image_with_roles": [{"url": A, "role": "reference"}]}},
        {"model": NEW, "extra": {"metadata": {"task": "reference_to_video"}}, "image_urls": [A]},
        {"model": EXT, "duration": 8, "resolution": "1080p"},
        {"model": "gemini-omni-1.1-flash-ext", "duration": 4},
        {"model": EXT, "generation_type": "frame", "image_urls": [A]},
        {"model": EXT, "generation_type": "reference", "image_urls": [A, B, C]},
        {"model": EXT, "video_urls": [CLIP]},
    ],
    ids=str,
)
def test_what_a_model_takes_is_sent(fields: dict[str, Any]) -> None:
    """Fields that the model's page names arrive in the body as they were given."""
    body = made(**fields).to_payload()
    extra = fields.pop("extra", {})
    assert body == {
        name: value for name, value in ({"model": DEFAULT_MODEL, "prompt": "x"} | fields | extra).items() if value
    }


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"duration": 5}, "duration cannot be given: a clip has 3 to 10 s"),
        ({"resolution": "1080p"}, "resolution must be '720p', not '1080p' (model gemini-omni-flash-preview)"),
        ({"image_urls": [A] * 17}, "image_urls takes at most 16, not 17"),
        ({"first_frame_image": A}, "first_frame_image cannot be given; image_urls can"),
        ({"generation_type": "frame"}, "generation_type cannot be given"),
        ({"video_urls": [CLIP], "extend_from_task_id": "task_1"}, "video_urls and extend_from_task_id exclude"),
        ({"model": NEW, "resolution": "2160p"}, "resolution must be '360p', '720p', '1080p' or '4k', not '2160p'"),
        ({"model": NEW, "duration": 8}, "duration cannot be given"),
        ({"model": NEW, "aspect_ratio": "1:1"}, "aspect_ratio must be '16:9' or '9:16', not '1:1'"),
        ({"model": NEW, "image_urls": [A] * 11}, "image_urls takes at most 10, not 11"),
        ({"model": NEW, "image_urls": [A] * 10, "first_frame_image": B}, "together may be 10, not 11"),
        ({"model": NEW, "last_frame_image": A}, "last_frame_image needs first_frame_image as well"),
        ({"model": NEW, "first_frame_image": "a.png"}, "'a.png' is not an http(s) URL"),
        ({"model": NEW, "video_urls": [CLIP], "extend_from_task_id": "t"}, "exclude each other"),
        ({"model": NEW, "video_urls": [CLIP] * 2}, "video_urls takes at most 1, not 2"),
        ({"model": EXT, "duration": 5}, "duration must be 4, 6, 8 or 10, not 5 (model Omni-Flash-Ext)"),
        ({"model": EXT, "duration": "long"}, "valid integer"),
        ({"model": EXT, "resolution": "360p"}, "resolution must be '720p', '1080p' or '4k', not '360p'"),
        ({"model": EXT, "image_urls": [A, B]}, "image_urls takes 0, 1 or 3, not 2"),
        ({"model": EXT, "image_urls": [A, B, C, D]}, "image_urls takes at most 3, not 4"),
        ({"model": EXT, "generation_type": "frame", "image_urls": [A, B, C]}, "image_urls must be 1 with"),
        ({"model": EXT, "generation_type": "other"}, "generation_type must be 'frame' or 'reference', not 'other'"),
        ({"model": EXT, "duration": 6, "video_urls": [CLIP]}, "duration cannot be given with video_urls"),
        ({"model": EXT, "video_urls": ["data:video/mp4;base64,AA"]}, "takes an http(s) URL, no data: URI"),
        ({"model": EXT, "extend_from_task_id": "t"}, "cannot go on from another task; name a model that can"),
        ({"model": "gemini-omni-1.1-flash-ext", "duration": 5}, "(model gemini-omni-1.1-flash-ext)"),
    ],
    ids=str,
)
def test_what_a_model_does_not_take_is_refused(fields: dict[str, Any], words: str) -> None:
    """The error names the field, the value, and what this model takes instead."""
    with pytest.raises(ValidationError) as caught:
        made(**fields)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"resolution": "8k", "duration": 15, "aspect_ratio": "1:1", "image_urls": [A] * 20, "video_urls": [CLIP] * 3},
        {"last_frame_image": A, "generation_type": "new", "extend_from_task_id": "t", "video_urls": [CLIP]},
    ],
)
def test_an_unknown_model_is_sent_what_is_asked_for(fields: dict[str, Any]) -> None:
    """Of a model that is not in the table, only what holds for all is checked: links, and something to go by."""
    assert made(model="gemini-omni-1.2-flash", **fields).to_payload().keys() >= fields.keys()
    with pytest.raises(ValidationError, match="http"):
        made(model="gemini-omni-1.2-flash", image_urls=["a.png"])
    with pytest.raises(ValidationError, match="give a prompt"):
        VideoRequest(model="gemini-omni-1.2-flash")


def test_extra_passes_anything_through() -> None:
    """What a newer page allows can be sent before the table knows of it."""
    extra = {"resolution": "4k", "duration": 99, "nsfw_check": True}
    assert made(extra=extra).to_payload() == {"model": DEFAULT_MODEL, "prompt": "x", **extra}


def test_a_recorded_request_can_be_read_after_its_rules_have_changed() -> None:
    """What an older table let through, and the ledger holds, is read as it was; a new request is not let through."""
    text = '{"prompt":"x","resolution":"8k","duration":5,"video_urls":["https://h/v"],"extend_from_task_id":"t"}'
    assert VideoRequest.from_json(text).to_payload()["resolution"] == "8k"
    with pytest.raises(ValidationError):
        VideoRequest.model_validate_json(text)


def test_what_goes_on_takes_model_ratio_and_resolution_over() -> None:
    """To another model, only what that takes as well is handed down; what was not asked for, never."""
    parent = made(model=NEW, resolution="1080p", aspect_ratio="9:16", image_urls=[A])
    assert parent.inherited_fields() == {"model": NEW, "resolution": "1080p", "aspect_ratio": "9:16"}
    assert parent.inherited_fields(DEFAULT_MODEL) == {"aspect_ratio": "9:16"}
    assert parent.inherited_fields("somebody-else") == {"resolution": "1080p", "aspect_ratio": "9:16"}
    assert made().inherited_fields() == {}


def test_what_cannot_go_on_says_so() -> None:
    """A model that extends nothing, and a video beside a parent, are refused before anything is sent."""
    made().validate_extension()
    with pytest.raises(ValueError, match="name a model that can"):
        made(model=EXT).validate_extension()
    with pytest.raises(ValueError, match="exclude each other"):
        made(video_urls=[CLIP]).validate_extension()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gemini-omni-flash-previw", "did you mean 'gemini-omni-flash-preview'?"),
        ("omni-flash-ext", "did you mean 'Omni-Flash-Ext'?"),
        ("sora-2", "only what holds for all is checked"),
    ],
)
def test_an_unknown_model_is_named_with_what_may_be_meant(name: str, hint: str) -> None:
    """A slip of the pen is met with the name that comes near it."""
    assert hint in unknown_model_warning(name)
    assert ("did you mean" in unknown_model_warning(name)) == ("did you mean" in hint)


@pytest.mark.parametrize("rules", MODELS.values(), ids=MODELS)
def test_every_row_is_whole(rules: ModelRules) -> None:
    """Each row of the table says something of everything, and is found by each of its names."""
    assert all(rules_for(name) is rules and not unknown_model_warning(name) for name in (rules.id, *rules.aliases))
    assert rules.resolutions
    assert rules.default_length
    assert rules.image_counts == tuple(sorted(rules.image_counts or ()))
    assert None not in {rules.durations, rules.accepts_frames, rules.max_videos, rules.can_extend, rules.max_images}
    assert not field_error(rules.id, "resolution", rules.resolutions[0])
    assert MODELS[DEFAULT_MODEL].id == DEFAULT_MODEL
