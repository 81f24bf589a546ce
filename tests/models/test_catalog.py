"""The model table: what a model accepts is sent; what it does not accept is refused with field, value and remedy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from omni_async import DEFAULT_MODEL, MODELS, ModelRules, VideoRequest
from omni_async.models.catalog import field_error, rules_for, unknown_model_warning

NEW, EXT, ALIAS = "gemini-omni-1.1-flash", "gemini-omni-1.1-flash-ext", "Omni-Flash-Ext"
A, B, C, D = (f"https://example.com/{name}.png" for name in "abcd")
CLIP = "https://example.com/clip.mp4"


def build(**fields: Any) -> VideoRequest:
    """Return a request with a prompt."""
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
        {"model": ALIAS, "duration": 4},
        {"model": ALIAS, "resolution": "360p"},
        {"model": EXT, "resolution": "360P"},
        {"model": NEW, "resolution": "2160p"},
        {"model": NEW, "resolution": "2160P"},
        {"model": NEW, "resolution": "4K"},
        {"resolution": "720P"},
        {"model": EXT, "generation_type": "frame", "image_urls": [A]},
        {"model": EXT, "generation_type": "reference", "image_urls": [A, B, C]},
        {"model": EXT, "video_urls": [CLIP]},
    ],
    ids=str,
)
def test_accepted_fields_are_sent_unchanged(fields: dict[str, Any]) -> None:
    """Fields that the model's page documents are in the payload as they were given."""
    body = build(**fields).to_payload()
    extra = fields.pop("extra", {})
    assert body == {
        name: value for name, value in ({"model": DEFAULT_MODEL, "prompt": "x"} | fields | extra).items() if value
    }


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"duration": 5}, "duration cannot be set: a clip has 3 to 10 s"),
        ({"resolution": "1080p"}, "resolution must be '720p', not '1080p' (model gemini-omni-flash-preview)"),
        ({"image_urls": [A] * 17}, "image_urls takes at most 16, not 17"),
        ({"first_frame_image": A}, "first_frame_image cannot be set; use image_urls"),
        ({"generation_type": "frame"}, "generation_type cannot be set"),
        ({"video_urls": [CLIP], "extend_from_task_id": "task_1"}, "video_urls and extend_from_task_id exclude"),
        ({"resolution": "2160p"}, "resolution must be '720p', not '2160p'"),
        ({"model": NEW, "resolution": "8K"}, "resolution must be '360p', '720p', '1080p' or '4k', not '8K'"),
        ({"model": NEW, "resolution": "2160"}, "not '2160'"),
        ({"model": NEW, "resolution": ""}, "not ''"),
        ({"model": NEW, "duration": 8}, "duration cannot be set"),
        ({"model": NEW, "aspect_ratio": "1:1"}, "aspect_ratio must be '16:9' or '9:16', not '1:1'"),
        ({"model": NEW, "image_urls": [A] * 11}, "image_urls takes at most 10, not 11"),
        ({"model": NEW, "image_urls": [A] * 10, "first_frame_image": B}, "together take at most 10, not 11"),
        ({"model": NEW, "last_frame_image": A}, "last_frame_image needs first_frame_image as well"),
        ({"model": NEW, "first_frame_image": "a.png"}, "'a.png' is not an http(s) URL"),
        ({"model": NEW, "video_urls": [CLIP], "extend_from_task_id": "t"}, "exclude each other"),
        ({"model": NEW, "video_urls": [CLIP] * 2}, "video_urls takes at most 1, not 2"),
        ({"model": EXT, "duration": 5}, "duration must be 4, 6, 8 or 10, not 5 (model gemini-omni-1.1-flash-ext)"),
        ({"model": EXT, "duration": "long"}, "valid integer"),
        ({"model": EXT, "resolution": "480p"}, "resolution must be '360p', '720p', '1080p' or '4k', not '480p'"),
        ({"model": EXT, "image_urls": [A, B]}, "image_urls takes 0, 1 or 3, not 2"),
        ({"model": EXT, "image_urls": [A, B, C, D]}, "image_urls takes at most 3, not 4"),
        ({"model": EXT, "generation_type": "frame", "image_urls": [A, B, C]}, "image_urls must be 1 with"),
        ({"model": EXT, "generation_type": "other"}, "generation_type must be 'frame' or 'reference', not 'other'"),
        ({"model": EXT, "duration": 6, "video_urls": [CLIP]}, "duration cannot be set with video_urls"),
        ({"model": EXT, "video_urls": ["data:video/mp4;base64,AA"]}, "must be an http(s) URL, not a data: URI"),
        ({"model": EXT, "extend_from_task_id": "t"}, "this model cannot extend another task; use one that can"),
        ({"model": ALIAS, "duration": 5}, "duration must be 4, 6, 8 or 10, not 5 (model Omni-Flash-Ext)"),
    ],
    ids=str,
)
def test_unaccepted_fields_are_refused(fields: dict[str, Any], words: str) -> None:
    """The error names the field, the value, and what this model accepts instead."""
    with pytest.raises(ValidationError) as caught:
        build(**fields)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"resolution": "8k", "duration": 15, "aspect_ratio": "1:1", "image_urls": [A] * 20, "video_urls": [CLIP] * 3},
        {"last_frame_image": A, "generation_type": "new", "extend_from_task_id": "t", "video_urls": [CLIP]},
    ],
)
def test_an_unknown_model_is_not_checked(fields: dict[str, Any]) -> None:
    """For a model that is not in the table, only URLs are checked, and that there is a prompt or a reference."""
    assert build(model="gemini-omni-1.2-flash", **fields).to_payload().keys() >= fields.keys()
    with pytest.raises(ValidationError, match="http"):
        build(model="gemini-omni-1.2-flash", image_urls=["a.png"])
    with pytest.raises(ValidationError, match="give a prompt"):
        VideoRequest(model="gemini-omni-1.2-flash")


def test_extra_is_sent_unchecked() -> None:
    """Fields and values of newer models can be sent before the table lists them."""
    extra = {"resolution": "4k", "duration": 99, "nsfw_check": True}
    assert build(extra=extra).to_payload() == {"model": DEFAULT_MODEL, "prompt": "x", **extra}


def test_a_stored_request_is_not_checked_against_new_rules() -> None:
    """A request that an older table accepted is read from the ledger; a new one like it is refused."""
    text = '{"prompt":"x","resolution":"8k","duration":5,"video_urls":["https://h/v"],"extend_from_task_id":"t"}'
    assert VideoRequest.from_json(text).to_payload()["resolution"] == "8k"
    with pytest.raises(ValidationError):
        VideoRequest.model_validate_json(text)


def test_an_extension_inherits_model_ratio_and_resolution() -> None:
    """Only fields that were set are inherited, and by another model only those that it accepts."""
    parent = build(model=NEW, resolution="1080p", aspect_ratio="9:16", image_urls=[A])
    assert parent.inherited_fields() == {"model": NEW, "resolution": "1080p", "aspect_ratio": "9:16"}
    assert parent.inherited_fields(DEFAULT_MODEL) == {"aspect_ratio": "9:16"}
    assert parent.inherited_fields("somebody-else") == {"resolution": "1080p", "aspect_ratio": "9:16"}
    assert build().inherited_fields() == {}


def test_an_impossible_extension_is_refused() -> None:
    """A model that cannot extend, and a video together with a parent, are refused before anything is sent."""
    build().validate_extension()
    with pytest.raises(ValueError, match="use one that can"):
        build(model=EXT).validate_extension()
    with pytest.raises(ValueError, match="exclude each other"):
        build(video_urls=[CLIP]).validate_extension()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gemini-omni-flash-previw", "did you mean 'gemini-omni-flash-preview'?"),
        ("omni-flash-ext", "did you mean 'Omni-Flash-Ext'?"),
        ("sora-2", "its fields are not checked before they are sent"),
    ],
)
def test_a_misspelt_model_gets_a_suggestion(name: str, hint: str) -> None:
    """The warning for an unknown model suggests the name that is closest to it."""
    assert hint in unknown_model_warning(name)
    assert ("did you mean" in unknown_model_warning(name)) == ("did you mean" in hint)


@pytest.mark.parametrize("rules", MODELS.values(), ids=MODELS)
def test_every_row_is_complete(rules: ModelRules) -> None:
    """Each row of the table has a rule for everything, and is found by each of its names."""
    assert all(rules_for(name) is rules and not unknown_model_warning(name) for name in rules.names)
    assert rules.resolutions
    assert rules.default_length
    assert rules.image_counts == tuple(sorted(rules.image_counts or ()))
    assert None not in {rules.durations, rules.accepts_frames, rules.max_videos, rules.can_extend, rules.max_images}
    assert not field_error(rules.id, "resolution", rules.resolutions[0])
    assert MODELS[DEFAULT_MODEL].id == DEFAULT_MODEL
