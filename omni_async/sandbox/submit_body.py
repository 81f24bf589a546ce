"""The body of a submit, parsed and checked the way the service checks it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .model_specs import ModelSpec, requested_model
from .replies import ErrorReply, parameter_error

if TYPE_CHECKING:
    from collections.abc import Mapping


MAX_RECORDED_URL = 200  # characters of a URL kept in the record: a data URL holds a complete video
MAX_CHECKED_URLS = 100  # URLs of one field that are checked; no model accepts nearly as many
HTTP_SCHEMES = ("http://", "https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitBody:
    """What a client asks for. `fields` is the JSON object as received."""

    fields: dict[str, Any]
    spec: ModelSpec
    prompt: str
    images: tuple[str, ...]
    videos: tuple[str, ...]
    is_portrait: bool
    resolution: str
    parent_id: str | None
    webhook: str | None
    language: object  # of the messages in webhooks; what is no language is ignored

    @property
    def model(self) -> str:
        """The model, by the name that the client used."""
        return str(self.fields["model"])

    @property
    def seconds(self) -> int | None:
        """The length of the clip in seconds; None if the model chooses."""
        return self.spec.seconds(self.fields)

    def price(self, seconds: int) -> float:
        """Return the price in USD of a clip of this length."""
        return self.spec.price(self.fields, seconds)

    @property
    def digest(self) -> str:
        """A hash that is equal for equal bodies, whatever the order of their fields."""
        return hashlib.sha256(json.dumps(self.fields, sort_keys=True).encode()).hexdigest()

    def for_record(self) -> dict[str, Any]:
        """Return the body for the record, with long data URLs cut off."""
        videos = [url if len(url) <= MAX_RECORDED_URL else url[:MAX_RECORDED_URL] + "…" for url in self.videos]
        return self.fields | ({"video_urls": videos} if videos else {})


def parse_body(raw: bytes, served: Mapping[str, ModelSpec]) -> SubmitBody:
    """Return the body in these bytes; `served` are the models by name. Raise `ErrorReply` if it is not accepted."""
    body = _parse_object(raw)
    spec = requested_model(body, served)
    prompt = body.get("prompt", "")
    if not isinstance(prompt, str):
        raise parameter_error("prompt must be a string")
    images = _urls(body, "image_urls", HTTP_SCHEMES)
    videos = _urls(body, "video_urls", (*HTTP_SCHEMES, *(("data:video/",) if spec.accepts_data_uri else ())))
    spec.check(body, len(images), len(videos))
    frames = _frames(body) if spec.accepts_frames else ()
    if not (prompt.strip() or images or videos or frames):
        raise parameter_error("prompt or a reference (image_urls, video_urls) is required")
    return SubmitBody(
        fields=body,
        spec=spec,
        prompt=prompt,
        images=(*frames, *images),
        videos=videos,
        is_portrait=(body.get("aspect_ratio") or body.get("size")) == "9:16",
        resolution=spec.resolution(body),
        parent_id=_optional_string(body, "extend_from_task_id") if spec.can_extend else None,
        webhook=_optional_string(body, "webhook"),
        language=body.get("language"),
    )


def model_named_in(raw: bytes) -> str:
    """Return the model that a body names, "" if it names none."""
    try:
        return str(_parse_object(raw).get("model", ""))
    except ErrorReply:
        return ""


def _parse_object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise parameter_error("the request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise parameter_error("the request body must be a JSON object")
    return body


def _frames(body: dict[str, Any]) -> tuple[str, ...]:
    """Return the images that the newer models accept as first and last frames, or with a role."""
    named = {name: [body[name]] for name in ("first_frame_image", "last_frame_image") if body.get(name)}
    roles = body.get("image_with_roles")
    urls = [each.get("url") for each in roles if isinstance(each, dict)] if isinstance(roles, list) else []
    named["image_with_roles"] = urls
    return tuple(url for name in named for url in _urls(named, name, HTTP_SCHEMES))


def _urls(body: dict[str, Any], name: str, schemes: tuple[str, ...]) -> tuple[str, ...]:
    urls = body.get(name, [])
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise parameter_error(f"{name} must be an array of strings")
    for url in urls[:MAX_CHECKED_URLS]:
        if not url.lower().startswith(schemes):
            raise parameter_error(f"{name}: {url[:80]!r} must start with {' or '.join(schemes)}")
    return tuple(urls)


def _optional_string(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise parameter_error(f"{name} must be a string")
    return value
