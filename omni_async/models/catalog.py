"""The models of this API as data: what each takes, so that what it would refuse or ignore is told before it is paid.

A model that stands here is checked by its row; any other by what holds for all. What a request passes in `extra` is
never checked: it is the way to whatever a newer page of a model allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


DEFAULT_MODEL = "gemini-omni-flash-preview"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """What one model takes. Empty: nothing of that kind; None: not known here, and therefore not checked.

    ``image_counts`` are the numbers of ``image_urls`` that it takes, ``generation_types`` those for each
    ``generation_type``; ``most_pictures`` is the limit of images and frames together. ``length`` says how long a clip
    becomes where ``durations`` leaves that to the model.
    """

    id: str
    aliases: tuple[str, ...] = ()
    resolutions: tuple[str, ...] | None = None
    aspect_ratios: tuple[str, ...] | None = None
    durations: tuple[int, ...] | None = None
    default_length: str = ""
    image_counts: tuple[int, ...] | None = None
    max_images: int | None = None
    accepts_frames: bool | None = None
    generation_types: Mapping[str, tuple[int, ...]] | None = None
    max_videos: int | None = None
    accepts_data_uri: bool | None = None
    accepts_duration_with_video: bool | None = None
    can_extend: bool | None = None
    note: str = ""


_RATIOS = ("16:9", "9:16")
_NO_TYPES: Mapping[str, tuple[int, ...]] = MappingProxyType({})

_RULES = (
    ModelRules(
        id=DEFAULT_MODEL,
        resolutions=("720p",),
        aspect_ratios=_RATIOS,
        durations=(),
        default_length="3 to 10 s, chosen by the model",
        image_counts=tuple(range(17)),
        max_images=16,
        accepts_frames=False,
        generation_types=_NO_TYPES,
        max_videos=1,
        accepts_data_uri=True,
        can_extend=True,
        note="Google switched it off upstream on 2026-09-30",
    ),
    ModelRules(
        id="gemini-omni-1.1-flash",
        resolutions=("360p", "720p", "1080p", "4k"),
        aspect_ratios=_RATIOS,
        durations=(),
        default_length="3 to 10 s, chosen by the model",
        image_counts=tuple(range(11)),
        max_images=10,
        accepts_frames=True,
        generation_types=_NO_TYPES,
        max_videos=1,
        accepts_data_uri=True,
        can_extend=True,
        note='a lone image is the first frame, unless extra has metadata {"task": "reference_to_video"}',
    ),
    ModelRules(
        id="Omni-Flash-Ext",
        aliases=("gemini-omni-1.1-flash-ext",),
        resolutions=("720p", "1080p", "4k"),
        aspect_ratios=_RATIOS,
        durations=(4, 6, 8, 10),
        default_length="6 s unless duration is given",
        image_counts=(0, 1, 3),
        max_images=3,
        accepts_frames=False,
        generation_types=MappingProxyType({"frame": (1,), "reference": (1, 3)}),
        max_videos=1,
        accepts_data_uri=False,
        accepts_duration_with_video=False,
        can_extend=False,
        note="public links only; no duration beside a video",
    ),
)

MODELS: Mapping[str, ModelRules] = MappingProxyType({rules.id: rules for rules in _RULES})
"""What is known of each model, by its id."""

_UNCHECKED = ModelRules(id="")
_BY_NAME = {name: rules for rules in _RULES for name in (rules.id, *rules.aliases)}


def rules_for(model: str) -> ModelRules:
    """Give what is known of a model; of an unknown one, nothing is."""
    return _BY_NAME.get(model, _UNCHECKED)


@lru_cache(maxsize=64)
def unknown_model_warning(model: str) -> str:
    """Say that a model is not in the table, and which one may be meant; an empty text if it is."""
    if model in _BY_NAME:
        return ""
    from difflib import get_close_matches  # noqa: PLC0415 - few need it, and it is heavy

    near = get_close_matches(model.lower(), {name.lower(): name for name in _BY_NAME}, n=1, cutoff=0.85)
    hint = next((f" (did you mean {name!r}?)" for name in _BY_NAME if near == [name.lower()]), "")
    return f"model {model!r} is none of those whose rules are known here{hint}: only what holds for all is checked"


def field_error(model: str, name: str, value: Any) -> str:
    """Say what is wrong with one field of a request to a model; an empty text if nothing is."""
    rules = rules_for(model)
    text = ""
    match name:
        case "aspect_ratio":
            text = _choice_error(name, value, rules.aspect_ratios)
        case "resolution":
            text = _choice_error(name, value, rules.resolutions)
        case "duration":
            text = _choice_error(
                name, value, rules.durations, instead=f"a clip has {rules.default_length}; time it in the prompt"
            )
        case "generation_type":
            text = _choice_error(name, value, None if rules.generation_types is None else tuple(rules.generation_types))
        case "first_frame_image" | "last_frame_image" if rules.accepts_frames is False:
            text = f"{name} cannot be given; image_urls can"
        case "video_urls" if rules.accepts_data_uri is False and any(url.startswith("data:") for url in value):
            text = f"{name} takes an http(s) URL, no data: URI"
        case "video" if rules.accepts_data_uri is False and not str(value).startswith(("http://", "https://")):
            text = f"{name} takes an http(s) URL, no local file"
    return f"{text} (model {model})" if text else ""


def find_conflicts(model: str, fields: Mapping[str, Any], *, extends: bool = False) -> Iterator[str]:
    """Say which fields of a request do not go together; `extends`: it will go on from another task."""
    rules = rules_for(model)
    found = [
        *_extension_conflicts(rules, fields, extends=extends),
        *_image_conflicts(rules, fields),
        *_video_conflicts(rules, fields),
    ]
    return (f"{text} (model {model})" for text in found)


def _video_conflicts(rules: ModelRules, fields: Mapping[str, Any]) -> Iterator[str]:
    videos = len(fields.get("video_urls") or ()) + (fields.get("video") is not None)
    if rules.max_videos is not None and videos > rules.max_videos:
        yield f"video_urls takes at most {rules.max_videos}, not {videos}"
    if rules.accepts_duration_with_video is False and videos and fields.get("duration"):
        yield "duration cannot be given with video_urls: the clip is as long as the video"


def _extension_conflicts(rules: ModelRules, fields: Mapping[str, Any], *, extends: bool) -> Iterator[str]:
    if not (extends or fields.get("extend_from_task_id")):
        return
    if rules.can_extend is False:
        able = " or ".join(other.id for other in _RULES if other.can_extend)
        yield f"it cannot go on from another task; name a model that can ({able})"
    elif rules.can_extend and (name := next((name for name in ("video", "video_urls") if fields.get(name)), "")):
        yield f"{name} and extend_from_task_id exclude each other: a clip goes on from the one or from the other"


def _image_conflicts(rules: ModelRules, fields: Mapping[str, Any]) -> Iterator[str]:
    name, images = _count_images(fields)
    kind, roles = fields.get("generation_type"), _image_roles(fields.get("extra") or {})
    frames = [frame for frame in ("first_frame_image", "last_frame_image") if fields.get(frame)]
    if frames == ["last_frame_image"] and "first_frame" not in roles and rules.accepts_frames:
        yield "last_frame_image needs first_frame_image as well"
    total = images + len(frames) + len(roles)
    if wrong := _count_error(name, images, rules.image_counts):
        yield wrong
    elif rules.max_images is not None and total > rules.max_images:
        yield f"{name}, frames and image_with_roles together may be {rules.max_images}, not {total}"
    counts = (rules.generation_types or {}).get(kind or "")
    if counts is not None and images not in counts:
        yield f"{name} must be {_join_with_or(counts)} with generation_type {kind!r}, not {images}"


def _count_images(fields: Mapping[str, Any]) -> tuple[str, int]:
    """Give under which names pictures are given, and how many."""
    counts = {name: len(fields.get(name) or ()) for name in ("images", "image_urls")}
    return " and ".join(name for name in counts if counts[name]) or "image_urls", sum(counts.values())


def _image_roles(extra: Mapping[str, Any]) -> list[str]:
    found = extra.get("image_with_roles")
    return [str(each.get("role")) for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _choice_error(name: str, value: object, allowed: Sequence[object] | None, *, instead: str = "") -> str:
    if allowed is None or value in allowed:
        return ""
    if not allowed:
        return f"{name} cannot be given{f': {instead}' if instead else ''}"
    return f"{name} must be {_join_with_or(allowed)}, not {value!r}"


def _count_error(name: str, count: int, allowed: Sequence[int] | None) -> str:
    if allowed is None or count in allowed:
        return ""
    if count > allowed[-1]:
        return f"{name} takes at most {allowed[-1]}, not {count}"
    return f"{name} takes {_join_with_or(allowed)}, not {count}"


def _join_with_or(values: Sequence[object]) -> str:
    *others, last = (repr(value) for value in values)
    return f"{', '.join(others)} or {last}" if others else last
