"""`MODELS`: what each model of the API accepts, as a table.

`VideoRequest` uses it to refuse what a model would reject or ignore, before the request is paid for. The command
`omni-async models` prints it. A model that is not in the table is not checked by it, and neither are the fields in
`VideoRequest.extra`: newer models and fields can be used without a new release.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..formatting import join_with_or

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


DEFAULT_MODEL = "gemini-omni-flash-preview"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """What one model accepts. An empty value means "none"; None means "unknown", and is not checked.

    - ``id``, ``aliases``: the name of the model, and other names with the same rules.
    - ``resolutions``, ``aspect_ratios``, ``durations`` (seconds): the values that these fields may have. Resolutions
      may be written in upper case, and 4k as 2160p.
    - ``default_length``: how long a clip is if no ``duration`` is given, as text.
    - ``image_counts``: how many images ``images`` and ``image_urls`` may have together.
    - ``max_images``: how many images they, the frames and ``image_with_roles`` may have together.
    - ``accepts_frames``: whether ``first_frame_image`` and ``last_frame_image`` are accepted.
    - ``generation_types``: the values of ``generation_type``, each with the numbers of images that it needs.
    - ``max_videos``: how many reference videos are accepted.
    - ``accepts_data_uri``: whether a reference video may be a data: URI, as local files are sent.
    - ``accepts_duration_with_video``: whether ``duration`` may be given with a reference video.
    - ``can_extend``: whether the model can extend the clip of another task.
    - ``note``: one remark for users.
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

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the model, its id first."""
        return (self.id, *self.aliases)


_RATIOS = ("16:9", "9:16")
_NO_TYPES: Mapping[str, tuple[int, ...]] = MappingProxyType({})

# From APIMart's page of each model, autumn 2026.
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
        note="Google shut it down on 2026-09-30; APIMart may no longer serve it",
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
        note='a single image is the first frame, unless extra has metadata {"task": "reference_to_video"}',
    ),
    ModelRules(
        id="gemini-omni-1.1-flash-ext",
        aliases=("Omni-Flash-Ext",),
        resolutions=("360p", "720p", "1080p", "4k"),
        aspect_ratios=_RATIOS,
        durations=(4, 6, 8, 10),
        default_length="6 s unless duration is set",
        image_counts=(0, 1, 3),
        max_images=3,
        accepts_frames=False,
        generation_types=MappingProxyType({"frame": (1,), "reference": (1, 3)}),
        max_videos=1,
        accepts_data_uri=False,
        accepts_duration_with_video=False,
        can_extend=False,
        note="references must be http(s) URLs; no duration with a video",
    ),
)

MODELS: Mapping[str, ModelRules] = MappingProxyType({rules.id: rules for rules in _RULES})
"""The rules of each known model, by its id."""

_UNCHECKED = ModelRules(id="")
_BY_NAME = {name: rules for rules in _RULES for name in rules.names}


def rules_for(model: str) -> ModelRules:
    """Return the rules of a model; for an unknown model, rules that refuse nothing."""
    return _BY_NAME.get(model, _UNCHECKED)


@lru_cache(maxsize=64)
def unknown_model_warning(model: str) -> str:
    """Return a warning if a model is not in the table, with the name that may be meant; else an empty string."""
    if model in _BY_NAME:
        return ""
    from difflib import get_close_matches  # noqa: PLC0415 - slow to import and seldom needed

    # 0.85 finds a typing error of a few letters in names of about 25, and does not take one model for another.
    near = get_close_matches(model.lower(), {name.lower(): name for name in _BY_NAME}, n=1, cutoff=0.85)
    hint = next((f" (did you mean {name!r}?)" for name in _BY_NAME if near == [name.lower()]), "")
    return f"unknown model {model!r}{hint}: its fields are not checked before they are sent"


def field_error(model: str, name: str, value: Any) -> str:
    """Return why a model does not accept the value of one field; an empty string if it does."""
    rules = rules_for(model)
    text = ""
    match name:
        case "aspect_ratio":
            text = _choice_error(name, value, rules.aspect_ratios)
        case "resolution":
            is_accepted = rules.resolutions is None or canonical_resolution(value) in rules.resolutions
            text = "" if is_accepted else _choice_error(name, value, rules.resolutions)
        case "duration":
            instead = f"a clip has {rules.default_length}; describe the timing in the prompt"
            text = _choice_error(name, value, rules.durations, instead=instead)
        case "generation_type":
            text = _choice_error(name, value, None if rules.generation_types is None else tuple(rules.generation_types))
        case "first_frame_image" | "last_frame_image" if rules.accepts_frames is False:
            text = f"{name} cannot be set; use image_urls"
        case "video_urls" if rules.accepts_data_uri is False and any(url.startswith("data:") for url in value):
            text = f"{name} must be an http(s) URL, not a data: URI"
        case "video" if rules.accepts_data_uri is False and not str(value).startswith(("http://", "https://")):
            text = f"{name} must be an http(s) URL, not a local file"
    return f"{text} (model {model})" if text else ""


def find_conflicts(model: str, fields: Mapping[str, Any], *, extends: bool = False) -> Iterator[str]:
    """Yield an error for each combination of fields that a model does not accept.

    `fields` are those of a `VideoRequest`, by name. `extends` is True if the request will extend the clip of a task
    whose id is not known yet.
    """
    rules = rules_for(model)
    conflicts = [
        *_extension_conflicts(rules, fields, extends=extends),
        *_image_conflicts(rules, fields),
        *_video_conflicts(rules, fields),
    ]
    return (f"{text} (model {model})" for text in conflicts)


def _video_conflicts(rules: ModelRules, fields: Mapping[str, Any]) -> Iterator[str]:
    videos = len(fields.get("video_urls") or ()) + (fields.get("video") is not None)
    if rules.max_videos is not None and videos > rules.max_videos:
        yield f"video_urls takes at most {rules.max_videos}, not {videos}"
    if rules.accepts_duration_with_video is False and videos and fields.get("duration") is not None:
        yield "duration cannot be set with video_urls: the clip is as long as the video"


def _extension_conflicts(rules: ModelRules, fields: Mapping[str, Any], *, extends: bool) -> Iterator[str]:
    if not extends and fields.get("extend_from_task_id") is None:
        return
    if rules.can_extend is False:
        able = " or ".join(other.id for other in _RULES if other.can_extend)
        yield f"this model cannot extend another task; use one that can ({able})"
    elif rules.can_extend and (name := next((name for name in ("video", "video_urls") if fields.get(name)), "")):
        yield f"{name} and extend_from_task_id exclude each other: a clip extends either a video or a task"


def _image_conflicts(rules: ModelRules, fields: Mapping[str, Any]) -> Iterator[str]:
    name, images = _count_images(fields)
    generation_type, roles = fields.get("generation_type"), _image_roles(fields.get("extra") or {})
    frames = [frame for frame in ("first_frame_image", "last_frame_image") if fields.get(frame) is not None]
    if frames == ["last_frame_image"] and "first_frame" not in roles and rules.accepts_frames:
        yield "last_frame_image needs first_frame_image as well"
    total = images + len(frames) + len(roles)
    if wrong := _count_error(name, images, rules.image_counts):
        yield wrong
    elif rules.max_images is not None and total > rules.max_images:
        yield f"{name}, frames and image_with_roles together take at most {rules.max_images}, not {total}"
    counts = (rules.generation_types or {}).get(generation_type or "")
    if counts is not None and images not in counts:
        yield f"{name} must be {join_with_or(map(repr, counts))} with generation_type {generation_type!r}, not {images}"


def _count_images(fields: Mapping[str, Any]) -> tuple[str, int]:
    """Return the names of the fields that hold images, for messages, and the number of images in them."""
    counts = {name: len(fields.get(name) or ()) for name in ("images", "image_urls")}
    return " and ".join(name for name in counts if counts[name]) or "image_urls", sum(counts.values())


def _image_roles(extra: Mapping[str, Any]) -> list[str]:
    entries = extra.get("image_with_roles")
    return [str(each.get("role")) for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []


def canonical_model(name: str) -> str:
    """Return the id of a model, given one of its names; an unknown name as it is."""
    return rules_for(name).id or name


def canonical_resolution(value: str) -> str:
    """Return a resolution as the tables of the models write it."""
    name = value.lower()
    return "4k" if name == "2160p" else name


def _choice_error(name: str, value: object, allowed: Sequence[object] | None, *, instead: str = "") -> str:
    if allowed is None or value in allowed:
        return ""
    if not allowed:
        return f"{name} cannot be set{f': {instead}' if instead else ''}"
    return f"{name} must be {join_with_or(map(repr, allowed))}, not {value!r}"


def _count_error(name: str, count: int, allowed: Sequence[int] | None) -> str:
    if allowed is None or count in allowed:
        return ""
    if count > allowed[-1]:
        return f"{name} takes at most {allowed[-1]}, not {count}"
    return f"{name} takes {join_with_or(map(repr, allowed))}, not {count}"
