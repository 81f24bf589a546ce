"""A submit's body, read and checked the way the service checks it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from .model_specs import ModelSpec, find_spec
from .replies import ErrorReply, error_reply

SHOWN = 200
MOST = 100  # links of a kind that are looked at
LINKS = ("http://", "https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitBody:
    """What a client asks for."""

    fields: dict[str, Any]
    spec: ModelSpec
    prompt: str
    images: tuple[str, ...]
    videos: tuple[str, ...]
    portrait: bool
    resolution: str
    parent_id: str | None
    webhook: str | None

    @property
    def seconds(self) -> int | None:
        """How long the clip becomes; None: as long as the model likes."""
        return self.spec.seconds(self.fields)

    def price(self, seconds: int) -> float:
        """What a clip of so many seconds costs, in USD."""
        return self.spec.price(self.fields, seconds)

    @property
    def digest(self) -> str:
        """Equal for equal bodies, however they were written."""
        return hashlib.sha256(json.dumps(self.fields, sort_keys=True).encode()).hexdigest()

    def for_record(self) -> dict[str, Any]:
        """The body for the record, with long data URLs cut short."""
        videos = [url if len(url) <= SHOWN else url[:SHOWN] + "…" for url in self.videos]
        return self.fields | ({"video_urls": videos} if videos else {})


def parse_body(raw: bytes) -> SubmitBody:
    """The order in these bytes, or a Refusal."""
    body = _object(raw)
    spec = find_spec(body.get("model"))
    prompt = body.get("prompt", "")
    if not isinstance(prompt, str):
        raise _bad("prompt must be a string")
    images = _urls(body, "image_urls", LINKS)
    videos = _urls(body, "video_urls", LINKS if spec.is_priced_per_clip else (*LINKS, "data:video/"))
    spec.check(body, len(images), len(videos))
    frames = _frames(body) if spec.accepts_frames else ()
    if not (prompt.strip() or images or videos or frames):
        raise _bad("prompt or a reference (image_urls, video_urls) is required")
    return SubmitBody(
        fields=body,
        spec=spec,
        prompt=prompt,
        images=(*frames, *images),
        videos=videos,
        portrait=(body.get("aspect_ratio") or body.get("size")) == "9:16",
        resolution=spec.resolution(body),
        parent_id=_text(body, "extend_from_task_id") if spec.can_extend else None,
        webhook=_text(body, "webhook"),
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise _bad("the request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise _bad("the request body must be a JSON object")
    return body


def _frames(body: dict[str, Any]) -> tuple[str, ...]:
    named = {name: [body[name]] for name in ("first_frame_image", "last_frame_image") if body.get(name)}
    roles = body.get("image_with_roles")
    urls = [each.get("url") for each in roles if isinstance(each, dict)] if isinstance(roles, list) else []
    named["image_with_roles"] = urls
    return tuple(url for name in named for url in _urls(named, name, LINKS))


def _urls(body: dict[str, Any], name: str, starts: tuple[str, ...]) -> tuple[str, ...]:
    urls = body.get(name, [])
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise _bad(f"{name} must be an array of strings")
    for url in urls[:MOST]:
        if not url.lower().startswith(starts):
            raise _bad(f"{name}: {url[:80]!r} must start with {' or '.join(starts)}")
    return tuple(urls)


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise _bad(f"{name} must be a string")
    return value


def _bad(message: str) -> ErrorReply:
    return error_reply(400, message)
